//! Planning against a large cluster: every fault of the catalogue against 10,000 pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use mettle::model::{
    Component, Experiment, Limits, NodeInfo, PodInfo, Rehearsal, Role, RoleFact, RunId, Seed, Snapshot,
    WorkloadInfo,
};
use mettle::run::resolve;

const PODS: usize = 10_000;
const NODES: usize = 200;
const BYTES_MAX: u64 = 200 << 20;

fn labels(component: Component) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name".to_owned(), component.as_str().to_owned())].into()
}

fn pod(i: usize) -> PodInfo {
    let component = Component::ALL[i % Component::ALL.len()];
    PodInfo {
        namespace: "ai-platform".to_owned(),
        name: format!("ai-platform-{component}-{i}"),
        uid: format!("6f1a2b3c-0000-4000-8000-{i:012}"),
        node: Some(format!("n{}", i % NODES)),
        ip: Some(format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255)),
        ready: true,
        terminating: false,
        labels: labels(component),
        component: Some(component),
        controller: Some(format!("StatefulSet/ai-platform-{component}")),
        containers: [(component.as_str().to_owned(), (format!("containerd://{i:064}"), 0))].into(),
    }
}

fn large() -> Snapshot {
    let chaos = [("mettle.dev/chaos".to_owned(), "allowed".to_owned())];
    let workload = |component: &Component| WorkloadInfo {
        namespace: "ai-platform".to_owned(),
        name: format!("StatefulSet/ai-platform-{component}"),
        component: Some(*component),
        desired: 500,
        ready: 500,
        labels: labels(*component),
        containers: vec![component.as_str().to_owned()],
    };
    let pods: Vec<PodInfo> = (0..PODS).map(pod).collect();
    let of = |component: Component| pods.iter().filter(move |pod| pod.component == Some(component));
    let stores = of(Component::Redis).chain(of(Component::Postgres)).enumerate();
    let roles = stores.map(|(i, pod)| RoleFact {
        component: pod.component.expect("it has one"),
        role: if i % 2 == 0 { Role::Primary } else { Role::Replica },
        pod: pod.name.clone(),
        slots: vec![(0, 16383)],
        leads: Vec::new(),
        follows: Vec::new(),
        source: "its own word".to_owned(),
    });
    let roles = roles.collect();
    let node = |i: usize| NodeInfo {
        name: format!("n{i}"),
        ready: true,
        unschedulable: false,
        labels: [("topology.kubernetes.io/zone".to_owned(), format!("z{i}"))].into(),
    };
    Snapshot {
        namespaces: [("ai-platform".to_owned(), chaos.into())].into(),
        nodes: (0..NODES).map(node).collect(),
        workloads: Component::ALL.iter().map(workload).collect(),
        pods,
        roles,
        ..Snapshot::default()
    }
}

#[test]
fn the_catalogue_is_planned_against_ten_thousand_pods() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/rehearsals/catalogue.yaml");
    let rehearsal = Rehearsal::read(&path).expect("it is right");
    let snapshot = large();
    let (mut planned, mut slowest) = (0, 0.0f64);
    for fault in rehearsal.faults {
        let name = fault.kind.as_str();
        let experiment = serde_json::json!({ "name": "x", "scenario": "x", "faults": [fault], "expect": [] });
        let mut experiment: Experiment = serde_json::from_value(experiment).expect("it is one");
        experiment.limits = Limits {
            pods: 1000,
            nodes: 10,
            workloads: 1,
            objects: 4,
            control_plane: true,
            ..Limits::default()
        };
        let started = Instant::now();
        // Objects of the mesh are not in it: those faults find nothing, after they have looked at everything.
        planned += usize::from(resolve(&experiment, &RunId("r".to_owned()), Seed(1), &snapshot).is_ok());
        let seconds = started.elapsed().as_secs_f64();
        if seconds > slowest {
            slowest = seconds;
            eprintln!("{name}: {:.1} ms", seconds * 1000.0);
        }
    }
    assert!(planned > 45, "only {planned} were planned");
    let status = std::fs::read_to_string("/proc/self/status").expect("its own state");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    let kilobytes: u64 = peak.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    eprintln!(
        "{planned} faults planned against {PODS} pods, the slowest in {:.1} ms, {} MB at the most",
        slowest * 1000.0,
        kilobytes >> 10
    );
    assert!(kilobytes << 10 < BYTES_MAX, "{kilobytes} kB");
}
