//! Reads what a probe of a foreign experiment asks for.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{ListParams, ObjectList};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

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
            facts.workloads = all.iter().map(workload).collect();
        }
        Reading::StatefulSets { namespace, name, labels } => {
            let api = Api::<StatefulSet>::namespaced(client.clone(), namespace);
            let all = listed(api.list(&by(labels, name)).await, "stateful sets", namespace)?;
            facts.workloads = all.iter().map(workload).collect();
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

/// A Deployment or a StatefulSet: both say it in the same fields. As the API leaves them out, one is wanted unless another
/// number is, and none is ready unless some are.
fn workload(one: &(impl ResourceExt + Serialize)) -> WorkloadFact {
    let value = serde_json::to_value(one).unwrap_or_default();
    let number = |path: &str| i32::try_from(value.pointer(path)?.as_i64()?).ok();
    WorkloadFact {
        name: one.name_any(),
        wanted: number("/spec/replicas").unwrap_or(1),
        ready: number("/status/readyReplicas").unwrap_or(0),
        available: number("/status/availableReplicas").unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_kinds_say_it_in_the_same_fields() {
        let numbers = |fact: WorkloadFact| (fact.name, [fact.wanted, fact.ready, fact.available]);
        let said = json!({
            "metadata": { "name": "a" },
            "spec": { "replicas": 3, "selector": {}, "template": {}, "serviceName": "s" },
            "status": { "replicas": 3, "readyReplicas": 2, "availableReplicas": 1 },
        });
        let deployment = serde_json::from_value::<Deployment>(said.clone()).unwrap();
        let set = serde_json::from_value::<StatefulSet>(said).unwrap();
        assert_eq!(numbers(workload(&deployment)), ("a".to_owned(), [3, 2, 1]));
        assert_eq!(numbers(workload(&set)), ("a".to_owned(), [3, 2, 1]));
        let silent = serde_json::from_value::<Deployment>(json!({ "metadata": { "name": "b" } })).unwrap();
        assert_eq!(numbers(workload(&silent)), ("b".to_owned(), [1, 0, 0]));
    }
}
