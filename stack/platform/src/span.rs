//! Spans, reported to Zipkin. Never in a request's way: a bounded queue that drops when it is full.
//!
//! The context of the request in hand lives in a task-local, so that stores and clients need not be handed it. Work that
//! belongs to no request (relays, consumers, keepers) has none and reports none, unless it enters one.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::Endpoint;
use crate::http_client::Wire;
use crate::metrics::Metrics;
use crate::trace::TraceContext;

/// Spans that wait to be sent.
const QUEUE_MAX: usize = 4096;
const BATCH_MAX: usize = 500;
/// A batch waits so long for more spans.
const BATCH_FOR: Duration = Duration::from_secs(1);
const SEND_MAX: Duration = Duration::from_secs(2);

tokio::task_local! {
    static CURRENT: Current;
}

#[derive(Clone)]
struct Current {
    context: TraceContext,
    tracer: Arc<Tracer>,
}

/// Zipkin's word for the two sides of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Server,
    Client,
    Producer,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Producer => "PRODUCER",
        }
    }
}

/// The sending half.
pub struct Tracer {
    service: String,
    queue: Option<mpsc::Sender<Value>>,
    metrics: Arc<Metrics>,
}

/// The other half: run it with [`report`].
pub struct Reporter {
    queue: mpsc::Receiver<Value>,
    target: Endpoint,
    metrics: Arc<Metrics>,
}

impl Tracer {
    #[must_use]
    pub fn new(role: &str, target: Option<Endpoint>, metrics: Arc<Metrics>) -> (Arc<Self>, Option<Reporter>) {
        let service = format!("ai-platform-{role}");
        let Some(target) = target else {
            return (Arc::new(Self { service, queue: None, metrics }), None);
        };
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let reporter = Reporter { queue, target, metrics: Arc::clone(&metrics) };
        (Arc::new(Self { service, queue: Some(sender), metrics }), Some(reporter))
    }

    fn is_wanted(&self, context: &TraceContext) -> bool {
        context.sampled && self.queue.is_some()
    }

    fn offer(&self, span: Value) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(span).is_err() {
            self.metrics.links.spans.with_label_values(&["dropped"]).inc();
        }
    }
}

/// Runs `work` with this context as the current one.
pub async fn enter<F: Future>(tracer: &Arc<Tracer>, context: TraceContext, work: F) -> F::Output {
    CURRENT.scope(Current { context, tracer: Arc::clone(tracer) }, work).await
}

/// The context of the request in hand.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|current| current.context.clone()).ok()
}

/// Runs `work` as a client's span below the current one; `failed` looks at its result.
pub async fn client<T, E>(
    name: &str,
    remote: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    below(Kind::Client, name, remote, work).await
}

/// As [`client`]; while it runs, the new span is the current one, so that its headers can be passed on.
pub async fn below<T, E>(
    kind: Kind,
    name: &str,
    remote: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Ok(parent) = CURRENT.try_with(Clone::clone) else { return work.await };
    let context = parent.context.child();
    if !parent.tracer.is_wanted(&context) {
        return CURRENT.scope(Current { context, ..parent }, work).await;
    }
    let started = Started::now();
    let current = Current { context: context.clone(), tracer: Arc::clone(&parent.tracer) };
    let result = CURRENT.scope(current, work).await;
    let error = result.is_err().then_some("failed");
    let tags = json!({});
    parent.tracer.offer(span(
        &parent.tracer.service,
        kind,
        name,
        Some(remote),
        &context,
        &started,
        tags,
        error,
    ));
    result
}

/// The span of a request that we served.
pub fn served(tracer: &Tracer, context: &TraceContext, name: &str, started: &Started, code: u16) {
    if tracer.is_wanted(context) {
        let error = (code >= 500).then_some("server error");
        let tags = json!({ "http.status_code": code.to_string() });
        tracer.offer(span(&tracer.service, Kind::Server, name, None, context, started, tags, error));
    }
}

/// When a span began, on both clocks: the wall's for the place, the monotonic one for the length.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    wall_us: u64,
    at: std::time::Instant,
}

impl Started {
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX), at: std::time::Instant::now() }
    }
}

