//! The objects that every cluster starts with: nodes' addresses, DNS, the metrics API, rights, storage.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::error::{ProviderError, Result, exec, io};
use super::super::exec::{Exec, ExecError};
use super::config::{METRICS_PORT, base64};
use super::layout::{Layout, node_name};
use super::net::{NODES, Networks};
use super::pki::{Authority, Pki};
use super::storage;

const API_PATIENCE: Duration = Duration::from_secs(60);
const APPLY_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// kubectl as the administrator.
pub fn kubectl(layout: &Layout) -> Exec {
    Exec::new(layout.bin().join("kubectl")).arg("--kubeconfig").arg(layout.kubeconfig())
}

/// Waits until the API says that it is ready.
pub fn wait_api(layout: &Layout) -> Result<()> {
    let deadline = Instant::now() + API_PATIENCE;
    loop {
        let error = match kubectl(layout).args(["get", "--raw", "/readyz", "--request-timeout=5s"]).run() {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            let log = layout.logs().join("cp-kube-apiserver.log");
            let detail = format!(": {error}; its log is {}", log.display());
            let what = "the API server is not ready".to_owned();
            return Err(ProviderError::Deadline { what, seconds: API_PATIENCE.as_secs(), detail });
        }
        thread::sleep(POLL);
    }
}

/// Applies the objects; again and again for a while, since the API makes its own namespaces a little after it is ready.
pub fn apply(layout: &Layout, nets: Networks) -> Result<()> {
    let authority = Pki::new(layout.pki()).ca(Authority::Cluster);
    let authority = fs::read(&authority).map_err(io("read", &authority))?;
    let mut items = objects(nets, &base64(&authority));
    items.extend(storage::objects(layout));
    apply_list(layout, items)
}

pub fn apply_list(layout: &Layout, items: Vec<Value>) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let deadline = Instant::now() + APPLY_PATIENCE;
    loop {
        let args = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=mettle",
            "--validate=false",
            "-f",
            "-",
        ];
        match kubectl(layout).args(args).stdin(list.clone()).run() {
            Ok(_) => return Ok(()),
            Err(ExecError::Failed { .. }) if Instant::now() < deadline => thread::sleep(POLL),
            Err(error) => return Err(exec("apply the cluster's first objects")(error)),
        }
    }
}

/// Waits until every node is ready, and until pods can be made: each needs its namespace's service account.
pub fn wait_nodes(layout: &Layout, patience: Duration) -> Result<()> {
    let timeout = format!("--timeout={}s", patience.as_secs());
    kubectl(layout)
        .args(["wait", "--for=condition=Ready", "nodes", "--all", &timeout])
        .deadline(patience + Duration::from_secs(5))
        .run()
        .map_err(exec(format!("see every node ready (logs are in {})", layout.logs().display())))?;
    kubectl(layout)
        .args(["wait", "--for=create", "serviceaccount/default", &timeout])
        .deadline(patience + Duration::from_secs(5))
        .run()
        .map_err(exec("see the controllers at work"))?;
    Ok(())
}

fn objects(nets: Networks, authority: &str) -> Vec<Value> {
    let mut items: Vec<Value> = (1..=NODES).map(|index| node(nets, index)).collect();
    items.extend(dns(nets));
    items.extend(metrics(nets, authority));
    items.extend(rights());
    items
}

/// The kubelet finds its node there, with the pods' network that its CNI plugin uses.
fn node(nets: Networks, index: u8) -> Value {
    let pods = nets.node_pods(index).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node_name(index), "labels": {
            "kubernetes.io/hostname": node_name(index),
            "node-role.kubernetes.io/worker": "",
        } },
        "spec": { "podCIDR": pods, "podCIDRs": [pods] },
    })
}

fn service(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "kube-system", "labels": { "k8s-app": name } },
        "spec": spec,
    })
}

/// A Service of a process that is no pod.
fn endpoints(service: &str, nets: Networks, ports: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": service, "namespace": "kube-system", "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "mettle",
        } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [nets.control_plane()], "conditions": { "ready": true } }],
        "ports": ports,
    })
}

fn dns(nets: Networks) -> [Value; 2] {
    let ports = json!([
        { "name": "dns", "protocol": "UDP", "port": 53 },
        { "name": "dns-tcp", "protocol": "TCP", "port": 53 },
    ]);
    let spec = json!({ "clusterIP": nets.dns_service(), "ports": ports });
    [service("kube-dns", spec), endpoints("kube-dns", nets, ports)]
}

fn metrics(nets: Networks, authority: &str) -> [Value; 3] {
    let port = json!([{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": METRICS_PORT }]);
    let end = json!([{ "name": "https", "protocol": "TCP", "port": METRICS_PORT }]);
    let api = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1beta1.metrics.k8s.io" },
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "name": "metrics-server", "namespace": "kube-system" },
            "caBundle": authority,
        },
    });
    [service("metrics-server", json!({ "ports": port })), endpoints("metrics-server", nets, end), api]
}

fn role(name: &str, rules: Value) -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

fn rights() -> Vec<Value> {
    let read = json!(["get", "list", "watch"]);
    vec![
        binding("mettle:kubelet-api", "system:kubelet-api-admin", "kube-apiserver-kubelet-client"),
        role(
            "mettle:coredns",
            json!([
                { "apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read },
            ]),
        ),
        binding("mettle:coredns", "mettle:coredns", "system:coredns"),
        role(
            "mettle:netpol",
            json!([
                { "apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": read },
                { "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": read },
            ]),
        ),
        binding("mettle:netpol", "mettle:netpol", "mettle:netpol"),
        role(
            "mettle:metrics-server",
            json!([
                { "apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"] },
                { "apiGroups": [""], "resources": ["pods", "nodes"], "verbs": read },
            ]),
        ),
        binding("mettle:metrics-server", "mettle:metrics-server", "system:metrics-server"),
        binding("mettle:metrics-server:delegator", "system:auth-delegator", "system:metrics-server"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "mettle:metrics-server:reader", "namespace": "kube-system" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
                "name": "extension-apiserver-authentication-reader" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:metrics-server" }],
        }),
    ]
}

/// Removes what a path holds, and keeps the path.
pub fn empty_dir(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(io("read", dir))? {
        let entry = entry.map_err(io("read", dir))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io("read", dir))?);
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_objects() {
        insta::assert_json_snapshot!(objects(Networks::of_slot(0), "Q0E="));
    }
}
