//! Whether the stack looks restored, from the events so far. Only decides how long the recovery window is
//! kept open; the judgement is the checks'.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{AlertState, Component, Event, Fact, Observation, Phase};

/// True when the last word of every probe is good, what the faults raised is over, and the load's last `stable_ms` were
/// clean.
#[must_use]
pub fn all_restored(events: &[Event], since_ms: u64, now_ms: u64, stable_ms: u64) -> bool {
    stack_restored(events) && nothing_is_left(events) && load_clean(events, since_ms, now_ms, stable_ms)
}

/// No alert that began after the faults did is still about, no caller leaves a host out, no autoscaler wants more than
/// it did before, and nothing is known to wait for the database's archive.
fn nothing_is_left(events: &[Event]) -> bool {
    let mut alerts = BTreeSet::new();
    let mut ejecting = BTreeSet::new();
    let mut scales: BTreeMap<Component, (u32, u32)> = BTreeMap::new();
    let mut archive_waits = false;
    let mut in_fault = false;
    for event in events {
        match &event.fact {
            Fact::PhaseStarted { phase: Phase::Fault } => in_fault = true,
            Fact::Observed(Observation::Alert { by, alert, labels, state }) => {
                let key = (*by, alert, labels);
                if *state == AlertState::Inactive {
                    alerts.remove(&key);
                } else if in_fault {
                    alerts.insert(key);
                }
            }
            Fact::Observed(Observation::Scale { component, desired, .. }) => {
                let scale = scales.entry(*component).or_insert((*desired, *desired));
                *scale = if in_fault { (scale.0, *desired) } else { (*desired, *desired) };
            }
            Fact::Observed(Observation::Archive { pod, first, .. }) => {
                archive_waits = pod.is_none() || first.is_some();
            }
            Fact::Observed(Observation::Breaker { component, caller, counts }) => {
                if counts.ejected > 0 {
                    ejecting.insert((*component, caller));
                } else {
                    ejecting.remove(&(*component, caller));
                }
            }
            _ => {}
        }
    }
    !archive_waits
        && alerts.is_empty()
        && ejecting.is_empty()
        && scales.values().all(|(before, now)| now <= before)
}

/// True when the member that takes writes last was seen to give its archive a file since the first injection, as the check
/// `archive-current` counts.
#[must_use]
pub fn archive_moved(events: &[Event]) -> bool {
    let (mut injected, mut moved) = (false, false);
    let mut before: Option<(&String, u64)> = None;
    for event in events {
        match &event.fact {
            Fact::FaultInjected { .. } => injected = true,
            Fact::Observed(Observation::Archive { pod: Some(pod), archived, .. }) => {
                let same = before.filter(|(last, _)| *last == pod);
                moved = injected && same.is_some_and(|(_, was)| moved || *archived > was);
                before = Some((pod, *archived));
            }
            _ => {}
        }
    }
    moved
}

/// True when the last word of every probe is good.
#[must_use]
pub fn stack_restored(events: &[Event]) -> bool {
    not_restored(events).is_empty()
}

/// What keeps the stack from being whole, one line each; empty when it is.
#[must_use]
pub fn not_restored(events: &[Event]) -> Vec<String> {
    let mut redundancy: BTreeMap<Component, (u32, u32)> = BTreeMap::new();
    let mut nodes: BTreeMap<&str, bool> = BTreeMap::new();
    for event in events {
        match &event.fact {
            Fact::Observed(Observation::Redundancy { component, have, want }) => {
                redundancy.insert(*component, (*have, *want));
            }
            Fact::Observed(Observation::Node { name, ready }) => {
                nodes.insert(name, *ready);
            }
            _ => {}
        }
    }
    if redundancy.is_empty() {
        return vec!["nobody counted any members".to_owned()];
    }
    let lacking = redundancy.iter().filter(|(_, (have, want))| have < want || *want == 0);
    let lacking =
        lacking.map(|(component, (have, want))| format!("{component} has {have} of {want} members"));
    let nodes =
        nodes.iter().filter(|(_, ready)| !**ready).map(|(name, _)| format!("node {name} is not Ready"));
    lacking.chain(nodes).collect()
}

