//! Faults on nodes: their power, their processes, their link, and what the scheduler thinks of them.

use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::pods::reference;
use super::{PlanError, select};
use crate::model::{
    Change, Edit, FaultKind, FaultSpec, Look, NodeHow, NodeInfo, ObjectRef, PlannedChange, Snapshot, Target,
    Undo,
};

pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
pub const TAINT: &str = "mettle.dev/taint";
/// What the node controller puts on a node that is cordoned.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

pub fn changes(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = match (&spec.target.node, &spec.target.zone) {
        (Some(name), _) => vec![named(name, spec, snapshot)?],
        (None, Some(zone)) => in_zone(zone, spec, snapshot)?,
        (None, None) => hosting(spec, snapshot, random)?,
    };
    Ok(targets.into_iter().flat_map(|(node, target)| changes_of(spec, snapshot, &node, target)).collect())
}

fn changes_of(spec: &FaultSpec, snapshot: &Snapshot, node: &str, target: Target) -> Vec<PlannedChange> {
    let power = |how| {
        let node = node.to_owned();
        (Change::NodePower { node: node.clone(), how }, Undo::RestoreNode { node, how })
    };
    let edit = |edits, look| {
        let object = ObjectRef::new("v1", "Node", None, node);
        (Change::Edit { object: object.clone(), edits, look }, Undo::Restore { object })
    };
    let cordon = || {
        let look = Look::Tainted { node: node.to_owned(), key: CORDONED.to_owned() };
        edit(vec![Edit::set("/spec/unschedulable", true)], Some(look))
    };
    let (change, undo) = match spec.kind {
        FaultKind::NodeFreeze => power(NodeHow::Freeze),
        FaultKind::NodeIsolate => power(NodeHow::Isolate),
        FaultKind::NodeCordon | FaultKind::NodeDrain => cordon(),
        FaultKind::NodeTaint => {
            let value = json!({ "key": TAINT, "value": "fault", "effect": "NoExecute" });
            edit(vec![Edit::Add { path: "/spec/taints".to_owned(), value }], None)
        }
        _ => power(NodeHow::Off),
    };
    let mut changes = vec![PlannedChange { target: target.clone(), change, undo }];
    if spec.kind == FaultKind::NodeDrain {
        changes.extend(evictions(snapshot, node, &target));
    }
    changes
}

/// Every pod that a drain evicts: those of DaemonSets stay, and so do those that are protected.
fn evictions(snapshot: &Snapshot, node: &str, target: &Target) -> Vec<PlannedChange> {
    let on_node = snapshot.pods.iter().filter(|pod| pod.node.as_deref() == Some(node));
    let on_node = on_node.filter(|pod| !pod.terminating && !pod.is_protected());
    let evicted = on_node.filter_map(|pod| {
        let controller = pod.controller.clone()?;
        if controller.starts_with("DaemonSet/") || controller.starts_with("Job/") {
            return None;
        }
        let target = Target {
            object: format!("pod/{}/{}", pod.namespace, pod.name),
            component: pod.component,
            because: format!("is on {}", target.object),
            ..target.clone()
        };
        let pod = reference(pod);
        let change = Change::EvictPod { pod: pod.clone(), grace_seconds: 10 };
        Some(PlannedChange { target, change, undo: Undo::AwaitReplaced { pod, controller } })
    });
    evicted.collect()
}

fn named(name: &str, spec: &FaultSpec, snapshot: &Snapshot) -> Result<(String, Target), PlanError> {
    if !snapshot.nodes.iter().any(|node| node.name == name) {
        return Err(PlanError::NoMatch { fault: 0, query: select::describe(&spec.target) });
    }
    Ok((name.to_owned(), target_of(name, None, "named in the experiment".to_owned())))
}

