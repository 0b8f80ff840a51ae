//! What faults do to members beyond their power: processes that stop and go on, a cable that is pulled and put back.
//! Nothing of it is written down: what is broken is read from the kernel, so it is found after the loss of every file.
//!
//! These calls block; asynchronous callers use a blocking task.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::error::{ProviderError, Result};
use super::super::handle::ClusterHandle;
use super::layout::{CONTROL_PLANE, Layout};
use super::network::Network;
use super::node::{NodeState, find, lock, member_state};
use super::processes;
use super::record::Record;
use crate::model::ControlPlanePart;
use crate::provider::ProviderKind;

/// New processes may appear between a look and a stop.
const ROUNDS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// The kernel keeps so much of a command's name.
const NAME_MAX: usize = 15;

/// Stops every process of a node. One that is frozen stays so.
pub fn freeze(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, ..) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    for _ in 0..ROUNDS {
        let going: Vec<i32> =
            of_node(&layout, node).into_iter().filter(|pid| state(*pid) != Some('T')).collect();
        if going.is_empty() {
            return Ok(());
        }
        going.into_iter().for_each(|pid| signal(pid, Signal::SIGSTOP));
        thread::sleep(PAUSE);
    }
    // A process in the kernel's hands stops when they let go of it: the rest of the node hangs without it.
    Ok(())
}

/// Lets every process of a node go on.
pub fn thaw(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, ..) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    of_node(&layout, node).into_iter().for_each(|pid| signal(pid, Signal::SIGCONT));
    Ok(())
}

pub fn isolate(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, record, _) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    Network::new(&layout, record.networks()).unplug(node)
}

pub fn connect(cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (layout, record, _) = find(cluster, node)?;
    let _lock = lock(&layout, node)?;
    Network::new(&layout, record.networks()).plug(node)
}

/// Stops a server of the control plane; what the kernel says of it then.
pub fn pause(cluster: &ClusterHandle, part: ControlPlanePart) -> Result<String> {
    let layout = standing(cluster)?;
    let found = of_part(&layout, part);
    if found.is_empty() {
        return Err(ProviderError::Deadline {
            what: format!("{} does not run", part.as_str()),
            seconds: 0,
            detail: String::new(),
        });
    }
    found.iter().for_each(|pid| signal(*pid, Signal::SIGSTOP));
    thread::sleep(PAUSE);
    let stopped = found.iter().filter(|pid| state(**pid) == Some('T')).count();
    if stopped < found.len() {
        let what =
            format!("{} was told to stop, and {stopped} of {} processes have", part.as_str(), found.len());
        return Err(ProviderError::Deadline { what, seconds: 0, detail: String::new() });
    }
    Ok(format!("process {} ({}) is in state T", found[0], part.as_str()))
}

pub fn resume(cluster: &ClusterHandle, part: ControlPlanePart) -> Result<()> {
    let layout = standing(cluster)?;
    of_part(&layout, part).into_iter().for_each(|pid| signal(pid, Signal::SIGCONT));
    Ok(())
}

/// Nodes that are off, frozen or isolated, servers that are stopped; for people.
pub fn broken(cluster: &ClusterHandle) -> Result<Vec<String>> {
    let layout = standing(cluster)?;
    let record =
        Record::load(&layout)?.ok_or_else(|| ProviderError::NotStanding { name: cluster.name.clone() })?;
    let network = Network::new(&layout, record.networks());
    let mut broken = Vec::new();
    for node in record.nodes() {
        if member_state(&layout, &node) == NodeState::Off {
            broken.push(format!("node {node} is off"));
            continue;
        }
        let root = processes::tree_root(&layout.netns_file(&node));
        if root.and_then(state) == Some('T') {
            broken.push(format!("node {node} is frozen"));
        }
        if !network.is_plugged(&node) {
            broken.push(format!("node {node} is isolated"));
        }
    }
    for part in ControlPlanePart::ALL {
        if of_part(&layout, part).into_iter().any(|pid| state(pid) == Some('T')) {
            broken.push(format!("{} is stopped", part.as_str()));
        }
    }
    Ok(broken)
}

fn standing(cluster: &ClusterHandle) -> Result<Layout> {
    if cluster.kind != ProviderKind::Local {
        return Err(ProviderError::NoNodeControl("current"));
    }
    Layout::new(&cluster.name)
}

fn of_node(layout: &Layout, node: &str) -> BTreeSet<i32> {
    let mut found: BTreeSet<i32> = processes::in_netns(&layout.netns_file(node)).into_iter().collect();
    found.extend(processes::in_cgroup(&layout.node_cgroup(node)));
    found.extend(processes::in_cgroup(&layout.system_cgroup(node)));
    // Whoever entered the namespace to look at it.
    found.remove(&i32::try_from(std::process::id()).unwrap_or(0));
    found
}

fn of_part(layout: &Layout, part: ControlPlanePart) -> Vec<i32> {
    let name: String = part.as_str().chars().take(NAME_MAX).collect();
    let all = processes::in_netns(&layout.netns_file(CONTROL_PLANE)).into_iter();
    all.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
    .collect()
}

/// One letter, as in /proc/PID/stat.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().next()?.chars().next()
}

fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pid, %error, "failed to signal a process"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_told_to_is_in_state_t_until_it_is_told_to_go_on() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let becomes = |wanted: &[char]| {
            (0..200).any(|_| {
                thread::sleep(Duration::from_millis(10));
                state(pid).is_some_and(|now| wanted.contains(&now))
            })
        };
        signal(pid, Signal::SIGSTOP);
        assert!(becomes(&['T']));
        signal(pid, Signal::SIGCONT);
        assert!(becomes(&['S', 'R']));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state(i32::MAX), None);
    }
}
