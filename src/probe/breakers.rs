//! Reads what the proxies of a component's callers count of their calls, and the mesh's rule for them. The proxies give
//! their statistics over HTTP: nothing is run in their pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::every::every;
use super::exposition::{label, sample};
use crate::cluster::{Dialer, PodAddress, PodCache, http_get};
use crate::model::{BreakerCounts, BreakerRule, Component, Observation, PodInfo};

const EVERY: Duration = Duration::from_secs(1);
const RULES_EVERY: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(2);
/// The mesh's label of a pod that takes part in it.
const IN_MESH: &str = "security.istio.io/tlsMode";
/// Where every proxy gives its statistics.
const PORT: u16 = 15090;
const CALLERS_MAX: usize = 8;
const RULES_MAX: u32 = 500;

/// Runs until `end`.
pub async fn observe_breakers<S: Sink>(
    component: Component,
    client: Client,
    namespace: String,
    cache: PodCache,
    dialer: Dialer,
    sink: S,
    end: CancellationToken,
) {
    let told = Mutex::new(Told { component, counts: BTreeMap::new(), rule: None });
    let told = || told.lock().unwrap_or_else(PoisonError::into_inner);
    let callers = every(EVERY, &end, |_| async {
        let Some(pods) = cache.pods() else { return };
        let callers = callers(&pods, component);
        let answers = callers.iter().map(|pod| counts(&dialer, pod, component));
        let answers = futures::future::join_all(answers).await;
        let seen: BTreeMap<String, BreakerCounts> = callers
            .iter()
            .zip(answers)
            .filter_map(|(pod, counts)| Some((pod.name.clone(), counts?)))
            .collect();
        let there: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        if told().tell(&seen, &there, &sink) {
            sink.observe(Observation::Heartbeat { probe: format!("breaker {component}") });
        }
    });
    let rules = every(RULES_EVERY, &end, |_| async {
        if let Some(rule) = rule(&client, &namespace, component).await {
            told().tell_rule(rule, &sink);
        }
    });
    tokio::join!(callers, rules);
}

/// Pods with a proxy that may call the component.
fn callers(pods: &[PodInfo], component: Component) -> Vec<PodAddress> {
    let calls = |pod: &&PodInfo| {
        let proxy = pod.component == Some(Component::Gateway) || pod.labels.contains_key(IN_MESH);
        proxy && pod.component != Some(component) && pod.ip.is_some() && !pod.terminating
    };
    pods.iter().filter(calls).take(CALLERS_MAX).map(PodAddress::from).collect()
}

async fn counts(dialer: &Dialer, pod: &PodAddress, component: Component) -> Option<BreakerCounts> {
    let path = format!("/stats/prometheus?filter=outbound.*{component}");
    let (status, body) = http_get(dialer, pod, PORT, &path, DEADLINE).await.ok()?;
    (status == 200).then(|| parse(&String::from_utf8_lossy(&body), component)).flatten()
}

/// Sums over the proxy's clusters of the component's service; absent when it has none, so that nothing is taken for 0
/// that was not said.
fn parse(text: &str, component: Component) -> Option<BreakerCounts> {
    let mut counts = BreakerCounts::default();
    let mut requests = false;
    for line in text.lines().filter(|line| line.starts_with("envoy_cluster_")) {
        let Some((name, labels, value)) = sample(line) else { continue };
        if !label(labels, "cluster_name").is_some_and(|cluster| is_call_of(cluster, component)) {
            continue;
        }
        match name.trim_start_matches("envoy_cluster_") {
            "outlier_detection_ejections_active" => counts.ejected += value,
            "outlier_detection_ejections_enforced_total" => counts.ejections += value,
            "upstream_rq_pending_overflow" | "upstream_cx_overflow" => counts.overflows += value,
            "upstream_rq_retry" => counts.retries += value,
            "upstream_rq_total" => {
                counts.requests += value;
                requests = true;
            }
            "upstream_rq_active" => counts.active += value,
            "membership_total" => counts.hosts += value,
            "upstream_rq_5xx" => counts.errors += value,
            // The class of the status is a label, written in one of two ways.
            "upstream_rq" | "upstream_rq_xx" => {
                let class = ["response_code_class", "envoy_response_code_class"];
                let class = class.iter().find_map(|name| label(labels, name));
                counts.errors += if matches!(class, Some("5xx" | "5")) { value } else { 0 };
            }
            _ => {}
        }
    }
    requests.then_some(counts)
}

