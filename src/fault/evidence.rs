//! What in a timeline shows that a change bit. Pure; empty while the proof is not complete.

use std::collections::BTreeMap;

use super::workload::owns;
use crate::model::{Change, Event, Fact, FaultKind, ObjectRef, Observation, PlannedChange, PodRef};

/// A new pod that is not ready for so long is not just starting: readiness of ours comes within a few seconds.
const STUCK_MS: u64 = 8000;

type Evidence = Vec<(u64, String)>;

/// `events` begin at the injection.
#[must_use]
pub fn evidence(kind: FaultKind, planned: &PlannedChange, events: &[Event]) -> Evidence {
    let reporter = planned.change.reporter();
    match &planned.change {
        Change::DeletePod { pod, .. } | Change::EvictPod { pod, .. } => gone(pod, events),
        Change::NodePower { node, .. } => first(events, |seen| match seen {
            Observation::Node { name, ready: false } if name == node => {
                Some(format!("node {name} is not Ready"))
            }
            _ => None,
        }),
        Change::Agent { pod, .. } => agent(kind, pod, &reporter, events),
        Change::Edit { object, .. } => edit(kind, object, &reporter, events),
        Change::Create { .. }
        | Change::Exec { .. }
        | Change::PauseControlPlane { .. }
        | Change::DestroyVolumes { .. } => said(&reporter, events),
    }
}

fn first(events: &[Event], see: impl Fn(&Observation) -> Option<String>) -> Evidence {
    let found = events.iter().find_map(|event| match &event.fact {
        Fact::Observed(seen) => see(seen).map(|text| (event.at_ms, text)),
        _ => None,
    });
    found.into_iter().collect()
}

fn gone(pod: &PodRef, events: &[Event]) -> Evidence {
    first(events, |seen| match seen {
        Observation::PodGone { name, uid, .. } if *uid == pod.uid => {
            Some(format!("pod {name} (uid {uid}) is gone"))
        }
        Observation::Pod { name, uid, namespace, .. }
            if *name == pod.name && *namespace == pod.namespace && *uid != pod.uid =>
        {
            Some(format!("pod {name} was replaced: uid {} → {uid}", pod.uid))
        }
        _ => None,
    })
}

/// The measured effect, in the words of an agent or of a look.
fn said(reporter: &str, events: &[Event]) -> Evidence {
    first(events, |seen| match seen {
        Observation::Agent { agent, text } if agent == reporter && text.starts_with("effect") => {
            Some(text.clone())
        }
        _ => None,
    })
}

fn restarted(pod: &PodRef, events: &[Event]) -> Evidence {
    first(events, |seen| match seen {
        Observation::Restarted { name, uid, container, restarts, .. } if *uid == pod.uid => {
            Some(format!("container {container} of {name} was started again ({restarts} restarts)"))
        }
        _ => None,
    })
}

fn agent(kind: FaultKind, pod: &PodRef, reporter: &str, events: &[Event]) -> Evidence {
    let said = said(reporter, events);
    match kind {
        // Both halves are needed: stopped processes that nobody misses prove nothing.
        FaultKind::ProcessPause => {
            let silent = first(events, |seen| match seen {
                Observation::Member { pod: name, answers: false, .. } if *name == pod.name => {
                    Some(format!("{name} does not answer"))
                }
                Observation::Pod { name, uid, ready: false, .. } if *uid == pod.uid => {
                    Some(format!("{name} is not ready"))
                }
                _ => None,
            });
            if said.is_empty() || silent.is_empty() { Vec::new() } else { [said, silent].concat() }
        }
        FaultKind::ContainerKill => restarted(pod, events),
        FaultKind::ProcessKill => {
            if said.is_empty() {
                restarted(pod, events)
            } else {
                said
            }
        }
        FaultKind::MemoryOom => {
            let killed = said.into_iter().filter(|(_, text)| text.contains("gone")).collect::<Vec<_>>();
            if killed.is_empty() { restarted(pod, events) } else { killed }
        }
        _ => said,
    }
}

