//! `node-kill`
//!
//! **Does**: powers the node off: its link goes silent and every process on it dies at once.
//! **Undone by**: powering it on and waiting until it is Ready.
//! **Evidence**: the API says that the node is not Ready.
//! **Needs**: a provider that has power over its nodes (`local`).

use rand_chacha::ChaCha8Rng;

use super::{FaultInfo, PlanError, select};
use crate::model::{Change, Event, Fact, FaultSpec, Observation, PlannedChange, Snapshot, Target, Undo};

pub const INFO: FaultInfo = FaultInfo {
    name: "node-kill",
    level: "node",
    does: "powers a node off: silence on its link, every process dead",
    undone_by: "powering it on; waits until the node is Ready",
    evidence: "the node's Ready condition is no longer true",
    needs: "a provider with power over its nodes (local)",
};

pub fn changes(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = match &spec.target.node {
        Some(name) => vec![named(name, spec, snapshot)?],
        None => hosting(spec, snapshot, random)?,
    };
    Ok(targets
        .into_iter()
        .map(|(node, target)| PlannedChange {
            target,
            change: Change::KillNode { node: node.clone() },
            undo: Undo::StartNode { node },
        })
        .collect())
}

fn named(name: &str, spec: &FaultSpec, snapshot: &Snapshot) -> Result<(String, Target), PlanError> {
    if !snapshot.nodes.iter().any(|node| node.name == name) {
        return Err(PlanError::NoMatch { fault: 0, query: select::describe(&spec.target) });
    }
    Ok((name.to_owned(), target_of(name, None, "named in the experiment".to_owned())))
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

pub fn evidence(change: &PlannedChange, events: &[Event]) -> Vec<(u64, String)> {
    let Change::KillNode { node } = &change.change else { return Vec::new() };
    events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Observed(Observation::Node { name, ready: false }) if name == node => {
                Some((event.at_ms, format!("node {name} is not Ready")))
            }
            _ => None,
        })
        .take(1)
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::{Component, FaultKind, TargetSpec};

    fn spec(target: TargetSpec) -> FaultSpec {
        FaultSpec {
            kind: FaultKind::NodeKill,
            target,
            at_seconds: 0,
            hold_seconds: 20,
            grace_seconds: 0,
            process: None,
        }
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
    fn only_this_node_not_ready_is_evidence() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let by_name = spec(TargetSpec { node: Some("n2".into()), count: 1, ..TargetSpec::default() });
        let planned = changes(&by_name, &redis_snapshot(), &mut random).unwrap();
        let seen = |name: &str, ready| Event {
            at_ms: 9,
            fact: Fact::Observed(Observation::Node { name: name.into(), ready }),
        };
        assert!(evidence(&planned[0], &[seen("n1", false), seen("n2", true)]).is_empty());
        assert_eq!(evidence(&planned[0], &[seen("n2", false)]).len(), 1);
    }
}
