//! Nodes, workloads and the members of the stores, by their own word.

use std::collections::BTreeMap;

use super::{Row, Section, Seen, all_of};
use crate::model::{Component, Finding, Leadership, Role, RoleFact, Snapshot, Verdict};

#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = vec![Row::new(Section::Nodes, &["D4"], nodes(snapshot))];
    // A member whose servers do not agree on its role, or say nothing, has none.
    for pod in &snapshot.pods {
        let Some(component) = pod.component.filter(|one| one.leadership() != Leadership::None) else {
            continue;
        };
        let fact = snapshot.roles.iter().find(|fact| fact.pod == pod.name && fact.component == component);
        let check = format!("{component} {}", pod.name);
        let finding = match fact {
            // It answers, and has no part in anything: of its data there is no copy here.
            Some(fact)
                if component.leadership() == Leadership::Parts
                    && fact.leads.is_empty()
                    && fact.follows.is_empty() =>
            {
                Finding::new(check, Verdict::Fail, format!("leads and follows nothing ({})", fact.source))
            }
            Some(fact) => Finding::new(check, Verdict::Pass, format!("{} ({})", word(fact), fact.source)),
            None => Finding::new(check, Verdict::Fail, "no role can be confirmed"),
        };
        rows.push(Row::new(Section::Members, &["D4"], finding));
    }
    rows.push(Row::new(Section::Members, &["R1"], apart(snapshot)));
    rows.push(Row::new(Section::Members, &["R1"], spread(snapshot)));
    rows
}

fn word(fact: &RoleFact) -> &'static str {
    match fact.role {
        Role::Any => "a member",
        role => role.as_str(),
    }
}

/// A component that was taken away altogether has no row of its own that could fail.
pub fn complete(seen: &Seen) -> Finding {
    let running = seen.running();
    let wrong = Component::ALL.iter().filter(|component| !running.contains_key(component.as_str()));
    let wrong = wrong.map(|component| format!("no pod of {component} runs")).collect();
    all_of("every component of the guide runs", Component::ALL.len(), "components", wrong)
}

fn nodes(snapshot: &Snapshot) -> Finding {
    let wrong =
        snapshot.nodes.iter().filter(|node| !node.ready).map(|node| format!("{} is not Ready", node.name));
    all_of("every node is Ready", snapshot.nodes.len(), "nodes", wrong.collect())
}

/// A replica on its primary's node is lost with it.
fn apart(snapshot: &Snapshot) -> Finding {
    let node = |pod: &str| {
        let pod = snapshot.pods.iter().find(|one| one.name == pod)?;
        pod.node.as_deref()
    };
    let redis: Vec<_> = snapshot.roles.iter().filter(|fact| fact.component == Component::Redis).collect();
    let replicas: Vec<_> = redis.iter().filter(|fact| fact.role == Role::Replica).collect();
    let mut wrong = Vec::new();
    for replica in &replicas {
        let primary = redis.iter().find(|fact| fact.role == Role::Primary && fact.slots == replica.slots);
        match primary {
            None => wrong.push(format!("{} replicates nobody", replica.pod)),
            Some(primary) if node(&primary.pod) == node(&replica.pod) => {
                wrong.push(format!("{} is on the node of its primary {}", replica.pod, primary.pod));
            }
            Some(_) => {}
        }
    }
    all_of("redis: replicas are on other nodes than their primaries", replicas.len(), "replicas", wrong)
}

