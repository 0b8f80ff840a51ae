//! How a local cluster is: its API, its nodes, every process with its memory and processor time.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;
use serde_json::Value;

use super::super::error::Result;
use super::bootstrap::kubectl;
use super::layout::{CONTROL_PLANE, Layout};
use super::node::{NodeState, member_state};
use super::processes;
use super::record::{Program, Record, read_json};
use super::tree::TreeState;

#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub name: String,
    pub kubernetes: String,
    pub created: String,
    pub kubeconfig: std::path::PathBuf,
    pub api_ready: bool,
    pub members: Vec<MemberStatus>,
    pub memory_bytes: u64,
    /// Processor time that all processes have used so far, s: Kubernetes', and the pods'.
    pub kubernetes_cpu_seconds: f64,
    pub pods_cpu_seconds: f64,
    pub programs: BTreeMap<String, Program>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    pub name: String,
    pub power: NodeState,
    /// What Kubernetes says of the node; absent for the control plane and while the API does not answer.
    pub ready: Option<bool>,
    pub processes: Vec<ProcessStatus>,
    /// Pods' processes, all together.
    pub pods_memory_bytes: u64,
    pub pods_cpu_seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct ProcessStatus {
    pub name: String,
    pub pid: Option<i32>,
    pub memory_bytes: u64,
    pub cpu_seconds: f64,
    pub restarts: u32,
    pub last_exit: Option<String>,
}

/// Nothing when there is no such cluster.
pub fn status(layout: &Layout) -> Result<Option<ClusterStatus>> {
    let Some(record) = Record::load(layout)? else { return Ok(None) };
    let api_ready = kubectl(layout).args(["get", "--raw", "/readyz", "--request-timeout=2s"]).run().is_ok();
    let ready = if api_ready { nodes_ready(layout) } else { BTreeMap::new() };
    let names = std::iter::once(CONTROL_PLANE.to_owned()).chain(record.nodes());
    let members: Vec<MemberStatus> =
        names.map(|name| member(layout, &name, ready.get(&name).copied())).collect::<Result<_>>()?;
    let memory_bytes = members
        .iter()
        .map(|one| one.pods_memory_bytes + one.processes.iter().map(|p| p.memory_bytes).sum::<u64>())
        .sum();
    let of_kubernetes = members.iter().flat_map(|one| &one.processes).map(|process| process.cpu_seconds);
    let kubernetes_cpu_seconds = of_kubernetes.sum();
    let pods_cpu_seconds = members.iter().map(|one| one.pods_cpu_seconds).sum();
    Ok(Some(ClusterStatus {
        name: record.name,
        kubernetes: record.kubernetes,
        created: record.created,
        kubeconfig: layout.kubeconfig(),
        api_ready,
        members,
        memory_bytes,
        kubernetes_cpu_seconds,
        pods_cpu_seconds,
        programs: record.programs,
    }))
}

fn nodes_ready(layout: &Layout) -> BTreeMap<String, bool> {
    let text = kubectl(layout)
        .args(["get", "nodes", "-o", "json", "--request-timeout=5s"])
        .run()
        .unwrap_or_default();
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .filter_map(|item| Some((item["metadata"]["name"].as_str()?.to_owned(), is_ready(item))))
        .collect()
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

fn member(layout: &Layout, name: &str, ready: Option<bool>) -> Result<MemberStatus> {
    let power = member_state(layout, name);
    let netns = layout.netns_file(name);
    let state: Option<TreeState> = read_json(&layout.member(name).join("state.json"))?;
    let listed = state.filter(|_| power == NodeState::On).map(|state| state.processes).unwrap_or_default();
    let processes = listed
        .into_iter()
        .map(|process| {
            let pid = process.pid.and_then(|inner| processes::outer_pid(&netns, inner));
            let (memory_bytes, cpu_seconds) = pid.and_then(processes::usage).unwrap_or_default();
            let (restarts, last_exit) = (process.restarts, process.last_exit);
            ProcessStatus { name: process.name, pid, memory_bytes, cpu_seconds, restarts, last_exit }
        })
        .collect();
    let pods = processes::in_cgroup(&layout.node_cgroup(name));
    let (mut pods_memory_bytes, mut pods_cpu_seconds) = (0, 0.0);
    for (bytes, seconds) in pods.into_iter().filter_map(processes::usage) {
        pods_memory_bytes += bytes;
        pods_cpu_seconds += seconds;
    }
    Ok(MemberStatus { name: name.to_owned(), power, ready, processes, pods_memory_bytes, pods_cpu_seconds })
}

/// Where the members' logs are, for a person who wants to know more.
pub fn logs(layout: &Layout) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(layout.logs()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_of_a_node() {
        let node = |status: &str| {
            serde_json::json!({ "status": { "conditions": [
            { "type": "MemoryPressure", "status": "False" }, { "type": "Ready", "status": status } ] } })
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")));
        assert!(!is_ready(&serde_json::json!({})));
    }
}
