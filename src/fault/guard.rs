//! The blast radius: what a plan may touch at all. Checked before the first change, and for each fault again.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanError;
use crate::model::{
    Change, Component, Limits, ObjectRef, PROTECTED_NAMESPACES, PlannedFault, PodInfo, Snapshot, WorkloadInfo,
};

/// A namespace is touched only when its owner put this label on it.
pub const ALLOWED_LABEL: (&str, &str) = ("mettle.dev/chaos", "allowed");

/// A pod with one of these labels is never touched: the harness itself, and whatever its owner marked.
pub const PROTECTED_LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "mettle"), ("mettle.dev/protected", "true")];

/// Refuses the faults together when they would break more than the limits allow.
///
/// # Errors
/// With the first fault that goes too far.
pub fn guard(faults: &[PlannedFault], limits: &Limits, snapshot: &Snapshot) -> Result<(), PlanError> {
    let mut hit = Hit::default();
    for fault in faults {
        let refuse = |why: String| PlanError::Refused { fault: fault.index, kind: fault.kind, why };
        for change in &fault.changes {
            hit.add(&change.change, limits, snapshot).map_err(refuse)?;
        }
        hit.problem(limits, snapshot).map_or(Ok(()), |why| Err(refuse(why)))?;
    }
    Ok(())
}

/// Everything that some changes together would hit.
#[derive(Default)]
struct Hit {
    pods: BTreeSet<(String, String)>,
    nodes: BTreeSet<String>,
    workloads: BTreeSet<ObjectRef>,
    objects: BTreeSet<ObjectRef>,
    control_plane: bool,
}

impl Hit {
    fn add(&mut self, change: &Change, limits: &Limits, snapshot: &Snapshot) -> Result<(), String> {
        if let Some(pod) = change.pod() {
            namespace(&pod.namespace, limits, snapshot)?;
            if snapshot.pod(&pod.namespace, &pod.name).is_some_and(PodInfo::is_protected) {
                return Err(format!("pod {pod} is protected"));
            }
            self.pods.insert((pod.namespace.clone(), pod.name.clone()));
        }
        match change {
            Change::NodePower { node, .. } => {
                let marked = |pod: &&PodInfo| pod.node.as_ref() == Some(node) && bears_mark(&pod.labels);
                if let Some(pod) = snapshot.pods.iter().find(marked) {
                    return Err(format!(
                        "node {node} hosts {}/{}, which is protected",
                        pod.namespace, pod.name
                    ));
                }
                self.nodes.insert(node.clone());
            }
            Change::Edit { object, .. } | Change::Create { object, .. } => {
                if let Some(name) = &object.namespace {
                    namespace(name, limits, snapshot)?;
                }
                let edited = |workload: &&WorkloadInfo| workload.object() == *object;
                if snapshot.workloads.iter().find(edited).is_some_and(|found| bears_mark(&found.labels)) {
                    return Err(format!("{object} is protected"));
                }
                match object.kind.as_str() {
                    "Node" => self.nodes.insert(object.name.clone()),
                    "Deployment" | "StatefulSet" => self.workloads.insert(object.clone()),
                    _ => self.objects.insert(object.clone()),
                };
            }
            Change::PauseControlPlane { .. } => self.control_plane = true,
            // No fault plans it: a drill does, which has a guard of its own.
            Change::DestroyVolumes { store, .. } => {
                return Err(format!("it would destroy the data of {}", store.as_str()));
            }
            Change::DeletePod { .. }
            | Change::EvictPod { .. }
            | Change::Agent { .. }
            | Change::Exec { .. } => {}
        }
        Ok(())
    }

    fn problem(&self, limits: &Limits, snapshot: &Snapshot) -> Option<String> {
        let counts = [
            // What a drained node loses counts as the node.
            ("pods", "pods", self.pods_beside_nodes(snapshot), limits.pods),
            ("nodes", "nodes", self.nodes.len(), limits.nodes),
            ("workloads", "workloads", self.workloads.len(), limits.workloads),
            ("objects", "other objects", self.objects.len(), limits.objects),
        ];
        for (field, what, count, limit) in counts {
            if count > limit as usize {
                return Some(format!("it would hit {count} {what}, limits.{field} is {limit}"));
            }
        }
        if self.control_plane && !limits.control_plane {
            return Some(
                "it would stop a server of the control plane, limits.controlPlane is false".to_owned(),
            );
        }
        if !self.nodes.is_empty() && self.nodes.len() >= snapshot.nodes.len() {
            return Some("it would leave no node alive".to_owned());
        }
        self.share(limits, snapshot)
    }

