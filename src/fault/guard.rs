//! The blast radius: what a plan may touch at all. Checked before the first change, and for each fault again.

use std::collections::BTreeSet;

use super::PlanError;
use crate::model::{Change, Limits, PlannedFault, Snapshot};

/// A namespace is touched only when its owner put this label on it.
pub const ALLOWED_LABEL: (&str, &str) = ("mettle.dev/chaos", "allowed");

/// Never touched, whatever their labels.
pub const PROTECTED_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Refuses the faults together when they would break more than the limits allow.
///
/// # Errors
/// With the first fault that goes too far.
pub fn guard(faults: &[PlannedFault], limits: Limits, snapshot: &Snapshot) -> Result<(), PlanError> {
    let mut pods = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    for fault in faults {
        let refuse = |why: String| PlanError::Refused { fault: fault.index, kind: fault.kind, why };
        for change in &fault.changes {
            match &change.change {
                Change::DeletePod { pod, .. } | Change::PauseProcess { pod, .. } => {
                    namespace(&pod.namespace, snapshot).map_err(refuse)?;
                    pods.insert((pod.namespace.clone(), pod.name.clone()));
                }
                Change::KillNode { node } => {
                    nodes.insert(node.clone());
                }
            }
        }
        if pods.len() > limits.pods as usize {
            return Err(refuse(format!("it would hit {} pods, limits.pods is {}", pods.len(), limits.pods)));
        }
        if nodes.len() > limits.nodes as usize {
            return Err(refuse(format!(
                "it would hit {} nodes, limits.nodes is {}",
                nodes.len(),
                limits.nodes
            )));
        }
        if !nodes.is_empty() && nodes.len() >= snapshot.nodes.len() {
            return Err(refuse("it would leave no node alive".to_owned()));
        }
    }
    Ok(())
}

fn namespace(name: &str, snapshot: &Snapshot) -> Result<(), String> {
    if PROTECTED_NAMESPACES.contains(&name) {
        return Err(format!("namespace {name} is protected"));
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
        let spec =
            FaultSpec { kind, target, at_seconds: 0, hold_seconds: 5, grace_seconds: 0, process: None };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        crate::fault::plan(&RunId("r".into()), 0, &spec, &redis_snapshot(), &mut random).unwrap()
    }

    #[test]
    fn limits_labels_and_protected_namespaces_hold() {
        let snapshot = redis_snapshot();
        let one_pod = Limits { pods: 1, nodes: 0 };
        assert_eq!(guard(&[planned(FaultKind::PodKill, 1)], one_pod, &snapshot), Ok(()));
        let refused = |faults: &[PlannedFault], limits, snapshot: &Snapshot| {
            guard(faults, limits, snapshot).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(&[planned(FaultKind::PodKill, 2)], one_pod, &snapshot),
            @"faults[0] (pod-kill) is refused: it would hit 2 pods, limits.pods is 1");
        insta::assert_snapshot!(refused(&[planned(FaultKind::NodeKill, 1)], one_pod, &snapshot),
            @"faults[0] (node-kill) is refused: it would hit 1 nodes, limits.nodes is 0");
        insta::assert_snapshot!(refused(&[planned(FaultKind::NodeKill, 3)], Limits { pods: 1, nodes: 9 }, &snapshot),
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
    }
}
