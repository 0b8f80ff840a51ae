//! Snapshots for the tests of this module.

use std::collections::BTreeMap;

use crate::fault::ALLOWED_LABEL;
use crate::model::{
    Component, NodeInfo, PodInfo, Role, RoleFact, ServiceInfo, Snapshot, TargetSpec, WorkloadInfo,
};

pub fn target(component: Component) -> TargetSpec {
    TargetSpec { component: Some(component), count: 1, ..TargetSpec::default() }
}

/// Three nodes; redis-0..2 primaries of a third of the slots each, redis-3..5 their replicas.
pub fn redis_snapshot() -> Snapshot {
    let thirds = [(0, 5460), (5461, 10922), (10923, 16383)];
    let labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "redis".to_owned())]);
    let pod = |i: usize| PodInfo {
        namespace: "ai-platform".into(),
        name: format!("redis-{i}"),
        uid: format!("uid-redis-{i}"),
        node: Some(format!("n{}", i % 3 + 1)),
        ip: Some(format!("10.0.0.{i}")),
        ready: true,
        terminating: false,
        labels: labels.clone(),
        component: Some(Component::Redis),
        controller: Some("StatefulSet/redis".into()),
        containers: BTreeMap::from([("redis".to_owned(), (format!("id-{i}"), 0))]),
    };
    let node = |i: usize| NodeInfo {
        name: format!("n{i}"),
        ready: true,
        unschedulable: false,
        labels: BTreeMap::new(),
    };
    let fact = |i: usize| RoleFact {
        component: Component::Redis,
        role: if i < 3 { Role::Primary } else { Role::Replica },
        pod: format!("redis-{i}"),
        slots: vec![thirds[i % 3]],
        leads: Vec::new(),
        follows: Vec::new(),
        source: "CLUSTER NODES".into(),
    };
    Snapshot {
        namespaces: BTreeMap::from([(
            "ai-platform".to_owned(),
            BTreeMap::from([(ALLOWED_LABEL.0.to_owned(), ALLOWED_LABEL.1.to_owned())]),
        )]),
        pods: (0..6).map(pod).collect(),
        nodes: (1..=3).map(node).collect(),
        workloads: vec![WorkloadInfo {
            namespace: "ai-platform".into(),
            name: "StatefulSet/redis".into(),
            component: Some(Component::Redis),
            desired: 6,
            ready: 6,
            labels: labels.clone(),
            containers: vec!["redis".into()],
        }],
        roles: (0..6).map(fact).collect(),
        services: vec![ServiceInfo {
            namespace: "ai-platform".into(),
            name: "redis".into(),
            selector: labels,
        }],
        objects: Vec::new(),
    }
}