    fn pods_beside_nodes(&self, snapshot: &Snapshot) -> usize {
        let on_hit_node = |namespace: &str, name: &str| {
            let node = snapshot.pod(namespace, name).and_then(|pod| pod.node.as_ref());
            node.is_some_and(|node| self.nodes.contains(node))
        };
        self.pods.iter().filter(|(namespace, name)| !on_hit_node(namespace, name)).count()
    }

    fn share(&self, limits: &Limits, snapshot: &Snapshot) -> Option<String> {
        if limits.share_percent >= 100 {
            return None;
        }
        let mut counts: BTreeMap<Component, (usize, usize)> = BTreeMap::new();
        let changed: BTreeSet<Component> = snapshot
            .workloads
            .iter()
            .filter(|workload| self.workloads.contains(&workload.object()))
            .filter_map(|workload| workload.component)
            .collect();
        for pod in snapshot.pods.iter().filter(|pod| !pod.terminating) {
            let Some(component) = pod.component else { continue };
            let (hit, all) = counts.entry(component).or_default();
            *all += 1;
            let named = self.pods.contains(&(pod.namespace.clone(), pod.name.clone()));
            let on_node = pod.node.as_ref().is_some_and(|node| self.nodes.contains(node));
            *hit += usize::from(named || on_node || changed.contains(&component));
        }
        let over = counts.iter().find(|(_, (hit, all))| hit * 100 > all * limits.share_percent as usize);
        over.map(|(component, (hit, all))| {
            format!(
                "it would hit {hit} of {all} pods of {component}, limits.sharePercent is {}",
                limits.share_percent
            )
        })
    }
}

impl PodInfo {
    /// No selector reaches it, and no plan and no drill may touch it.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        PROTECTED_NAMESPACES.contains(&self.namespace.as_str()) || bears_mark(&self.labels)
    }
}

/// One of [`PROTECTED_LABELS`].
pub(super) fn bears_mark(labels: &BTreeMap<String, String>) -> bool {
    PROTECTED_LABELS.iter().any(|(key, value)| labels.get(*key).is_some_and(|found| found == value))
}

