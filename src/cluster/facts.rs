//! Reads what a probe of a foreign experiment asks for.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{ListParams, ObjectList};
use kube::{Api, Client, ResourceExt};

use super::ClusterError;
use crate::model::{Facts, NodeFact, PodFact, Reading, WorkloadFact};

/// A list is whole, or it is no answer.
const LIMIT: u32 = 2000;

/// # Errors
/// When the API does not answer or refuses, and when there are more objects than are read.
pub async fn read_facts(client: &Client, reading: &Reading) -> Result<Facts, ClusterError> {
    let by = |labels: &str, name: &str| {
        let list = ListParams::default().limit(LIMIT);
        let list = if labels.is_empty() { list } else { list.labels(labels) };
        if name.is_empty() { list } else { list.fields(&format!("metadata.name={name}")) }
    };
    let mut facts = Facts::default();
    match reading {
        Reading::Pods { namespace, labels } => {
            let api = Api::<Pod>::namespaced(client.clone(), namespace);
            let pods = listed(api.list(&by(labels, "")).await, "pods", namespace)?;
            facts.pods = pods.iter().map(pod).collect();
        }
        Reading::Deployments { namespace, name, labels } => {
            let api = Api::<Deployment>::namespaced(client.clone(), namespace);
            let all = listed(api.list(&by(labels, name)).await, "deployments", namespace)?;
            let facts_of = all.iter().map(|one| {
                let (spec, status) = (one.spec.as_ref(), one.status.as_ref());
                let wanted = spec.and_then(|spec| spec.replicas);
                let ready = status.and_then(|status| status.ready_replicas);
                let available = status.and_then(|status| status.available_replicas);
                workload(one.name_any(), [wanted, ready, available])
            });
            facts.workloads = facts_of.collect();
        }
        Reading::StatefulSets { namespace, name, labels } => {
            let api = Api::<StatefulSet>::namespaced(client.clone(), namespace);
            let all = listed(api.list(&by(labels, name)).await, "stateful sets", namespace)?;
            let facts_of = all.iter().map(|one| {
                let (spec, status) = (one.spec.as_ref(), one.status.as_ref());
                let wanted = spec.and_then(|spec| spec.replicas);
                let ready = status.and_then(|status| status.ready_replicas);
                let available = status.and_then(|status| status.available_replicas);
                workload(one.name_any(), [wanted, ready, available])
            });
            facts.workloads = facts_of.collect();
        }
        Reading::Services { namespace, name, labels } => {
            let api = Api::<Service>::namespaced(client.clone(), namespace);
            let all = listed(api.list(&by(labels, name)).await, "services", namespace)?;
            facts.services = all.iter().map(ResourceExt::name_any).collect();
        }
        Reading::Nodes { labels } => {
            let api = Api::<Node>::all(client.clone());
            let all = listed(api.list(&by(labels, "")).await, "nodes", "the cluster")?;
            facts.nodes = all.iter().map(node).collect();
        }
    }
    Ok(facts)
}

/// As the API leaves them out: one is wanted unless another number is, none is ready unless some are.
fn workload(name: String, [wanted, ready, available]: [Option<i32>; 3]) -> WorkloadFact {
    WorkloadFact {
        name,
        wanted: wanted.unwrap_or(1),
        ready: ready.unwrap_or(0),
        available: available.unwrap_or(0),
    }
}

fn listed<T: Clone>(
    list: Result<ObjectList<T>, kube::Error>,
    what: &str,
    of: &str,
) -> Result<Vec<T>, ClusterError> {
    let list = list.map_err(ClusterError::api(format!("list the {what} of {of}")))?;
    if list.metadata.continue_.as_deref().is_some_and(|more| !more.is_empty()) {
        let why = format!("there are more than {LIMIT}: narrow the selector");
        return Err(ClusterError::State { what: format!("list the {what} of {of}"), why });
    }
    Ok(list.items)
}

fn pod(pod: &Pod) -> PodFact {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    PodFact {
        name: pod.name_any(),
        phase: status.phase.unwrap_or_default(),
        conditions: conditions.into_iter().map(|one| (one.type_, one.status)).collect(),
    }
}

fn node(node: &Node) -> NodeFact {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
    NodeFact { name: node.name_any(), ready }
}