/// Every second of the last `stable_ms` has requests, and at most 1 % of them failed.
fn load_clean(events: &[Event], since_ms: u64, now_ms: u64, stable_ms: u64) -> bool {
    let from = now_ms.saturating_sub(stable_ms + 1000).max(since_ms);
    let mut seconds = 0;
    for event in events.iter().rev() {
        let Fact::Load(second) = &event.fact else { continue };
        if second.at_ms < from {
            break;
        }
        let bad = second.failed + second.indeterminate;
        if second.ok == 0 || bad * 100 > second.ok + bad {
            return false;
        }
        seconds += 1;
    }
    seconds * 1000 >= stable_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BreakerCounts, LoadSecond, Target};

    fn load(at_ms: u64, ok: u64, failed: u64) -> Event {
        Event {
            at_ms: at_ms + 1000,
            fact: Fact::Load(LoadSecond { at_ms, ok, failed, ..LoadSecond::default() }),
        }
    }

    fn redundancy(have: u32) -> Event {
        let component = Component::Redis;
        Event { at_ms: 0, fact: Fact::Observed(Observation::Redundancy { component, have, want: 6 }) }
    }

    #[test]
    fn what_the_faults_raised_must_be_over() {
        let fault = Event { at_ms: 1, fact: Fact::PhaseStarted { phase: Phase::Fault } };
        let alert = |state| Event {
            at_ms: 2,
            fact: Fact::Observed(Observation::Alert {
                by: Component::Prometheus,
                alert: "A".into(),
                labels: BTreeMap::new(),
                state,
            }),
        };
        let ejected = |ejected| Event {
            at_ms: 2,
            fact: Fact::Observed(Observation::Breaker {
                component: Component::Inference,
                caller: "gateway-1".into(),
                counts: BreakerCounts { ejected, ..BreakerCounts::default() },
            }),
        };
        use AlertState::{Firing, Inactive};
        assert!(!nothing_is_left(&[fault.clone(), alert(Firing)]));
        assert!(nothing_is_left(&[fault.clone(), alert(Firing), alert(Inactive)]));
        assert!(nothing_is_left(&[alert(Firing), fault.clone()]), "the faults did not raise it");
        assert!(!nothing_is_left(&[ejected(1)]));
        assert!(nothing_is_left(&[ejected(1), ejected(0)]));
        let scale = |desired| Event {
            at_ms: 2,
            fact: Fact::Observed(Observation::Scale {
                component: Component::Edge,
                desired,
                ready: 2,
                minimum: 2,
                maximum: 4,
            }),
        };
        assert!(!nothing_is_left(&[scale(2), fault.clone(), scale(4)]));
        assert!(nothing_is_left(&[scale(2), scale(3), fault.clone(), scale(4), scale(3)]));
    }

    #[test]
    fn nothing_may_be_known_to_wait_for_the_archive() {
        let archive = |pod: Option<&str>, first: Option<&str>| Event {
            at_ms: 1,
            fact: Fact::Observed(Observation::Archive {
                component: Component::Postgres,
                pod: pod.map(str::to_owned),
                archived: 3,
                waiting: u64::from(first.is_some()),
                first: first.map(str::to_owned),
            }),
        };
        let (waits, done) = (archive(Some("p-0"), Some("3C")), archive(Some("p-0"), None));
        assert!(!nothing_is_left(&[done.clone(), waits.clone()]));
        assert!(!nothing_is_left(&[done.clone(), archive(None, None)]), "nobody says that it is over");
        assert!(nothing_is_left(&[waits, done]));
    }

    #[test]
    fn the_one_that_writes_must_have_given_something_to_its_archive() {
        let object = "pod/n/p-0".to_owned();
        let target = Target { object, node: None, component: None, role: None, because: String::new() };
        let injected = Fact::FaultInjected { fault: 0, kind: "pod-kill".into(), target };
        let fault = Event { at_ms: 1, fact: injected };
        let said = |pod: &str, archived| Event {
            at_ms: 1,
            fact: Fact::Observed(Observation::Archive {
                component: Component::Postgres,
                pod: Some(pod.to_owned()),
                archived,
                waiting: 0,
                first: None,
            }),
        };
        for (events, moved) in [
            (vec![said("p-0", 3), fault.clone(), said("p-0", 4)], true),
            (vec![said("p-0", 3), fault.clone(), said("p-0", 4), said("p-0", 4)], true),
            (vec![said("p-0", 3), said("p-0", 4), fault.clone()], false),
            (vec![said("p-0", 3), fault.clone(), said("p-1", 9)], false),
            (vec![said("p-0", 3), fault.clone(), said("p-0", 4), said("p-1", 9)], false),
            (vec![said("p-0", 3), fault.clone(), said("p-1", 9), said("p-1", 10)], true),
            (vec![said("p-0", 3), fault.clone(), said("p-0", 0)], false),
            (vec![fault], false),
        ] {
            assert_eq!(archive_moved(&events), moved, "{events:?}");
        }
    }

    #[test]
    fn both_the_cluster_and_the_load_must_be_good() {
        let clean: Vec<Event> = (0..6).map(|s| load(s * 1000, 50, 0)).collect();
        let with = |first: Event, rest: &[Event]| [vec![first], rest.to_vec()].concat();
        assert!(all_restored(&with(redundancy(6), &clean), 0, 6000, 5000));
        assert!(!all_restored(&with(redundancy(5), &clean), 0, 6000, 5000), "a member is missing");
        assert!(!all_restored(&clean, 0, 6000, 5000), "no probe said anything");
        assert!(!all_restored(&[redundancy(6)], 0, 6000, 5000), "no load");
        let mut failing = clean.clone();
        failing[4] = load(4000, 50, 2);
        assert!(!all_restored(&with(redundancy(6), &failing), 0, 6000, 5000), "errors");
        let mut idle = clean;
        idle[5] = load(5000, 0, 0);
        assert!(!all_restored(&with(redundancy(6), &idle), 0, 6000, 5000), "a second without requests");
    }
}
