//! Selectors: from a query to objects, with the reason for each choice.

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::guard::bears_mark;
use super::slot::key_slot;
use crate::model::{
    Component, FaultKind, FaultSpec, PROTECTED_NAMESPACES, PlannedChange, PodInfo, Role, RoleFact, Snapshot,
    Target, TargetSpec, WorkloadInfo,
};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("faults[{fault}].target matches nothing: {query}")]
    NoMatch { fault: usize, query: String },
    #[error("faults[{fault}].target matches only what is protected: {query}")]
    Protected { fault: usize, query: String },
    #[error("faults[{fault}].target wants {wanted}, and only {found} match: {query}")]
    TooFew { fault: usize, wanted: u32, found: usize, query: String },
    #[error("{object} has no controller that would replace it, so the fault could not be undone")]
    NoController { object: String },
    #[error("{object} is on no node")]
    NotScheduled { object: String },
    #[error("{object} has no container that runs {process}")]
    NoContainer { object: String, process: String },
    #[error("{kind} needs a pod of {wanted}, and {object} is none")]
    WrongComponent { object: String, wanted: &'static str, kind: &'static str },
    #[error("faults[{fault}]: {object} has no {what}")]
    Lacks { fault: usize, object: String, what: String },
    #[error("faults[{fault}] ({}) is refused: {why}", kind.as_str())]
    Refused { fault: usize, kind: FaultKind, why: String },
}

impl PlanError {
    /// The same error, told of the fault at `index`.
    #[must_use]
    pub fn of_fault(self, index: usize) -> Self {
        match self {
            Self::NoMatch { query, .. } => Self::NoMatch { fault: index, query },
            Self::Protected { query, .. } => Self::Protected { fault: index, query },
            Self::TooFew { wanted, found, query, .. } => Self::TooFew { fault: index, wanted, found, query },
            Self::Lacks { object, what, .. } => Self::Lacks { fault: index, object, what },
            other => other,
        }
    }
}

