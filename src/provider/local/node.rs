//! Power of the members: on, off, and how they are. Used by `up`, by `mettle node` and by faults alike.
//!
//! These calls block for up to a few seconds; asynchronous callers use a blocking task.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;

use super::super::error::{ProviderError, Result, exec, io};
use super::super::exec::Exec;
use super::super::handle::ClusterHandle;
use super::cgroup;
use super::control_plane::ControlPlane;
use super::layout::{CONTROL_PLANE, Layout};
use super::lock::Lock;
use super::network::Network;
use super::processes;
use super::record::{Record, write_json};
use super::tree::TreeSpec;
use super::weight::{self, Weight};
use super::worker::Worker;
use crate::provider::ProviderKind;

const KILL_PATIENCE: Duration = Duration::from_secs(15);
const START_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its processes run; whether Kubernetes calls it ready is another question.
    On,
    Off,
}

/// Powers a node off at once: its cable is pulled, then every process on it dies. One that is off stays off.
pub fn kill(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, record, index) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    power_off(&layout, &record, index)
}

/// Powers a node on again, as after a reboot: its disk is as it was, everything volatile is gone. One that is on
/// stays on. Returns once its processes start; the caller waits for Kubernetes to call it ready.
pub fn start(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, record, index) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    power_on(&layout, &record, index)
}

pub fn state(cluster: &ClusterHandle, node: &str) -> Result<NodeState> {
    let (layout, ..) = find(cluster, node)?;
    Ok(member_state(&layout, node))
}

pub fn member_state(layout: &Layout, member: &str) -> NodeState {
    match processes::tree_root(&layout.netns_file(member)) {
        Some(_) => NodeState::On,
        None => NodeState::Off,
    }
}

/// A lock a node, so that a fault may kill one while another starts.
pub(super) fn lock(layout: &Layout, node: &str) -> Result<Lock> {
    let path = layout.member(node).join("power.lock");
    Lock::acquire(&path, layout.name(), LOCK_PATIENCE)
}

pub(super) fn find(cluster: &ClusterHandle, node: &str) -> Result<(Layout, Record, u8)> {
    if cluster.kind != ProviderKind::Local {
        return Err(ProviderError::NoNodeControl("current"));
    }
    let layout = Layout::new(&cluster.name)?;
    let record =
        Record::load(&layout)?.ok_or_else(|| ProviderError::NotStanding { name: cluster.name.clone() })?;
    let nodes = record.nodes();
    let position = nodes.iter().position(|name| name == node);
    let index =
        position.and_then(|at| u8::try_from(at + 1).ok()).ok_or_else(|| ProviderError::NoSuchNode {
            name: cluster.name.clone(),
            node: node.to_owned(),
            nodes: nodes.join(", "),
        })?;
    Ok((layout, record, index))
}

fn power_off(layout: &Layout, record: &Record, index: u8) -> Result<()> {
    let node = super::layout::node_name(index);
    Network::new(layout, record.networks()).unplug(&node)?;
    let netns = layout.netns_file(&node);
    // Process 1 first: with it the kernel kills the whole tree at once, as a power cut does.
    processes::kill_all(&node, KILL_PATIENCE, || processes::tree_root(&netns).into_iter().collect())?;
    kill_member(layout, &node)
}

/// Kills whatever is left of a member, wherever it hides.
pub fn kill_member(layout: &Layout, member: &str) -> Result<()> {
    let netns = layout.netns_file(member);
    processes::kill_all(member, KILL_PATIENCE, || {
        let mut found: BTreeSet<i32> = processes::in_netns(&netns).into_iter().collect();
        found.extend(processes::in_cgroup(&layout.node_cgroup(member)));
        found.extend(processes::in_cgroup(&layout.system_cgroup(member)));
        found.remove(&i32::try_from(std::process::id()).unwrap_or(0));
        found
    })
}

