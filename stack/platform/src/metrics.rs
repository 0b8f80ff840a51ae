//! Counters and gauges in the Prometheus text format.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// From half a millisecond to ten seconds: the range between a cache hit and a client's patience.
const DURATION_BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What concerns other services and the queues.
#[derive(Debug)]
pub struct LinkMetrics {
    pub circuit_open: IntGaugeVec,
    pub calls: IntCounterVec,
    pub call_retries: IntCounterVec,
    pub publishes: IntCounterVec,
    pub republished: IntCounter,
    pub outbox_backlog: IntGaugeVec,
    pub outbox_sent: IntCounterVec,
    pub outbox_failures: IntCounterVec,
    pub consumer_lag: IntGaugeVec,
    pub consumer_records: IntCounterVec,
    pub features: IntGauge,
    pub spans: IntCounterVec,
    pub logins: IntCounterVec,
    pub decisions: IntCounterVec,
}

impl LinkMetrics {
    fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let gauge =
            |name, help, labels: &[&str]| register(r, IntGaugeVec::new(Opts::new(name, help), labels)?);
        Ok(Self {
            circuit_open: gauge("platform_circuit_open", "1 while the circuit is open", &["dependency"])?,
            calls: counters(
                r,
                "platform_calls_total",
                "Calls of other services, each attempt",
                &["dependency", "result"],
            )?,
            call_retries: counters(
                r,
                "platform_call_retries_total",
                "Calls made once more within the budget",
                &["dependency"],
            )?,
            publishes: counters(r, "platform_publishes_total", "Messages to RabbitMQ", &["result"])?,
            republished: register(
                r,
                IntCounter::new("platform_republished_total", "Jobs sent again without a confirmation")?,
            )?,
            outbox_backlog: gauge("platform_outbox_backlog", "Events not yet in Kafka", &["topic"])?,
            outbox_sent: counters(
                r,
                "platform_outbox_sent_total",
                "Events acknowledged by Kafka",
                &["topic"],
            )?,
            outbox_failures: counters(r, "platform_outbox_failures_total", "Failed passes", &["topic"])?,
            consumer_lag: gauge(
                "platform_consumer_lag",
                "Records between what was read and the end of the partition",
                &["topic", "partition"],
            )?,
            consumer_records: counters(r, "platform_consumer_records_total", "Records read", &["topic"])?,
            features: register(r, IntGauge::new("platform_features", "Models whose features are known")?)?,
            spans: counters(r, "platform_spans_total", "Spans by what became of them", &["result"])?,
            logins: counters(r, "platform_logins_total", "Log-ins", &["result"])?,
            decisions: counters(
                r,
                "platform_decisions_total",
                "Decisions by what they stand on",
                &["basis"],
            )?,
        })
    }
}

/// All metrics of a process. Label values come from closed sets, so the number of series is bounded.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    role: &'static str,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    pub in_flight: IntGauge,
    pub shed: IntCounter,
    pub cache_hits: IntCounterVec,
    pub degraded: IntCounterVec,
    pub indeterminate: IntCounterVec,
    pub db_readonly: IntCounter,
    pub db_errors: IntCounterVec,
    pub db_pool_size: IntGaugeVec,
    pub db_pool_available: IntGaugeVec,
    pub db_pool_waiting: IntGaugeVec,
    pub redis_errors: IntCounterVec,
    pub redis_circuits_open: IntGauge,
    pub redis_reconnects: IntCounter,
    pub links: LinkMetrics,
}

impl Metrics {
    /// # Errors
    /// Only when two metrics share a name: a bug that any test of this crate shows.
    pub fn new(role: &'static str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let duration = HistogramOpts::new(
            "http_request_duration_seconds",
            "Time from the request's headers to the response's headers",
        )
        .buckets(DURATION_BUCKETS_S.to_vec());
        Ok(Self {
            http_requests: counters(
                r,
                "http_requests_total",
                "Requests answered",
                &["role", "route", "method", "code"],
            )?,
            http_duration: register(r, HistogramVec::new(duration, &["role", "route", "method"])?)?,
            in_flight: register(r, IntGauge::new("platform_in_flight", "API requests being served")?)?,
            shed: register(
                r,
                IntCounter::new("platform_shed_total", "Requests refused at the in-flight limit")?,
            )?,
            cache_hits: counters(
                r,
                "platform_cache_hits_total",
                "Model reads by the level that answered",
                &["level"],
            )?,
            degraded: counters(
                r,
                "platform_degraded_total",
                "Requests served without a dependency",
                &["dependency"],
            )?,
            indeterminate: counters(
                r,
                "platform_indeterminate_total",
                "Writes whose outcome is unknown",
                &["dependency"],
            )?,
            db_readonly: register(
                r,
                IntCounter::new("platform_db_readonly_total", "Writes refused with SQLSTATE 25006")?,
            )?,
            db_errors: counters(r, "platform_db_errors_total", "Failed database steps", &["pool", "kind"])?,
            db_pool_size: gauges(r, "platform_db_pool_size", "Connections held")?,
            db_pool_available: gauges(r, "platform_db_pool_available", "Connections idle")?,
            db_pool_waiting: gauges(r, "platform_db_pool_waiting", "Requests waiting for a connection")?,
            redis_errors: counters(r, "platform_redis_errors_total", "Failed Redis commands", &["kind"])?,
            redis_circuits_open: register(
                r,
                IntGauge::new(
                    "platform_redis_circuit_open",
                    "Open circuits, of 16 (one a range of 1024 slots)",
                )?,
            )?,
            redis_reconnects: register(
                r,
                IntCounter::new(
                    "platform_redis_reconnects_total",
                    "Times the cluster was joined anew from its seeds",
                )?,
            )?,
            links: LinkMetrics::new(r)?,
            registry,
            role,
        })
    }

    pub fn record_request(&self, route: &str, method: &str, code: u16, seconds: f64) {
        self.http_requests.with_label_values(&[self.role, route, method, &code.to_string()]).inc();
        self.http_duration.with_label_values(&[self.role, route, method]).observe(seconds);
    }

    /// The text that a scrape gets.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), &["pool"])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_requests_are_rendered() {
        let metrics = Metrics::new("backend").unwrap();
        metrics.record_request("/api/v1/models/{id}", "GET", 200, 0.002);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let line =
            r#"http_requests_total{code="200",method="GET",role="backend",route="/api/v1/models/{id}"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("http_request_duration_seconds_bucket"));
    }
}