fn edit(kind: FaultKind, object: &ObjectRef, reporter: &str, events: &[Event]) -> Evidence {
    let of_object = |pod: &str| owns(&object.kind, &object.name, pod);
    match kind {
        FaultKind::ScaleDown | FaultKind::RollingRestart => first(events, |seen| match seen {
            Observation::PodGone { name, .. } if of_object(name) => Some(format!("pod {name} is gone")),
            _ => None,
        }),
        FaultKind::ImageBroken | FaultKind::CrashLoop | FaultKind::ReadinessBroken => {
            stuck(&of_object, events)
        }
        FaultKind::LivenessBroken => first(events, |seen| match seen {
            Observation::Restarted { name, container, .. } if of_object(name) => {
                Some(format!("container {container} of {name} was started again"))
            }
            _ => None,
        }),
        FaultKind::NodeTaint => first(events, |seen| match seen {
            Observation::Pod { name, node: Some(node), terminating: true, .. } if *node == object.name => {
                Some(format!("pod {name} has to leave {node}"))
            }
            _ => None,
        }),
        FaultKind::EndpointsLost => first(events, |seen| match seen {
            Observation::Endpoints { service, pods } if *service == object.name && pods.is_empty() => {
                Some(format!("service {service} has nobody behind it"))
            }
            _ => None,
        }),
        _ => said(reporter, events),
    }
}

