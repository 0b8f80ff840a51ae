//! When the services pointed only to members that serve.

use std::collections::BTreeMap;

use crate::model::{Observation, Timeline};

use super::hit::Hit;
use super::pods::alive_again_ms;
use super::recovery::Stage;

/// Definition: of every service that had a hit pod behind it at injection, the last moment at which its
/// endpoints became good and stayed so: at least one pod, and none that was hit and does not serve again.
/// Of several services the latest counts; one that never became good leaves the phase unseen.
pub(super) fn route(timeline: &Timeline, hit: &Hit) -> Stage {
    let mut stage = Stage::NotApplicable;
    for (service, pods) in behind_services(timeline, hit.injection_ms) {
        if pods.iter().any(|pod| hit.pod_named(pod).is_some()) {
            stage = stage.and(good_since(timeline, hit, &service, &pods));
        }
    }
    stage
}

/// Service → pods behind it at injection.
fn behind_services(timeline: &Timeline, before_ms: u64) -> BTreeMap<String, Vec<String>> {
    let mut services = BTreeMap::new();
    for (_, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < before_ms) {
        if let Observation::Endpoints { service, pods } = observation {
            services.insert(service.clone(), pods.clone());
        }
    }
    services
}

fn good_since(timeline: &Timeline, hit: &Hit, service: &str, at_injection: &[String]) -> Stage {
    // Every moment at which the answer can change: the endpoints do, or a hit pod serves again.
    let mut changes: BTreeMap<u64, Option<Vec<String>>> = BTreeMap::new();
    let mut alive = BTreeMap::new();
    for pod in &hit.pods {
        if let Some(at_ms) = alive_again_ms(timeline, pod) {
            alive.insert(pod.name.1.clone(), at_ms);
            changes.entry(at_ms).or_insert(None);
        }
    }
    for (at_ms, observation) in timeline.observations(hit.injection_ms) {
        if let Observation::Endpoints { service: of, pods } = observation
            && of == service
        {
            changes.insert(at_ms, Some(pods.clone()));
        }
    }
    let mut behind = at_injection.to_vec();
    let mut since_ms = None;
    for (at_ms, pods) in changes {
        behind = pods.unwrap_or(behind);
        let dead = |pod: &String| {
            hit.pod_named(pod).is_some_and(|hit| {
                hit.injected_ms <= at_ms && alive.get(pod).is_none_or(|alive_ms| *alive_ms > at_ms)
            })
        };
        let good = !behind.is_empty() && !behind.iter().any(dead);
        since_ms = if good { since_ms.or(Some(at_ms)) } else { None };
    }
    match since_ms {
        Some(at_ms) => Stage::At(at_ms.saturating_sub(hit.injection_ms)),
        None => Stage::NotSeen,
    }
}
