//! When a hit pod was noticed to be away, and when it or its successor served again.

use std::collections::BTreeSet;

use crate::model::{Component, Observation, Timeline};

use super::hit::{Hit, HitPod};

/// When this very pod's *name* served again: the first observation after its injection that shows it Ready
/// and not terminating, under another uid than before, or under the same one after it had been seen not
/// Ready. A pod that was only paused serves again when it is released, if that comes first.
pub(super) fn alive_again_ms(timeline: &Timeline, pod: &HitPod) -> Option<u64> {
    let mut seen_away = false;
    let mut again_ms = None;
    for (at_ms, observation) in timeline.observations(pod.injected_ms) {
        match observation {
            Observation::Pod { namespace, name, uid, ready, terminating, .. }
                if (namespace, name) == (&pod.name.0, &pod.name.1) =>
            {
                let serves = *ready && !*terminating;
                let another = pod.uid.as_ref().is_some_and(|before| before != uid);
                if serves && (another || seen_away) {
                    again_ms = Some(at_ms);
                    break;
                }
                seen_away |= !serves;
            }
            Observation::PodGone { namespace, name, .. }
                if (namespace, name) == (&pod.name.0, &pod.name.1) =>
            {
                seen_away = true;
            }
            _ => {}
        }
    }
    match (again_ms, pod.released_ms) {
        (Some(again), Some(released)) => Some(again.min(released)),
        (again, released) => again.or(released),
    }
}

/// When every hit pod of a component had a successor: itself again, or, where names change with every
/// replacement, another pod of the component that became Ready after the injection under a uid that was
/// not there before, one for each. `None` when none was hit or one has no successor. Pauses leave the pod
/// in place, so pods say nothing about them.
pub(super) fn replaced_ms(timeline: &Timeline, hit: &Hit, component: Component) -> Option<u64> {
    let pods: Vec<&HitPod> = hit.pods.iter().filter(|pod| pod.component == Some(component)).collect();
    let known = uids_before(timeline, hit.injection_ms);
    let mut fresh = fresh_pods(timeline, hit.injection_ms, component, &known);
    let mut latest_ms = None;
    for pod in &pods {
        pod.uid.as_ref()?;
        let (at_ms, uid) = fresh.iter().filter(|(at_ms, _)| *at_ms >= pod.injected_ms).min().cloned()?;
        fresh.retain(|(_, other)| *other != uid);
        latest_ms = latest_ms.max(Some(at_ms));
    }
    latest_ms
}

fn uids_before(timeline: &Timeline, before_ms: u64) -> BTreeSet<&String> {
    let earlier = timeline.observations(0).filter(|(at_ms, _)| *at_ms < before_ms);
    earlier
        .filter_map(|(_, observation)| match observation {
            Observation::Pod { uid, .. } => Some(uid),
            _ => None,
        })
        .collect()
}

/// The first time each new pod of the component was Ready.
fn fresh_pods(
    timeline: &Timeline,
    from_ms: u64,
    of: Component,
    known: &BTreeSet<&String>,
) -> BTreeSet<(u64, String)> {
    let mut seen = BTreeSet::new();
    let mut fresh = BTreeSet::new();
    for (at_ms, observation) in timeline.observations(from_ms) {
        if let Observation::Pod { uid, component, ready: true, terminating: false, .. } = observation
            && *component == Some(of)
            && !known.contains(uid)
            && seen.insert(uid)
        {
            fresh.insert((at_ms, uid.clone()));
        }
    }
    fresh
}
