//! A member of the cluster (a node, or the control plane) as data: the processes of one tree, what
//! process 1 of it reads when it starts, and what it writes while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::weight::Weight;

/// What `mettle internal supervise` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeSpec {
    pub member: String,
    pub hostname: String,
    /// `cgroup.procs` files of the cgroups that the tree joins.
    pub cgroup_procs: Vec<PathBuf>,
    /// Directory of the cluster; stays visible inside.
    pub state_dir: PathBuf,
    /// Directory that the tree sees as /var.
    pub var: PathBuf,
    /// Files that read as fixed text inside the tree. The kubelet sets sysctls of the whole machine
    /// unless they already read as it wants: here they do, and the machine's stay as they are.
    pub fixed: BTreeMap<PathBuf, String>,
    /// Left over by an earlier start; removed first.
    pub stale: Vec<PathBuf>,
    /// Where the state is written.
    pub state: PathBuf,
    pub processes: Vec<ProcessSpec>,
    /// Raised once the boot is over.
    #[serde(default)]
    pub weights: Vec<Weight>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    pub name: String,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub log: PathBuf,
    pub start: StartWhen,
}

/// What must be true before a process is started; one that starts too early only dies and backs off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartWhen {
    AtOnce,
    FileExists(PathBuf),
    PortOpen(SocketAddr),
}

/// What `mettle internal supervise` writes, at every change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeState {
    pub member: String,
    pub started_ms: u64,
    pub processes: Vec<ProcessState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    pub name: String,
    /// Process id inside the tree; absent while the process waits for its start.
    pub pid: Option<i32>,
    pub restarts: u32,
    pub last_exit: Option<String>,
}

impl ProcessSpec {
    pub fn new(name: &str, program: PathBuf, log: PathBuf) -> Self {
        let command = vec![program.display().to_string()];
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let env = BTreeMap::from([("PATH".to_owned(), path), ("HOME".to_owned(), "/root".to_owned())]);
        Self { name: name.to_owned(), command, env, log, start: StartWhen::AtOnce }
    }

    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn start(mut self, when: StartWhen) -> Self {
        self.start = when;
        self
    }
}
