//! What the faults of a timeline hit: pods, nodes, components, leaders; as it was at injection.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Component, FaultKind, FaultRecord, Observation, Role, Target, Timeline};

/// Namespace and name.
pub(super) type PodName = (String, String);

/// A pod that a fault hit, itself or with its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HitPod {
    pub name: PodName,
    /// Its uid before the fault; absent when it was never observed before.
    pub uid: Option<String>,
    pub component: Option<Component>,
    pub injected_ms: u64,
    /// For faults that leave the pod in place (a pause): when it was reverted. Until then it is as good as dead.
    pub released_ms: Option<u64>,
}

/// A leadership that a hit pod held at injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HitLeader {
    pub component: Component,
    pub scope: String,
    pub leader: String,
    pub epoch: Option<u64>,
    pub injected_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hit {
    /// Of the first fault.
    pub injection_ms: u64,
    pub pods: Vec<HitPod>,
    pub nodes: BTreeSet<String>,
    pub components: BTreeSet<Component>,
    pub leaders: Vec<HitLeader>,
    /// A target was a primary, but no observed leadership was that target's: an election cannot be followed.
    pub leader_unknown: bool,
}

impl Hit {
    /// `None` when no fault was injected.
    pub fn of(timeline: &Timeline) -> Option<Self> {
        Self::of_faults(timeline, timeline.faults.iter())
    }

    /// Of some of the faults; `None` when there are none.
    pub fn of_faults<'a>(
        timeline: &Timeline,
        faults: impl Iterator<Item = &'a FaultRecord> + Clone,
    ) -> Option<Self> {
        let injection_ms = faults.clone().map(|fault| fault.injected_ms).min()?;
        let mut hit = Self { injection_ms, ..Self::default() };
        for fault in faults {
            for target in &fault.targets {
                hit.add(timeline, fault, target);
            }
        }
        Some(hit)
    }

    fn add(&mut self, timeline: &Timeline, fault: &FaultRecord, target: &Target) {
        let before = pods_before(timeline, fault.injected_ms);
        let mut parts = target.object.splitn(3, '/');
        let names: Vec<PodName> = match (parts.next(), parts.next(), parts.next()) {
            (Some("pod"), Some(namespace), Some(name)) => vec![(namespace.to_owned(), name.to_owned())],
            (Some("node"), Some(node), None) => {
                self.nodes.insert(node.to_owned());
                let on_node = before.iter().filter(|(_, pod)| pod.node.as_deref() == Some(node));
                on_node.map(|(name, _)| name.clone()).collect()
            }
            // A workload, a service, a route: whatever of the component was there.
            _ => {
                let of_component = before
                    .iter()
                    .filter(|(_, pod)| target.component.is_some() && pod.component == target.component);
                of_component.map(|(name, _)| name.clone()).collect()
            }
        };
        self.components.extend(target.component);
        for name in &names {
            let seen = before.get(name);
            let component = seen.and_then(|pod| pod.component);
            let component = component.or(target.component.filter(|_| self.nodes.is_empty()));
            self.components.extend(component);
            if self.pods.iter().any(|pod| &pod.name == name) {
                continue;
            }
            self.pods.push(HitPod {
                name: name.clone(),
                uid: seen.map(|pod| pod.uid.clone()),
                component,
                injected_ms: fault.injected_ms,
                released_ms: fault.reverted_ms.filter(|_| !replaces(fault.kind)),
            });
        }
        let leaders = leaders_before(timeline, fault.injected_ms);
        let held = leaders.into_iter().filter(|held| names.iter().any(|(_, name)| *name == held.leader));
        let held: Vec<HitLeader> = held.collect();
        let followed = held.iter().any(|held| target.component.is_none_or(|c| c == held.component));
        self.leader_unknown |= target.role == Some(Role::Primary) && !followed;
        for leader in held {
            if !self.leaders.iter().any(|l| (l.component, &l.scope) == (leader.component, &leader.scope)) {
                self.leaders.push(leader);
            }
        }
    }

    /// The hit pod of this name, without its namespace: endpoints and leaders are known by name only.
    pub fn pod_named(&self, name: &str) -> Option<&HitPod> {
        self.pods.iter().find(|pod| pod.name.1 == name)
    }
}

/// Its pods are only as they were when others took their places; else they stay, and are well again with the revert.
fn replaces(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::PodKill | FaultKind::PodEvict | FaultKind::NodeKill | FaultKind::ZoneLoss)
}

struct Seen {
    uid: String,
    node: Option<String>,
    component: Option<Component>,
}

/// Pods as last observed before a moment; those that had gone are left out.
fn pods_before(timeline: &Timeline, before_ms: u64) -> BTreeMap<PodName, Seen> {
    let mut pods = BTreeMap::new();
    for (_, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < before_ms) {
        match observation {
            Observation::Pod { namespace, name, uid, node, component, .. } => {
                let seen = Seen { uid: uid.clone(), node: node.clone(), component: *component };
                pods.insert((namespace.clone(), name.clone()), seen);
            }
            Observation::PodGone { namespace, name, uid, .. } => {
                let name = (namespace.clone(), name.clone());
                if pods.get(&name).is_some_and(|seen: &Seen| seen.uid == *uid) {
                    pods.remove(&name);
                }
            }
            _ => {}
        }
    }
    pods
}

/// Every leadership as last observed before a moment.
fn leaders_before(timeline: &Timeline, injected_ms: u64) -> Vec<HitLeader> {
    let mut leaders: BTreeMap<(Component, String), Option<HitLeader>> = BTreeMap::new();
    for (_, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < injected_ms) {
        if let Observation::Leader { component, scope, leader, epoch } = observation {
            let held = leader.as_ref().map(|leader| HitLeader {
                component: *component,
                scope: scope.clone(),
                leader: leader.clone(),
                epoch: *epoch,
                injected_ms,
            });
            leaders.insert((*component, scope.clone()), held);
        }
    }
    leaders.into_values().flatten().collect()
}