/// Starts a node that is off; its configuration must have been written.
pub fn power_on(layout: &Layout, record: &Record, index: u8) -> Result<()> {
    let worker = Worker { layout, nets: record.networks(), index };
    let node = worker.name();
    if member_state(layout, &node) == NodeState::On {
        return Ok(());
    }
    kill_member(layout, &node)?;
    cgroup::remove(&layout.node_cgroup(&node), CGROUP_PATIENCE)?;
    if layout.member(&node).join("state.json").exists() {
        Network::new(layout, record.networks()).renew_node(index)?;
    }
    cgroup::create(&layout.node_cgroup(&node))?;
    let procs = cgroup::create(&layout.system_cgroup(&node))?;
    let mut weights = weight::of(&layout.node_cgroup(&node), weight::PODS)?;
    weights.extend(weight::of(&layout.system_cgroup(&node), weight::SYSTEM)?);
    weights.iter().try_for_each(Weight::boot)?;
    let boot_id = fresh_uuid()?;
    launch(layout, &TreeSpec { weights, ..worker.spec(procs, &boot_id) })
}

/// Starts the control plane when it is off; its configuration must have been written.
pub fn power_on_control_plane(layout: &Layout, record: &Record) -> Result<()> {
    if member_state(layout, CONTROL_PLANE) == NodeState::On {
        return Ok(());
    }
    kill_member(layout, CONTROL_PLANE)?;
    let procs = cgroup::create(&layout.system_cgroup(CONTROL_PLANE))?;
    // Nodes boot after it, and need it.
    weight::of(&layout.system_cgroup(CONTROL_PLANE), weight::SYSTEM)?.iter().try_for_each(Weight::serve)?;
    launch(layout, &ControlPlane { layout, nets: record.networks() }.spec(procs))
}

fn fresh_uuid() -> Result<String> {
    let file = Path::new("/proc/sys/kernel/random/uuid");
    Ok(fs::read_to_string(file).map_err(io("read", file))?.trim().to_owned())
}

/// Starts process 1 of a tree in its namespaces, in no session and under no parent of ours.
fn launch(layout: &Layout, tree: &TreeSpec) -> Result<()> {
    let member = &tree.member;
    let spec = layout.member(member).join("supervise.json");
    write_json(&spec, tree)?;
    let log = layout.logs().join(format!("{member}-supervise.log"));
    let log_file = open_log(&log)?;
    let netns = layout.netns_file(member);
    let line = format!(
        "--fork nsenter --net={} unshare --mount --pid --fork --uts --ipc --mount-proc --propagation private \
         --kill-child {} internal supervise --spec {}",
        netns.display(),
        layout.bin().join("mettle").display(),
        spec.display(),
    );
    let start = format!("start the processes of {member}");
    let status = std::process::Command::new("setsid")
        .args(line.split_whitespace())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log_file.try_clone().map_err(io("write", &log))?)
        .stderr(log_file)
        .status()
        .map_err(io("start", Path::new("setsid")))?;
    if !status.success() {
        let error = super::super::exec::ExecError::Failed {
            command: format!("setsid {line}"),
            status: status.to_string(),
            stderr: format!("see {}", log.display()),
        };
        return Err(exec(start)(error));
    }
    wait_for_root(&netns, member, &log)
}

fn open_log(path: &Path) -> Result<fs::File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(io("open", path))
}

fn wait_for_root(netns: &Path, member: &str, log: &Path) -> Result<()> {
    let deadline = std::time::Instant::now() + START_PATIENCE;
    while processes::tree_root(netns).is_none() {
        if std::time::Instant::now() >= deadline {
            let what = format!("process 1 of {member} has not started");
            let detail = format!(": see {}", log.display());
            return Err(ProviderError::Deadline { what, seconds: START_PATIENCE.as_secs(), detail });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How long a killed node's start may take until its containerd answers; used by `up`.
pub fn wait_containerd(layout: &Layout, node: &str) -> Result<()> {
    let socket = layout.containerd_socket(node);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let answered = socket.exists()
            && Exec::new("ctr")
                .arg("--address")
                .arg(&socket)
                .args(["--timeout", "2s", "version"])
                .run()
                .is_ok();
        if answered {
            return Ok(());
        }
        if std::time::Instant::now() >= deadline {
            let what = format!("containerd of {node} does not answer");
            let log = layout.logs().join(format!("{node}-containerd.log"));
            return Err(ProviderError::Deadline {
                what,
                seconds: 30,
                detail: format!(": see {}", log.display()),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
