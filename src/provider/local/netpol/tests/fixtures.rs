//! Small worlds, written as the API's own YAML.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

use crate::provider::local::netpol::policy::{Limits, World, judge};
use crate::provider::local::netpol::render::render;

pub const NODE: &str = "node-1";

/// A cluster whose objects we own.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub pods: Vec<Pod>,
    pub namespaces: Vec<Namespace>,
    pub policies: Vec<NetworkPolicy>,
}

impl Objects {
    /// The shop's `web`, `api`, `db` on our node and `job` on another; `metrics` of the namespace `watch`
    /// elsewhere too.
    pub fn shop(policies: &[&str]) -> Self {
        Self {
            pods: vec![
                pod("shop", "web", "10.1.1.2", NODE, "web"),
                pod("shop", "api", "10.1.1.3", NODE, "api"),
                pod("shop", "db", "10.1.1.4", NODE, "db"),
                pod("shop", "job", "10.1.2.2", "node-2", "job"),
                pod("watch", "metrics", "10.1.2.3", "node-2", "metrics"),
            ],
            namespaces: vec![namespace("shop", "product"), namespace("watch", "platform")],
            policies: policies.iter().map(|text| policy(text)).collect(),
        }
    }

    pub fn world(&self) -> World<'_> {
        World {
            node: NODE,
            pods: self.pods.iter().collect(),
            namespaces: self.namespaces.iter().collect(),
            policies: self.policies.iter().collect(),
        }
    }

    pub fn render(&self) -> String {
        render(&judge(&self.world(), &Limits::default()).expect("a small world"))
    }
}

/// A running pod that serves `http` on 8080/TCP and `dns` on 5353/UDP.
pub fn pod(namespace: &str, name: &str, address: &str, node: &str, app: &str) -> Pod {
    let ports = json!([
        {"name": "http", "containerPort": 8080},
        {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
    ]);
    let value = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": ports}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    });
    serde_json::from_value(value).expect("a pod")
}

pub fn namespace(name: &str, team: &str) -> Namespace {
    let labels = json!({"kubernetes.io/metadata.name": name, "team": team});
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a namespace")
}

/// A policy of the namespace `shop`, from its spec.
pub fn policy(spec: &str) -> NetworkPolicy {
    let mut policy = NetworkPolicy::default();
    policy.metadata.namespace = Some("shop".to_owned());
    policy.metadata.name = Some(format!("policy-{}", spec.len()));
    policy.spec = Some(serde_saphyr::from_str(spec).expect("a spec"));
    policy
}