/// Primaries elect by majority: a node that holds more of them than it must takes the majority with it.
fn spread(snapshot: &Snapshot) -> Finding {
    let primaries: Vec<&str> = snapshot
        .roles
        .iter()
        .filter(|fact| fact.component == Component::Redis && fact.role == Role::Primary)
        .map(|fact| fact.pod.as_str())
        .collect();
    let mut held: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for primary in &primaries {
        let pod = snapshot.pods.iter().find(|pod| pod.name == *primary);
        held.entry(pod.and_then(|pod| pod.node.as_deref()).unwrap_or("no node")).or_default().push(primary);
    }
    let fair = primaries.len().div_ceil(snapshot.nodes.len().max(1));
    let wrong = held.iter().filter(|(_, pods)| pods.len() > fair);
    let wrong = wrong.map(|(node, pods)| format!("{node} holds {} of them: {}", pods.len(), pods.join(", ")));
    all_of("redis: primaries are spread over the nodes", primaries.len(), "primaries", wrong.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    fn snapshot(replica_node: &str, replica_slots: u16) -> Snapshot {
        let pod = |name: &str, node: &str| -> crate::model::PodInfo {
            serde_json::from_value(serde_json::json!({
                "namespace": "n", "name": name, "uid": "u", "node": node, "ip": null, "ready": true,
                "terminating": false, "labels": {}, "component": "redis", "controller": null, "containers": {} }))
            .unwrap()
        };
        let fact = |pod: &str, role, low| RoleFact {
            component: Component::Redis,
            role,
            pod: pod.to_owned(),
            slots: vec![(low, 10)],
            leads: Vec::new(),
            follows: Vec::new(),
            source: String::new(),
        };
        Snapshot {
            pods: vec![pod("a", "n1"), pod("b", replica_node)],
            roles: vec![fact("a", Role::Primary, 0), fact("b", Role::Replica, replica_slots)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_replica_beside_its_primary_fails() {
        assert_eq!(apart(&snapshot("n2", 0)).verdict, Pass);
        assert_eq!(apart(&snapshot("n1", 0)).verdict, Fail);
        assert_eq!(apart(&snapshot("n2", 5)).verdict, Fail);
        assert_eq!(apart(&Snapshot::default()).verdict, Inconclusive);
        assert_eq!(nodes(&Snapshot::default()).verdict, Inconclusive);
        assert_eq!(complete(&Seen::default()).verdict, Fail);
    }

    #[test]
    fn primaries_that_share_a_node_without_need_fail() {
        let mut two = snapshot("n2", 0);
        two.roles[1].role = Role::Primary;
        two.nodes = ["n1", "n2"]
            .map(|name| crate::model::NodeInfo {
                name: name.to_owned(),
                ready: true,
                unschedulable: false,
                labels: BTreeMap::new(),
            })
            .to_vec();
        assert_eq!(spread(&two).verdict, Pass);
        two.pods[1].node = Some("n1".to_owned());
        assert_eq!(spread(&two).verdict, Fail);
        two.nodes.pop();
        assert_eq!(spread(&two).verdict, Pass, "one node must hold both");
        assert_eq!(spread(&Snapshot::default()).verdict, Inconclusive);
    }

    #[test]
    fn a_member_without_a_confirmed_role_fails() {
        let mut one = snapshot("n2", 0);
        assert!(
            rows(&one)
                .iter()
                .filter(|row| row.finding.check.starts_with("redis "))
                .all(|row| row.finding.verdict == Pass)
        );
        one.roles.clear();
        assert!(
            rows(&one)
                .iter()
                .filter(|row| row.finding.check.starts_with("redis "))
                .all(|row| row.finding.verdict == Fail)
        );
    }

    #[test]
    fn every_component_with_a_leader_has_a_row_a_member() {
        for component in [Component::Postgres, Component::Zookeeper, Component::Kafka, Component::Rabbitmq] {
            let mut one = snapshot("n2", 0);
            one.pods.truncate(1);
            one.pods[0].component = Some(component);
            one.roles.truncate(1);
            one.roles[0].component = component;
            let row = |one: &Snapshot| {
                let found = rows(one).into_iter().find(|row| row.finding.check == format!("{component} a"));
                found.map(|row| (row.finding.verdict, row.finding.reason)).unwrap()
            };
            let parts = component.leadership() == Leadership::Parts;
            if parts {
                one.roles[0].role = Role::Any;
                assert_eq!(row(&one), (Fail, "leads and follows nothing ()".to_owned()), "{component}");
                one.roles[0].follows.push("x".to_owned());
            }
            assert_eq!(row(&one).0, Pass, "{component}");
            one.roles.clear();
            assert_eq!(row(&one).0, Fail, "{component}");
        }
    }
}
