//! The stack's objects as the API tells them: plain JSON, of every kind that a row needs.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use crate::cluster::{ClusterError, PodAddress};

const OBJECTS_MAX: u32 = 2000;

/// Group, version, kind. Those of the mesh may be unknown to a cluster.
const KINDS: [(&str, &str, &str); 12] = [
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("networking.istio.io", "v1", "VirtualService"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("networking.istio.io", "v1", "Gateway"),
    ("security.istio.io", "v1", "PeerAuthentication"),
];

/// Kind → its objects, in one namespace.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub objects: BTreeMap<&'static str, Vec<Value>>,
}

impl Seen {
    /// # Errors
    /// When the API does not answer or refuses. A kind that it does not know has no objects.
    pub async fn read(client: &Client, namespace: &str) -> Result<Self, ClusterError> {
        let mut objects = BTreeMap::new();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
            let failed = ClusterError::api(format!("list every {kind} of {namespace}"));
            let list = api.list(&ListParams::default().limit(OBJECTS_MAX)).await.map_err(failed);
            let items = match list {
                Ok(list) => list.items,
                Err(error) if error.is_not_found() => Vec::new(),
                Err(error) => return Err(error),
            };
            let items = items.into_iter().filter_map(|item| serde_json::to_value(item).ok()).collect();
            objects.insert(kind, items);
        }
        Ok(Self { objects })
    }

    #[must_use]
    pub fn of(&self, kind: &str) -> &[Value] {
        self.objects.get(kind).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn named(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of(kind).iter().find(|object| object["metadata"]["name"] == name)
    }

    /// Where the pods with this label `app.kubernetes.io/name` are.
    #[must_use]
    pub fn addresses(&self, namespace: &str, app: &str) -> Vec<PodAddress> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let named = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/name"] == app;
        let pods = self.of("Pod").iter().filter(named);
        let address = pods.map(|pod| PodAddress {
            namespace: namespace.to_owned(),
            name: text(&pod["metadata"]["name"]).unwrap_or_default(),
            ip: text(&pod["status"]["podIP"]),
            node: text(&pod["spec"]["nodeName"]),
        });
        address.collect()
    }

    /// Pods that run, by their label `app.kubernetes.io/name`: name → how many.
    #[must_use]
    pub fn running(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for pod in self.of("Pod").iter().filter(|pod| pod["status"]["phase"] == "Running") {
            if let Some(name) = pod["metadata"]["labels"]["app.kubernetes.io/name"].as_str() {
                *count.entry(name).or_default() += 1;
            }
        }
        count
    }
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