/// A pod that appeared after the injection and was not ready for [`STUCK_MS`], or for as long as it was there.
fn stuck(of_object: &dyn Fn(&str) -> bool, events: &[Event]) -> Evidence {
    let mut waiting: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for event in events {
        let late = waiting.iter().find(|(_, (since_ms, _))| event.at_ms >= since_ms + STUCK_MS);
        if let Some((_, (since_ms, name))) = late {
            let at_ms = since_ms + STUCK_MS;
            return vec![(at_ms, format!("pod {name} does not become ready"))];
        }
        let Fact::Observed(Observation::Pod { name, uid, ready, terminating, .. }) = &event.fact else {
            continue;
        };
        if !of_object(name) {
            continue;
        }
        if *ready || *terminating {
            waiting.remove(uid.as_str());
        } else {
            waiting.entry(uid).or_insert((event.at_ms, name));
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Target, Undo};

    fn seen(at_ms: u64, observation: Observation) -> Event {
        Event { at_ms, fact: Fact::Observed(observation) }
    }

    fn planned(change: Change) -> PlannedChange {
        let target =
            Target { object: String::new(), node: None, component: None, role: None, because: String::new() };
        PlannedChange { target, change, undo: Undo::AwaitReady { pod: pod_ref(), agent: None } }
    }

    fn pod_ref() -> PodRef {
        PodRef { namespace: "a".into(), name: "x-0".into(), uid: "u".into() }
    }

    fn pod(name: &str, uid: &str, ready: bool, terminating: bool) -> Observation {
        Observation::Pod {
            namespace: "a".into(),
            name: name.into(),
            uid: uid.into(),
            node: Some("n1".into()),
            component: None,
            ready,
            terminating,
        }
    }

    fn agent_says(agent: &str, text: &str) -> Observation {
        Observation::Agent { agent: agent.into(), text: text.into() }
    }

    fn with_agent() -> PlannedChange {
        planned(Change::Agent {
            pod: pod_ref(),
            container: "x".into(),
            agent: "mettle-1".into(),
            arguments: vec![],
            network: false,
            ttl_seconds: 1,
        })
    }

    fn edited(kind: &str, name: &str) -> PlannedChange {
        let object = ObjectRef::new("v1", kind, Some("a"), name);
        planned(Change::Edit { object, edits: vec![], look: None })
    }

    #[test]
    fn only_the_death_of_this_uid_is_evidence() {
        let kill = planned(Change::DeletePod { pod: pod_ref(), grace_seconds: 0 });
        let gone = |uid: &str| {
            seen(
                5,
                Observation::PodGone {
                    namespace: "a".into(),
                    name: "x-0".into(),
                    uid: uid.into(),
                    component: None,
                },
            )
        };
        let found = |events: &[Event]| evidence(FaultKind::PodKill, &kill, events).len();
        assert_eq!((found(&[]), found(&[gone("other")]), found(&[gone("u")])), (0, 0, 1));
        assert_eq!(found(&[seen(6, pod("x-0", "u2", false, false))]), 1);
    }

    #[test]
    fn only_this_node_not_ready_is_evidence() {
        let kill = planned(Change::NodePower { node: "n2".into(), how: crate::model::NodeHow::Off });
        let node = |name: &str, ready| seen(9, Observation::Node { name: name.into(), ready });
        assert!(evidence(FaultKind::NodeKill, &kill, &[node("n1", false), node("n2", true)]).is_empty());
        assert_eq!(evidence(FaultKind::NodeKill, &kill, &[node("n2", false)]).len(), 1);
    }

    #[test]
    fn a_pause_needs_the_agents_word_and_a_silent_server() {
        let said = seen(1, agent_says("mettle-1", "effect: 3 of 3 processes are in state T"));
        let silent = seen(2, pod("x-0", "u", false, false));
        let found = |events: &[Event]| evidence(FaultKind::ProcessPause, &with_agent(), events).len();
        assert_eq!(found(std::slice::from_ref(&said)), 0);
        assert_eq!(found(std::slice::from_ref(&silent)), 0);
        assert_eq!(found(&[said, silent]), 2);
    }

    #[test]
    fn what_an_agent_only_waits_for_is_no_evidence() {
        let found = |text: &str, agent: &str, kind| {
            evidence(kind, &with_agent(), &[seen(1, agent_says(agent, text))]).len()
        };
        assert_eq!(found("effect: 12 packets", "mettle-1", FaultKind::NetPartition), 1);
        assert_eq!(found("waiting: 0 packets", "mettle-1", FaultKind::NetPartition), 0);
        assert_eq!(found("effect: 12 packets", "mettle-2", FaultKind::NetPartition), 0);
        // The agent's word is not enough: the kubelet must have started it again.
        assert_eq!(found("effect: 2 processes are gone", "mettle-1", FaultKind::ContainerKill), 0);
        assert_eq!(found("effect: 300 MiB", "mettle-1", FaultKind::MemoryOom), 0);
        assert_eq!(found("effect: victim 7 is gone", "mettle-1", FaultKind::MemoryOom), 1);
    }

    #[test]
    fn a_pod_that_only_starts_is_not_stuck() {
        let broken = edited("Deployment", "web");
        let found = |events: &[Event]| evidence(FaultKind::ImageBroken, &broken, events);
        let new = |at_ms, ready| seen(at_ms, pod("web-5d8f-abcde", "new", ready, false));
        let beat = |at_ms| seen(at_ms, Observation::Heartbeat { probe: "api".into() });
        assert!(found(&[new(100, false), new(3000, true), beat(20_000)]).is_empty());
        assert!(found(&[new(100, false), beat(5000)]).is_empty());
        assert_eq!(found(&[new(100, false), beat(5000), beat(9000)])[0].0, 8100);
        let other = seen(100, pod("web-shield-5d8f-abcde", "new", false, false));
        assert!(found(&[other, beat(9000)]).is_empty());
    }

    #[test]
    fn a_service_is_lost_when_nobody_is_behind_it() {
        let lost = edited("Service", "web");
        let found = |service: &str, pods: &[&str]| {
            let pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
            let seen = seen(1, Observation::Endpoints { service: service.into(), pods });
            evidence(FaultKind::EndpointsLost, &lost, &[seen]).len()
        };
        assert_eq!((found("web", &["a"]), found("other", &[]), found("web", &[])), (0, 0, 1));
    }
}