fn namespace(name: &str, limits: &Limits, snapshot: &Snapshot) -> Result<(), String> {
    if PROTECTED_NAMESPACES.contains(&name) {
        return Err(format!("namespace {name} is protected"));
    }
    if !limits.namespaces.iter().any(|allowed| allowed == name) {
        let allowed = limits.namespaces.join(", ");
        return Err(format!("it would hit namespace {name}, limits.namespaces is {allowed}"));
    }
    let (key, value) = ALLOWED_LABEL;
    let allowed = snapshot.namespaces.get(name).and_then(|labels| labels.get(key));
    if allowed.map(String::as_str) == Some(value) {
        return Ok(());
    }
    Err(format!("namespace {name} does not carry the label {key}={value}"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::{Component, FaultKind, FaultSpec, RunId};

    fn planned(kind: FaultKind, count: u32) -> PlannedFault {
        let mut target = target(Component::Redis);
        target.count = count;
        let spec = FaultSpec::new(kind, target);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        crate::fault::plan(&RunId("r".into()), 0, &spec, &redis_snapshot(), &mut random).unwrap()
    }

    #[test]
    fn limits_labels_and_protected_namespaces_hold() {
        let snapshot = redis_snapshot();
        let one_pod = &Limits { pods: 1, ..Limits::default() };
        assert_eq!(guard(&[planned(FaultKind::PodKill, 1)], one_pod, &snapshot), Ok(()));
        let refused = |faults: &[PlannedFault], limits: &Limits, snapshot: &Snapshot| {
            guard(faults, limits, snapshot).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(&[planned(FaultKind::PodKill, 2)], one_pod, &snapshot),
            @"faults[0] (pod-kill) is refused: it would hit 2 pods, limits.pods is 1");
        insta::assert_snapshot!(refused(&[planned(FaultKind::NodeKill, 1)], one_pod, &snapshot),
            @"faults[0] (node-kill) is refused: it would hit 1 nodes, limits.nodes is 0");
        insta::assert_snapshot!(refused(&[planned(FaultKind::NodeKill, 3)], &Limits { pods: 1, nodes: 9, ..Limits::default() }, &snapshot),
            @"faults[0] (node-kill) is refused: it would leave no node alive");
        let mut unlabelled = redis_snapshot();
        unlabelled.namespaces.clear();
        insta::assert_snapshot!(refused(&[planned(FaultKind::PodKill, 1)], one_pod, &unlabelled),
            @"faults[0] (pod-kill) is refused: namespace ai-platform does not carry the label mettle.dev/chaos=allowed");
        let mut system = planned(FaultKind::PodKill, 1);
        if let Change::DeletePod { pod, .. } = &mut system.changes[0].change {
            pod.namespace = "kube-system".into();
        }
        insta::assert_snapshot!(refused(&[system], one_pod, &snapshot),
            @"faults[0] (pod-kill) is refused: namespace kube-system is protected");
        let elsewhere = &Limits { namespaces: vec!["shop".into(), "till".into()], ..Limits::default() };
        insta::assert_snapshot!(refused(&[planned(FaultKind::PodKill, 1)], elsewhere, &snapshot),
            @"faults[0] (pod-kill) is refused: it would hit namespace ai-platform, limits.namespaces is shop, till");
        insta::assert_snapshot!(refused(&[planned(FaultKind::ScaleDown, 1)], elsewhere, &snapshot),
            @"faults[0] (scale-down) is refused: it would hit namespace ai-platform, limits.namespaces is shop, till");
    }

    #[test]
    fn what_bears_a_mark_is_refused() {
        let wide = &Limits { pods: 9, nodes: 2, workloads: 1, ..Limits::default() };
        for (key, value) in PROTECTED_LABELS {
            // Planned before it was marked.
            let faults =
                [FaultKind::PodKill, FaultKind::NodeKill, FaultKind::ScaleDown].map(|kind| planned(kind, 1));
            let mut snapshot = redis_snapshot();
            let pods = snapshot.pods.iter_mut().map(|pod| &mut pod.labels);
            let workloads = snapshot.workloads.iter_mut().map(|workload| &mut workload.labels);
            pods.chain(workloads).for_each(|labels| drop(labels.insert(key.into(), value.into())));
            for fault in faults {
                let why = guard(&[fault], wide, &snapshot).unwrap_err().to_string();
                assert!(why.ends_with(" is protected"), "{key}: {why}");
            }
        }
    }

    #[test]
    fn every_kind_of_object_has_its_limit() {
        let snapshot = redis_snapshot();
        let refused = |kind, limits: Limits| {
            let faults = [planned(kind, 1)];
            guard(&faults, &limits, &snapshot)
                .map_or_else(|error| error.to_string(), |()| "allowed".to_owned())
        };
        let none = Limits::default();
        insta::assert_snapshot!(
            [
                refused(FaultKind::ScaleDown, none.clone()),
                refused(FaultKind::ScaleDown, Limits { workloads: 1, ..none.clone() }),
                refused(FaultKind::ScaleDown, Limits { workloads: 1, share_percent: 50, ..none.clone() }),
                refused(FaultKind::EndpointsLost, none.clone()),
                refused(FaultKind::EndpointsLost, Limits { objects: 1, ..none.clone() }),
                refused(FaultKind::NodeCordon, none.clone()),
                refused(FaultKind::NodeDrain, Limits { nodes: 1, ..none.clone() }),
                refused(FaultKind::NodeDrain, Limits { nodes: 1, share_percent: 30, ..none.clone() }),
                refused(FaultKind::PodKill, Limits { share_percent: 15, ..none.clone() }),
                refused(FaultKind::PodKill, Limits { share_percent: 17, ..none.clone() }),
                refused(FaultKind::ApiServerPause, none.clone()),
                refused(FaultKind::ApiServerPause, Limits { control_plane: true, ..none.clone() }),
            ]
            .join("\n"),
            @r"
            faults[0] (scale-down) is refused: it would hit 1 workloads, limits.workloads is 0
            allowed
            faults[0] (scale-down) is refused: it would hit 6 of 6 pods of redis, limits.sharePercent is 50
            faults[0] (endpoints-lost) is refused: it would hit 1 other objects, limits.objects is 0
            allowed
            faults[0] (node-cordon) is refused: it would hit 1 nodes, limits.nodes is 0
            allowed
            faults[0] (node-drain) is refused: it would hit 2 of 6 pods of redis, limits.sharePercent is 30
            faults[0] (pod-kill) is refused: it would hit 1 of 6 pods of redis, limits.sharePercent is 15
            allowed
            faults[0] (api-server-pause) is refused: it would stop a server of the control plane, limits.controlPlane is false
            allowed
            "
        );
    }
}