#[expect(clippy::too_many_arguments, reason = "one argument a field of the span")]
fn span(
    service: &str,
    kind: Kind,
    name: &str,
    remote: Option<&str>,
    context: &TraceContext,
    started: &Started,
    mut tags: Value,
    error: Option<&str>,
) -> Value {
    let duration_us = u64::try_from(started.at.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    if let Some(error) = error {
        tags["error"] = error.into();
    }
    let mut span = json!({
        "traceId": context.trace_id,
        "id": context.span_id,
        "kind": kind.label(),
        "name": name,
        "timestamp": started.wall_us,
        "duration": duration_us,
        "localEndpoint": { "serviceName": service },
        "tags": tags,
    });
    if let Some(parent_id) = &context.parent_id {
        span["parentId"] = parent_id.as_str().into();
    }
    if let Some(remote) = remote {
        span["remoteEndpoint"] = json!({ "serviceName": remote });
    }
    span
}

/// Sends batches until the tracer is gone. A batch that cannot be delivered is dropped: traces are for looking at, and
/// keeping them would cost memory just when something is wrong.
pub async fn report(mut reporter: Reporter) {
    let wire = Wire::new(SEND_MAX);
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = reporter.queue.recv().await {
        batch.push(first);
        let until = Instant::now() + BATCH_FOR;
        while batch.len() < BATCH_MAX {
            match timeout_at(until, reporter.queue.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = Value::Array(std::mem::take(&mut batch)).to_string();
        let headers = [(CONTENT_TYPE.as_str(), "application/json".to_owned())];
        let sent =
            wire.send(&reporter.target, hyper::Method::POST, "", &headers, body.into(), SEND_MAX).await;
        let result = match sent {
            Ok(reply) if (200..300).contains(&reply.status) => "sent",
            Ok(_) | Err(_) => "failed",
        };
        reporter.metrics.links.spans.with_label_values(&[result]).inc_by(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer() -> (Arc<Tracer>, Reporter) {
        let metrics = Arc::new(Metrics::new("auth").unwrap());
        let target = Endpoint { authority: "zipkin:9411".into(), path: "/api/v2/spans".into() };
        let (tracer, reporter) = Tracer::new("auth", Some(target), metrics);
        (tracer, reporter.unwrap())
    }

    fn sampled(flag: &str) -> TraceContext {
        TraceContext::resume(Some(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flag}")))
    }

    #[tokio::test]
    async fn a_client_span_hangs_below_the_request_s() {
        let (tracer, mut reporter) = tracer();
        let request = sampled("01");
        let inner = enter(&tracer, request.clone(), async {
            client("get", "redis", async { Ok::<_, ()>(current().unwrap()) }).await.unwrap()
        })
        .await;
        assert_eq!(inner.parent_id.as_ref(), Some(&request.span_id));
        let span = reporter.queue.try_recv().unwrap();
        assert_eq!((&span["id"], &span["parentId"]), (&json!(inner.span_id), &json!(request.span_id)));
        assert_eq!(
            (&span["kind"], &span["remoteEndpoint"]["serviceName"]),
            (&json!("CLIENT"), &json!("redis"))
        );
        assert_eq!(span["localEndpoint"]["serviceName"], "ai-platform-auth");
        served(&tracer, &request, "get /x", &Started::now(), 503);
        let span = reporter.queue.try_recv().unwrap();
        assert_eq!((&span["kind"], &span["tags"]["http.status_code"]), (&json!("SERVER"), &json!("503")));
        assert!(span["tags"]["error"].is_string());
    }

    #[tokio::test]
    async fn an_unsampled_trace_and_work_of_no_request_report_nothing() {
        let (tracer, mut reporter) = tracer();
        enter(&tracer, sampled("00"), async { client("get", "redis", async { Err::<(), _>(()) }).await })
            .await
            .unwrap_err();
        client("get", "redis", async { Ok::<_, ()>(()) }).await.unwrap();
        assert!(current().is_none() && reporter.queue.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let (tracer, _reporter) = tracer();
        for _ in 0..QUEUE_MAX + 3 {
            served(&tracer, &sampled("01"), "get /", &Started::now(), 200);
        }
        assert_eq!(tracer.metrics.links.spans.with_label_values(&["dropped"]).get(), 3);
    }
}
