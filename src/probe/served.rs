//! Reads how often a component's own pods were asked, where its callers have no proxy to count for them: the origin of the
//! page and the shield before it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Sink;
use super::every::every;
use super::exposition::{label, sample};
use crate::cluster::{Dialer, PodAddress, PodCache, http_get};
use crate::model::{Component, Observation, PodInfo};

/// The shield's exporter reads shared memory by a program that it starts: not more often.
const EVERY: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(2);
const PATH: &str = "/metrics";
/// What probes and Prometheus ask the origin.
const OWN_ROUTES: [&str; 3] = ["/livez", "/readyz", PATH];

/// Runs until `end`. It beats only when every pod that serves was read: one that is left out would make the share smaller.
pub async fn observe_served<S: Sink>(
    component: Component,
    cache: PodCache,
    dialer: Dialer,
    sink: S,
    end: CancellationToken,
) {
    let told: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    every(EVERY, &end, |_| async {
        let Some(pods) = cache.pods() else { return };
        let pods = serving(&pods, component);
        let counts = futures::future::join_all(pods.iter().map(|pod| count(&dialer, pod, component))).await;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        for (pod, requests) in pods.iter().zip(&counts) {
            let Some(requests) = *requests else { continue };
            if told.insert(pod.name.clone(), requests) != Some(requests) {
                sink.observe(Observation::Served { component, pod: pod.name.clone(), requests });
            }
        }
        if !counts.is_empty() && counts.iter().all(Option::is_some) {
            sink.observe(Observation::Heartbeat { probe: format!("served {component}") });
        }
    })
    .await;
}

fn serving(pods: &[PodInfo], component: Component) -> Vec<PodAddress> {
    let serves = |pod: &&PodInfo| {
        pod.component == Some(component) && pod.ready && !pod.terminating && pod.ip.is_some()
    };
    pods.iter().filter(serves).map(PodAddress::from).collect()
}

async fn count(dialer: &Dialer, pod: &PodAddress, component: Component) -> Option<u64> {
    let port = if component == Component::EdgeShield { 9131 } else { 8080 };
    let (status, body) = http_get(dialer, pod, port, PATH, DEADLINE).await.ok()?;
    (status == 200).then(|| requests(&String::from_utf8_lossy(&body), component)).flatten()
}

/// Absent when the counter is not there, so that nothing is taken for 0 that was not said. The origin has one for each route
/// that was ever asked: its probes' at least.
fn requests(text: &str, component: Component) -> Option<u64> {
    let counts = text.lines().filter_map(|line| {
        let (name, labels, value) = sample(line)?;
        match component {
            // A hit or a miss: what it answers by itself, to probes, is neither.
            Component::EdgeShield => {
                matches!(name, "varnish_main_cache_hit" | "varnish_main_cache_miss").then_some(value)
            }
            _ if name != "http_requests_total" => None,
            _ if label(labels, "route").is_some_and(|route| OWN_ROUTES.contains(&route)) => Some(0),
            _ => Some(value),
        }
    });
    counts.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_no_requests_and_silence_is_no_zero() {
        let origin = "http_requests_total{code=\"200\",route=\"/livez\"} 308\n\
                      http_requests_total{code=\"200\",route=\"/\"} 7\n\
                      http_requests_total{code=\"304\",route=\"/assets/{name}\"} 2\nother_total 9\n";
        let shield = "# TYPE varnish_main_cache_hit counter\nvarnish_main_cache_hit 40\nvarnish_main_cache_hit_grace 3\n\
                      varnish_main_cache_miss 2\nvarnish_main_client_req 643\n";
        let cases = [
            (Component::Frontend, origin, Some(9)),
            (Component::Frontend, "http_requests_total{route=\"/readyz\"} 5", Some(0)),
            (Component::Frontend, "other_total 5", None),
            (Component::EdgeShield, shield, Some(42)),
            (Component::EdgeShield, "", None),
        ];
        for (component, text, wanted) in cases {
            assert_eq!(requests(text, component), wanted, "{component} {text}");
        }
    }
}