/// `outbound|80|subset|host`: a call of the component's service.
fn is_call_of(cluster: &str, component: Component) -> bool {
    let mut parts = cluster.trim_end_matches(';').split('|');
    parts.next() == Some("outbound") && parts.nth(2).is_some_and(|host| component.is_host(host))
}

async fn rule(client: &Client, namespace: &str, component: Component) -> Option<BreakerRule> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let list = tokio::time::timeout(DEADLINE, api.list(&ListParams::default().limit(RULES_MAX))).await;
    let rules = list.ok()?.ok()?;
    let of_component = rules
        .items
        .iter()
        .find(|item| item.data["spec"]["host"].as_str().is_some_and(|host| component.is_host(host)));
    Some(rule_of(&of_component?.data["spec"]["trafficPolicy"]))
}

/// Absent fields mean what the mesh takes them for.
fn rule_of(policy: &Value) -> BreakerRule {
    let outlier = &policy["outlierDetection"];
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let pool = &policy["connectionPool"];
    let errors = if outlier.is_object() { number(&outlier["consecutive5xxErrors"]).unwrap_or(5) } else { 0 };
    let ms = |field: &str, default: u64| outlier[field].as_str().and_then(duration_ms).unwrap_or(default);
    BreakerRule {
        errors_in_a_row: errors,
        interval_ms: ms("interval", 10_000),
        ejection_ms: ms("baseEjectionTime", 30_000),
        ejection_percent_max: number(&outlier["maxEjectionPercent"]).unwrap_or(10),
        connections_max: number(&pool["tcp"]["maxConnections"]),
        pending_max: number(&pool["http"]["http1MaxPendingRequests"]),
    }
}

