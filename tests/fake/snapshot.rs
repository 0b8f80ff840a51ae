//! What the API says of the in-memory cluster, and when two such words are the same.

use std::collections::{BTreeMap, BTreeSet};

use mettle::model::{
    Component, Leadership, NodeInfo, ObjectInfo, ObjectRef, PodInfo, Role, RoleFact, ServiceInfo, Snapshot,
    WorkloadInfo,
};
use serde_json::json;

use super::group::Group;
use super::state::{NAMESPACE, Node, Pod, State};

impl State {
    pub fn snapshot(&self) -> Snapshot {
        let allowed = [("mettle.dev/chaos".to_owned(), "allowed".to_owned())];
        let labels = allowed.into_iter().filter(|_| self.behaviour.labelled).collect();
        Snapshot {
            namespaces: [(NAMESPACE.to_owned(), labels), ("kube-system".to_owned(), BTreeMap::new())].into(),
            pods: self.pods.iter().map(pod_info).collect(),
            nodes: self.nodes.iter().map(node_info).collect(),
            workloads: self.workloads(),
            roles: self.roles(),
            services: services(),
            objects: objects(),
        }
    }

    pub fn workloads(&self) -> Vec<WorkloadInfo> {
        let ready = |controller: &String| {
            self.pods
                .iter()
                .filter(|pod| pod.controller == *controller && pod.ready && !pod.terminating)
                .count()
        };
        let workloads = self.desired.iter().map(|(name, (component, desired))| WorkloadInfo {
            namespace: NAMESPACE.to_owned(),
            name: name.clone(),
            component: Some(*component),
            desired: *desired,
            ready: i32::try_from(ready(name)).expect("a few"),
            labels: labels(*component),
            containers: vec![component.as_str().to_owned()],
        });
        workloads.collect()
    }

    /// One fact a member: where it is a member of several groups, what it is in each.
    fn roles(&self) -> Vec<RoleFact> {
        let mut roles: Vec<RoleFact> = Vec::new();
        for group in &self.groups {
            for mut fact in self.roles_in(group) {
                if group.component.leadership() != Leadership::Parts {
                    roles.push(fact);
                    continue;
                }
                let led = fact.role == Role::Primary;
                fact.role = Role::Any;
                if !roles.iter().any(|known| known.pod == fact.pod) {
                    roles.push(fact.clone());
                }
                let known = roles.iter_mut().find(|known| known.pod == fact.pod).expect("it is there now");
                if led { &mut known.leads } else { &mut known.follows }.push(group.scope.clone());
            }
        }
        roles
    }

    fn roles_in(&self, group: &Group) -> Vec<RoleFact> {
        let serving = group.members.iter().filter(|name| self.pod(name).is_some_and(|pod| self.serves(pod)));
        let role = |name: &String| match self.leader(group) {
            Some(leader) if leader == name => Role::Primary,
            _ => Role::Replica,
        };
        let facts = serving.map(|name| RoleFact {
            component: group.component,
            role: role(name),
            pod: name.clone(),
            slots: group.slots.clone(),
            leads: Vec::new(),
            follows: Vec::new(),
            source: "its own word".to_owned(),
        });
        facts.collect()
    }
}

fn pod_info(pod: &Pod) -> PodInfo {
    let id = format!("{}/{}", pod.uid, pod.incarnation);
    PodInfo {
        namespace: NAMESPACE.to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: Some(pod.node.clone()),
        ip: Some("10.0.0.1".to_owned()),
        ready: pod.ready,
        terminating: pod.terminating,
        labels: labels(pod.component),
        component: Some(pod.component),
        controller: Some(pod.controller.clone()),
        containers: [(pod.component.as_str().to_owned(), (id, 0))].into(),
    }
}

fn node_info(node: &Node) -> NodeInfo {
    let zone = if node.name == "n1" { "a" } else { "b" };
    let labels = [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into();
    NodeInfo { name: node.name.clone(), ready: node.ready, unschedulable: false, labels }
}

fn labels(component: Component) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), component.as_str().to_owned())]);
    if component == Component::Inference {
        labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
    }
    labels
}

fn services() -> Vec<ServiceInfo> {
    let service = |component: Component| ServiceInfo {
        namespace: NAMESPACE.to_owned(),
        name: format!("ai-platform-{component}"),
        selector: labels(component),
    };
    [Component::Backend, Component::Inference].map(service).into()
}

/// What faults on objects find: each belongs to inference.
fn objects() -> Vec<ObjectInfo> {
    let object = |group: &str, kind: &str, spec| ObjectInfo {
        object: ObjectRef::new(group, kind, Some(NAMESPACE), "ai-platform-inference"),
        component: Some(Component::Inference),
        spec,
    };
    vec![
        object(
            "networking.istio.io/v1",
            "VirtualService",
            json!({ "http": [{ "route": [{ "destination": { "host": "ai-platform-inference" } }] }] }),
        ),
        object("networking.istio.io/v1", "DestinationRule", json!({ "host": "ai-platform-inference.x" })),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({ "podSelector": { "matchLabels": labels(Component::Inference) }, "ingress": [{}] }),
        ),
        object("rbac.authorization.k8s.io/v1", "RoleBinding", json!([{ "name": "x" }])),
    ]
}

/// Whether a cluster is what it was. Everything must be equal, except:
/// - a pod whose uid is in `replaceable` may have another uid, and another name if its controller is no StatefulSet;
/// - container ids and restart counts, and addresses of pods, which any restart changes;
/// - which member of a group leads: a group must have one leader and the same number of replicas, and each slot
///   an owner.
pub fn equal_but_for_replaced(
    before: &Snapshot,
    after: &Snapshot,
    replaceable: &BTreeSet<String>,
) -> Result<(), String> {
    let gone = before.pods.iter().filter(|pod| after.pods.iter().all(|other| other.uid != pod.uid));
    if let Some(pod) = gone.into_iter().find(|pod| !replaceable.contains(&pod.uid)) {
        return Err(format!("{} was replaced, though no change named it", pod.name));
    }
    let (before, after) = (normal(before), normal(after));
    if before == after { Ok(()) } else { Err(format!("before:\n{before:#?}\nafter:\n{after:#?}")) }
}

fn normal(snapshot: &Snapshot) -> Vec<String> {
    let pods = snapshot.pods.iter().map(|pod| {
        let keeps_name = pod.controller.as_deref().is_some_and(|controller| controller.starts_with("StatefulSet/"));
        let name = if keeps_name { pod.name.as_str() } else { "one" };
        let containers: Vec<&String> = pod.containers.keys().collect();
        let PodInfo { namespace, node, ready, terminating, labels, component, controller, .. } = pod;
        format!(
            "pod {namespace}/{name} {node:?} {ready} {terminating} {labels:?} {component:?} {controller:?} {containers:?}"
        )
    });
    let roles =
        snapshot.roles.iter().map(|fact| format!("{} {:?} {:?}", fact.component, fact.role, fact.slots));
    let mut all: Vec<String> = pods.chain(roles).collect();
    all.extend(snapshot.nodes.iter().map(|node| format!("{node:?}")));
    all.extend(snapshot.workloads.iter().map(|workload| format!("{workload:?}")));
    all.push(format!("{:?}", snapshot.namespaces));
    all.sort();
    all
}