/// Every pod that a target selects, ordered by name so that a draw depends on the seed and the objects,
/// never on the API's order; each with the reason.
pub fn matching<'a>(
    spec: &TargetSpec,
    snapshot: &'a Snapshot,
) -> Result<Vec<(&'a PodInfo, String)>, PlanError> {
    let mut matching: Vec<(&PodInfo, String)> = match spec.component {
        Some(component) => by_component(spec, component, snapshot),
        None => snapshot
            .pods
            .iter()
            .filter(|pod| spec.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
            .map(|pod| (pod, "its labels".to_owned()))
            .collect(),
    };
    matching.retain(|(pod, _)| !pod.terminating && pod.node.is_some());
    matching.sort_by(|(a, _), (b, _)| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    if matching.is_empty() {
        let query = format!("{}{}", describe(spec), unknown(spec, snapshot));
        return Err(PlanError::NoMatch { fault: 0, query });
    }
    spared(&mut matching, |(pod, _)| pod.is_protected(), spec)?;
    Ok(matching)
}

/// Takes out what is protected, before anything is drawn; something must be left.
fn spared<T>(
    matching: &mut Vec<T>,
    is_protected: impl Fn(&T) -> bool,
    spec: &TargetSpec,
) -> Result<(), PlanError> {
    let any = !matching.is_empty();
    matching.retain(|one| !is_protected(one));
    match (any, matching.is_empty()) {
        (_, false) => Ok(()),
        (true, true) => Err(PlanError::Protected { fault: 0, query: describe(spec) }),
        (false, true) => Err(PlanError::NoMatch { fault: 0, query: describe(spec) }),
    }
}

/// Draws as many as the target wants.
pub fn draw<T: Clone + Ord>(
    spec: &TargetSpec,
    from: &[T],
    random: &mut ChaCha8Rng,
) -> Result<Vec<T>, PlanError> {
    if from.len() < spec.count as usize {
        let query = describe(spec);
        return Err(PlanError::TooFew { fault: 0, wanted: spec.count, found: from.len(), query });
    }
    let mut drawn: Vec<T> = from.sample(random, spec.count as usize).cloned().collect();
    drawn.sort();
    Ok(drawn)
}

/// The pods that a fault on pods hits.
pub fn pods<'a>(
    spec: &TargetSpec,
    snapshot: &'a Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<(&'a PodInfo, Target)>, PlanError> {
    let mut matching = matching(spec, snapshot)?;
    // One that is not ready is missed by nobody: it is hit when there are not enough others.
    if matching.iter().filter(|(pod, _)| pod.ready).count() >= spec.count as usize {
        matching.retain(|(pod, _)| pod.ready);
    }
    let indices: Vec<usize> = (0..matching.len()).collect();
    let drawn = draw(spec, &indices, random)?;
    Ok(drawn
        .into_iter()
        .map(|i| {
            let (pod, why) = &matching[i];
            let because = format!("{why}; {} of {}", spec.count, matching.len());
            (*pod, target_of(pod, spec, snapshot, because))
        })
        .collect())
}

/// One change on each of them.
pub fn on_pods(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
    change: impl Fn(&PodInfo, Target) -> Result<PlannedChange, PlanError>,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = pods(&spec.target, snapshot, random)?;
    targets.into_iter().map(|(pod, target)| change(pod, target)).collect()
}

/// Deployments and StatefulSets of the selected pods, drawn by the seed.
pub fn workloads<'a>(
    spec: &TargetSpec,
    snapshot: &'a Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<(&'a WorkloadInfo, Target)>, PlanError> {
    let mut matching: Vec<&WorkloadInfo> = snapshot
        .workloads
        .iter()
        .filter(|workload| match spec.component {
            Some(component) => workload.component == Some(component),
            None => spec.labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value)),
        })
        .collect();
    let is_protected = |one: &&WorkloadInfo| {
        PROTECTED_NAMESPACES.contains(&one.namespace.as_str()) || bears_mark(&one.labels)
    };
    spared(&mut matching, is_protected, spec)?;
    matching.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let indices: Vec<usize> = (0..matching.len()).collect();
    let drawn = draw(spec, &indices, random)?.into_iter().map(|i| {
        let workload = matching[i];
        let target = Target {
            object: format!("workload/{}/{}", workload.namespace, workload.kind_and_name().1),
            node: None,
            component: workload.component,
            role: None,
            because: format!("{}; {} of {}", describe(spec), spec.count, matching.len()),
        };
        (workload, target)
    });
    Ok(drawn.collect())
}

/// Addresses of the pods that a selector of peers means: all of them, no draw.
pub fn addresses(spec: &TargetSpec, snapshot: &Snapshot) -> Result<Vec<String>, PlanError> {
    let mut found: Vec<String> =
        matching(spec, snapshot)?.into_iter().filter_map(|(pod, _)| pod.ip.clone()).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn target_of(pod: &PodInfo, spec: &TargetSpec, snapshot: &Snapshot, because: String) -> Target {
    let fact = snapshot.roles.iter().find(|fact| fact.pod == pod.name);
    let role = match &spec.leader_of {
        Some(_) => Some(spec.role.unwrap_or(Role::Primary)),
        None => fact.map(|fact| fact.role).filter(|role| *role != Role::Any),
    };
    Target {
        object: format!("pod/{}/{}", pod.namespace, pod.name),
        node: pod.node.clone(),
        component: pod.component,
        role: role.or(spec.role),
        because,
    }
}

fn by_component<'a>(
    spec: &TargetSpec,
    component: Component,
    snapshot: &'a Snapshot,
) -> Vec<(&'a PodInfo, String)> {
    let members =
        snapshot.pods.iter().filter(|pod| pod.component == Some(component) && pod.controller_owned());
    if let Some(of) = &spec.leader_of {
        return by_leader(spec, component, of, snapshot);
    }
    let role = spec.role.unwrap_or(Role::Any);
    if role == Role::Any && spec.of_key.is_none() {
        return members.map(|pod| (pod, format!("a member of {component}"))).collect();
    }
    let slot = spec.of_key.as_deref().map(key_slot);
    let holds = |fact: &RoleFact| {
        slot.is_none_or(|s| fact.slots.iter().any(|(low, high)| (*low..=*high).contains(&s)))
    };
    members
        .filter_map(|pod| {
            let fact = snapshot.roles.iter().find(|fact| {
                fact.pod == pod.name
                    && fact.component == component
                    && (role == Role::Any || fact.role == role)
                    && holds(fact)
            })?;
            let key = match (&spec.of_key, slot) {
                (Some(key), Some(slot)) => format!(" of key {key} (slot {slot})"),
                _ => String::new(),
            };
            Some((pod, format!("{}{key}, as the server says: {}", fact.role.as_str(), fact.source)))
        })
        .collect()
}