/// All of them: that is what the loss of a zone means.
fn in_zone(zone: &str, spec: &FaultSpec, snapshot: &Snapshot) -> Result<Vec<(String, Target)>, PlanError> {
    let is_in = |node: &&NodeInfo| node.labels.get(ZONE_LABEL).map(String::as_str) == Some(zone);
    let mut nodes: Vec<&String> = snapshot.nodes.iter().filter(is_in).map(|node| &node.name).collect();
    nodes.sort();
    if nodes.is_empty() {
        return Err(PlanError::NoMatch { fault: 0, query: select::describe(&spec.target) });
    }
    Ok(nodes
        .into_iter()
        .map(|node| (node.clone(), target_of(node, None, format!("is in zone {zone}"))))
        .collect())
}

/// Nodes that host the selected pods: drawn among the distinct nodes, not among the pods.
fn hosting(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<(String, Target)>, PlanError> {
    let matching = select::matching(&spec.target, snapshot)?;
    let mut nodes: Vec<&String> = matching.iter().filter_map(|(pod, _)| pod.node.as_ref()).collect();
    nodes.sort();
    nodes.dedup();
    let found = nodes.len();
    let drawn = select::draw(&spec.target, &nodes, random)?;
    let hosted = |node: &String| matching.iter().find(|(pod, _)| pod.node.as_ref() == Some(node));
    Ok(drawn
        .into_iter()
        .filter_map(|node| {
            let (pod, why) = hosted(node)?;
            let because = format!("hosts {} ({why}); {} of {found} nodes", pod.name, spec.target.count);
            let mut target = target_of(node, pod.component, because);
            target.role = spec.target.role;
            Some((node.clone(), target))
        })
        .collect())
}

fn target_of(node: &str, component: Option<crate::model::Component>, because: String) -> Target {
    Target { object: format!("node/{node}"), node: Some(node.to_owned()), component, role: None, because }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::{Component, FaultKind, TargetSpec};

    fn spec(target: TargetSpec) -> FaultSpec {
        FaultSpec::new(FaultKind::NodeKill, target)
    }

    #[test]
    fn a_node_is_found_by_name_or_by_what_it_hosts() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let by_name = spec(TargetSpec { node: Some("n2".into()), count: 1, ..TargetSpec::default() });
        assert_eq!(changes(&by_name, &redis_snapshot(), &mut random).unwrap()[0].target.object, "node/n2");
        let unknown = spec(TargetSpec { node: Some("n9".into()), count: 1, ..TargetSpec::default() });
        assert!(changes(&unknown, &redis_snapshot(), &mut random).is_err());
        let mut hosts = target(Component::Redis);
        hosts.count = 3;
        let all = changes(&spec(hosts), &redis_snapshot(), &mut random).unwrap();
        assert_eq!(
            all.iter().map(|c| c.target.object.as_str()).collect::<Vec<_>>(),
            ["node/n1", "node/n2", "node/n3"]
        );
    }

    #[test]
    fn a_zone_is_all_of_its_nodes_and_a_drain_evicts_what_is_there() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut snapshot = redis_snapshot();
        for (node, zone) in snapshot.nodes.iter_mut().zip(["a", "b", "a"]) {
            node.labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
        }
        let mut lost = FaultSpec::new(
            FaultKind::ZoneLoss,
            TargetSpec { zone: Some("a".into()), ..TargetSpec::default() },
        );
        let nodes = |spec: &FaultSpec, random: &mut ChaCha8Rng| -> Vec<String> {
            changes(spec, &snapshot, random)
                .unwrap()
                .iter()
                .map(|planned| planned.change.describe())
                .collect()
        };
        assert_eq!(nodes(&lost, &mut random), ["kill node n1", "kill node n3"]);
        lost.target.zone = Some("c".into());
        assert!(changes(&lost, &snapshot, &mut random).is_err());
        let drain = FaultSpec::new(
            FaultKind::NodeDrain,
            TargetSpec { node: Some("n2".into()), ..TargetSpec::default() },
        );
        assert_eq!(
            nodes(&drain, &mut random),
            [
                "edit Node n2: /spec/unschedulable = true",
                "evict pod ai-platform/redis-1 with 10 s of grace",
                "evict pod ai-platform/redis-4 with 10 s of grace",
            ]
        );
    }
}