/// `1s`, `500ms`, `1m30s`.
fn duration_ms(text: &str) -> Option<u64> {
    let mut total_ms = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total_ms += number
            * match &rest[digits..unit_end] {
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (total_ms > 0.0 && total_ms < 1e12).then_some(total_ms as u64)
}

/// What was said last, so that only changes are said.
struct Told {
    component: Component,
    counts: BTreeMap<String, BreakerCounts>,
    rule: Option<BreakerRule>,
}

impl Told {
    /// Whether anybody was read at all.
    fn tell<S: Sink>(
        &mut self,
        seen: &BTreeMap<String, BreakerCounts>,
        there: &BTreeSet<&str>,
        sink: &S,
    ) -> bool {
        let mut changes: Vec<(String, BreakerCounts)> =
            seen.iter().map(|(caller, counts)| (caller.clone(), *counts)).collect();
        // A proxy that is gone leaves nobody out any more.
        let gone = self.counts.iter().filter(|(caller, _)| !there.contains(caller.as_str()));
        changes.extend(
            gone.map(|(caller, counts)| (caller.clone(), BreakerCounts { ejected: 0, active: 0, ..*counts })),
        );
        for (caller, counts) in changes {
            if self.counts.insert(caller.clone(), counts) != Some(counts) {
                sink.observe(Observation::Breaker { component: self.component, caller, counts });
            }
        }
        !seen.is_empty()
    }

    fn tell_rule<S: Sink>(&mut self, rule: BreakerRule, sink: &S) {
        if self.rule.replace(rule) != Some(rule) {
            sink.observe(Observation::BreakerRule { component: self.component, rule });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::probe::testing::Seen;

    const STATS: &str = r#"
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 40
envoy_cluster_upstream_rq{response_code_class="5xx",cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 7
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 33
envoy_cluster_upstream_rq{response_code="503",cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 7
envoy_cluster_upstream_rq_pending_overflow{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 2
envoy_cluster_upstream_cx_overflow{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 1
envoy_cluster_upstream_rq_retry{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 4
envoy_cluster_upstream_rq_active{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 3
envoy_cluster_membership_total{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 2
envoy_cluster_outlier_detection_ejections_active{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 1
envoy_cluster_outlier_detection_ejections_enforced_total{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local"} 6
envoy_cluster_upstream_rq_total{cluster_name="outbound|80||ai-platform-decision.ai-platform.svc.cluster.local"} 900
envoy_cluster_upstream_rq_total{cluster_name="inbound|8080||"} 800
envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||ai-platform-inference.ai-platform.svc.cluster.local",le="0.5"} 3
"#;

    #[test]
    fn the_counters_of_one_service_are_read() {
        let counts = parse(STATS, Component::Inference).unwrap();
        let expected = BreakerCounts {
            ejected: 1,
            ejections: 6,
            overflows: 3,
            retries: 4,
            errors: 7,
            requests: 40,
            active: 3,
            hosts: 2,
        };
        assert_eq!(counts, expected);
        assert_eq!(parse(STATS, Component::Decision).unwrap().requests, 900);
        assert_eq!(parse(STATS, Component::Auth), None, "what is not said is not 0");
        assert_eq!(parse("", Component::Inference), None);
    }

    #[test]
    fn a_rule_and_what_it_leaves_out() {
        let rule = rule_of(&json!({
            "connectionPool": { "tcp": { "maxConnections": 1 }, "http": { "http1MaxPendingRequests": 2 } },
            "outlierDetection": { "consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "1m30s",
                "maxEjectionPercent": 100 } }));
        assert_eq!((rule.errors_in_a_row, rule.interval_ms, rule.ejection_ms), (3, 1_000, 90_000));
        assert_eq!(
            (rule.ejection_percent_max, rule.connections_max, rule.pending_max),
            (100, Some(1), Some(2))
        );
        let bare = rule_of(&json!({ "outlierDetection": {} }));
        assert_eq!((bare.errors_in_a_row, bare.ejection_percent_max, bare.interval_ms), (5, 10, 10_000));
        assert_eq!(rule_of(&Value::Null).errors_in_a_row, 0, "never");
        for (text, ms) in
            [("500ms", Some(500)), ("", None), ("5", None), ("s", None), ("1x", None), ("0s", None)]
        {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn only_changes_are_told_and_a_proxy_that_is_gone_leaves_nobody_out() {
        let (seen, counts) =
            (Seen::default(), BreakerCounts { ejected: 1, requests: 9, ..BreakerCounts::default() });
        let mut told = Told { component: Component::Inference, counts: BTreeMap::new(), rule: None };
        let now = BTreeMap::from([("gateway-1".to_owned(), counts)]);
        let there = BTreeSet::from(["gateway-1"]);
        assert!(told.tell(&now, &there, &seen) && told.tell(&now, &there, &seen));
        assert_eq!(seen.take().len(), 1);
        // It does not answer: nothing is known, and nothing is said.
        assert!(!told.tell(&BTreeMap::new(), &there, &seen));
        assert_eq!(seen.take().len(), 0);
        told.tell(&BTreeMap::new(), &BTreeSet::new(), &seen);
        assert!(matches!(
            seen.take()[..],
            [Observation::Breaker { counts: BreakerCounts { ejected: 0, requests: 9, .. }, .. }]
        ));
    }

    proptest! {
        #[test]
        fn any_statistics_are_answered(text in "[a-z_{}=\"|,. 0-9\\n-]{0,300}") {
            let _ = parse(&text, Component::Inference);
            let _ = parse(&format!("envoy_cluster_{text}"), Component::Inference);
            let _ = duration_ms(&text);
        }
    }
}