/// Members with a role in one partition or queue.
fn by_leader<'a>(
    spec: &TargetSpec,
    component: Component,
    of: &String,
    snapshot: &'a Snapshot,
) -> Vec<(&'a PodInfo, String)> {
    let of_component = snapshot.pods.iter().filter(|pod| pod.component == Some(component));
    let members = of_component.filter(|pod| pod.controller_owned());
    members
        .filter_map(|pod| {
            let fact =
                snapshot.roles.iter().find(|fact| fact.pod == pod.name && fact.component == component)?;
            let (leads, follows) = (fact.leads.contains(of), fact.follows.contains(of));
            let word = match spec.role.unwrap_or(Role::Primary) {
                Role::Primary => leads.then_some("leads")?,
                Role::Replica => follows.then_some("follows in sync")?,
                Role::Any if leads => "leads",
                Role::Any => follows.then_some("follows in sync")?,
            };
            Some((pod, format!("{word} {of}, as the servers say: {}", fact.source)))
        })
        .collect()
}

/// Why a partition or queue may match nothing: a name that nobody knows is another mistake than a role that nobody has.
fn unknown(spec: &TargetSpec, snapshot: &Snapshot) -> String {
    let (Some(component), Some(of)) = (spec.component, &spec.leader_of) else { return String::new() };
    let facts: Vec<&RoleFact> = snapshot.roles.iter().filter(|fact| fact.component == component).collect();
    if facts.is_empty() {
        return format!("; no member of {component} says what it leads");
    }
    let known: BTreeSet<&String> =
        facts.iter().flat_map(|fact| fact.leads.iter().chain(&fact.follows)).collect();
    if known.contains(of) {
        return format!("; {of} is there, and nobody has that role in it now");
    }
    const SHOWN_MAX: usize = 8;
    let shown: Vec<&str> = known.iter().take(SHOWN_MAX).map(|name| name.as_str()).collect();
    let more = if known.len() > SHOWN_MAX { ", …" } else { "" };
    format!("; nobody leads or follows {of}; there are {}{more}", shown.join(", "))
}

impl PodInfo {
    /// Pods of Jobs are no members of a component that serves.
    fn controller_owned(&self) -> bool {
        self.controller.as_deref().is_none_or(|controller| !controller.starts_with("Job/"))
    }
}

pub fn describe(spec: &TargetSpec) -> String {
    let mut parts = Vec::new();
    if let Some(component) = spec.component {
        parts.push(format!("component {component}"));
    }
    if let Some(role) = spec.role {
        parts.push(format!("role {}", role.as_str()));
    }
    if let Some(key) = &spec.of_key {
        parts.push(format!("of key {key}"));
    }
    if let Some(of) = &spec.leader_of {
        parts.push(format!("in {of}"));
    }
    parts.extend(spec.labels.iter().map(|(key, value)| format!("{key}={value}")));
    if let Some(node) = &spec.node {
        parts.push(format!("node {node}"));
    }
    if let Some(zone) = &spec.zone {
        parts.push(format!("zone {zone}"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests;
