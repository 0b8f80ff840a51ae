//! Reads the cluster into a [`Snapshot`]. Roles are not here: a component's own protocol says them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodTemplateSpec, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::ClusterError;
use crate::model::{
    Component, NodeInfo, ObjectInfo, ObjectRef, PodInfo, ServiceInfo, Snapshot, WorkloadInfo,
};

/// The label by which a pod says what it is.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// Lists are bounded; a stack of ours is far smaller.
const LIMIT: u32 = 2000;

/// One value of a secret. It may be a password: never for a log or a report.
///
/// # Errors
/// When the secret cannot be read, has no such key, or holds no text there.
pub async fn secret_text(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<String, ClusterError> {
    let what = format!("read secret {namespace}/{name}");
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await;
    let secret = secret.map_err(ClusterError::api(what.clone()))?;
    let Some(value) = secret.data.and_then(|mut data| data.remove(key)) else {
        return Err(ClusterError::state(what, format!("it has no key {key}")));
    };
    // Not with the error's own words: they hold the bytes.
    String::from_utf8(value.0).map_err(|_| ClusterError::state(what, format!("its {key} is no text")))
}

/// Nodes, namespaces, and the pods and workloads of `namespace`.
///
/// # Errors
/// When the API does not answer or refuses.
pub async fn snapshot(client: &Client, namespace: &str) -> Result<Snapshot, ClusterError> {
    let list = ListParams::default().limit(LIMIT);
    let namespaces = Api::<Namespace>::all(client.clone());
    let nodes = Api::<Node>::all(client.clone());
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let (namespaces, nodes, pods, deployments, sets) = tokio::try_join!(
        namespaces.list(&list),
        nodes.list(&list),
        pods.list(&list),
        deployments.list(&list),
        sets.list(&list),
    )
    .map_err(ClusterError::api(format!("list the objects of namespace {namespace}")))?;
    let services = services(client, namespace).await?;
    let objects = objects(client, namespace).await?;
    let pods: Vec<PodInfo> = pods.items.iter().map(pod_info).collect();
    let workloads =
        deployments.items.iter().map(deployment_info).chain(sets.items.iter().map(set_info)).collect();
    Ok(Snapshot {
        namespaces: namespaces
            .items
            .into_iter()
            .map(|ns| (ns.name_any(), ns.metadata.labels.unwrap_or_default()))
            .collect(),
        pods,
        nodes: nodes.items.iter().map(node_info).collect(),
        workloads,
        roles: Vec::new(),
        services,
        objects,
    })
}

async fn services(client: &Client, namespace: &str) -> Result<Vec<ServiceInfo>, ClusterError> {
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let list = services.list(&ListParams::default().limit(LIMIT)).await;
    let list = list.map_err(ClusterError::api(format!("list the services of namespace {namespace}")))?;
    let infos = list.items.into_iter().map(|service| ServiceInfo {
        namespace: namespace.to_owned(),
        name: service.name_any(),
        selector: service.spec.and_then(|spec| spec.selector).unwrap_or_default(),
    });
    Ok(infos.collect())
}

/// Kinds that faults look into, with the field that says what they are about.
const LOOKED_INTO: [(&str, &str, &str); 4] = [
    ("networking.istio.io/v1", "VirtualService", "spec"),
    ("networking.istio.io/v1", "DestinationRule", "spec"),
    ("networking.k8s.io/v1", "NetworkPolicy", "spec"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "subjects"),
];

/// Of a kind that there is not, a fault that needs one finds no match.
async fn objects(client: &Client, namespace: &str) -> Result<Vec<ObjectInfo>, ClusterError> {
    let reads = LOOKED_INTO.map(|(api_version, kind, field)| async move {
        let any = ObjectRef::new(api_version, kind, Some(namespace), "");
        let items = super::object::list(client, &any, &ListParams::default().limit(LIMIT)).await?;
        let infos = items.into_iter().map(|mut item| ObjectInfo {
            object: ObjectRef { name: item.name_any(), ..any.clone() },
            component: component_of(item.labels()),
            spec: item.data.get_mut(field).map(serde_json::Value::take).unwrap_or_default(),
        });
        Ok(infos.collect::<Vec<_>>())
    });
    Ok(futures::future::try_join_all(reads).await?.concat())
}

pub fn pod_info(pod: &Pod) -> PodInfo {
    let status = pod.status.as_ref();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    let containers = statuses.into_iter().flatten().map(|container| {
        (
            container.name.clone(),
            (container.container_id.clone().unwrap_or_default(), container.restart_count),
        )
    });
    PodInfo {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        ip: status.and_then(|status| status.pod_ip.clone()),
        ready: is_ready(pod),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        component: component_of(&labels),
        labels,
        controller: controller_of(pod.metadata.owner_references.as_deref()),
        containers: containers.collect(),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn component_of(labels: &BTreeMap<String, String>) -> Option<Component> {
    labels.get(NAME_LABEL).and_then(|name| Component::from_label(name))
}

/// A ReplicaSet is named by its Deployment: `backend-5d8f` → `ReplicaSet/backend-5d8f`.
fn controller_of(owners: Option<&[OwnerReference]>) -> Option<String> {
    let owner = owners?.iter().find(|owner| owner.controller == Some(true))?;
    Some(format!("{}/{}", owner.kind, owner.name))
}

pub fn node_info(node: &Node) -> NodeInfo {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    NodeInfo {
        name: node.name_any(),
        ready: conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
        unschedulable: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        labels: node.metadata.labels.clone().unwrap_or_default(),
    }
}

/// Whether the controller's word is of the object as it is now.
#[must_use]
pub fn is_current(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    observed >= metadata.generation
}

pub fn deployment_info(deployment: &Deployment) -> WorkloadInfo {
    let status = deployment.status.as_ref().map(|status| Rollout {
        is_current: is_current(&deployment.metadata, status.observed_generation),
        pods: status.replicas.unwrap_or(0),
        present: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
    });
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.map_or(0, Rollout::ready);
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    workload("Deployment", &deployment.metadata, template, desired, ready)
}

pub fn set_info(set: &StatefulSet) -> WorkloadInfo {
    let status = set.status.as_ref().map(|status| Rollout {
        is_current: is_current(&set.metadata, status.observed_generation),
        pods: status.replicas,
        present: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
    });
    let desired = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.map_or(0, Rollout::ready);
    workload("StatefulSet", &set.metadata, set.spec.as_ref().map(|spec| &spec.template), desired, ready)
}

/// How far a controller is with what its object says now.
struct Rollout {
    is_current: bool,
    pods: i32,
    /// Of these, pods of the present template.
    present: i32,
    ready: i32,
}

impl Rollout {
    /// So many pods of the present template are ready, at the least: pods of yesterday's template may be all of the
    /// ready ones, and a controller that has not looked yet speaks of yesterday's object.
    fn ready(self) -> i32 {
        if !self.is_current {
            return 0;
        }
        (self.ready - (self.pods - self.present).max(0)).max(0)
    }
}

fn workload(
    kind: &str,
    metadata: &ObjectMeta,
    template: Option<&PodTemplateSpec>,
    desired: i32,
    ready: i32,
) -> WorkloadInfo {
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let containers = template.and_then(|template| template.spec.as_ref()).map(|spec| &spec.containers);
    WorkloadInfo {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: format!("{kind}/{}", metadata.name.as_deref().unwrap_or_default()),
        component: metadata.labels.as_ref().and_then(component_of),
        desired,
        ready,
        labels,
        containers: containers.into_iter().flatten().map(|container| container.name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectMeta, Rollout, is_current};

    #[test]
    fn pods_of_yesterdays_template_are_not_ready() {
        for (observed, pods, present, ready, expected) in [
            (2, 6, 6, 6, 6),
            (2, 6, 6, 5, 5),
            (1, 6, 6, 6, 0),
            (2, 6, 1, 5, 0),
            (2, 6, 5, 6, 5),
            (2, 4, 3, 3, 2),
            (2, 3, 0, 3, 0),
            (2, 0, 0, 0, 0),
        ] {
            let metadata = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
            let is_current = is_current(&metadata, Some(observed));
            let rollout = Rollout { is_current, pods, present, ready };
            assert_eq!(rollout.ready(), expected, "{observed} {pods} {present} {ready}");
        }
    }
}
