//! What a provider can fail at.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::exec::ExecError;

pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

#[derive(Debug, Error)]
pub enum ProviderError {
    #[error("{program}: {problem}")]
    Program { program: String, problem: String, next_step: &'static str },
    #[error("{program} cluster {cluster} is not ours: {why}")]
    Foreign { program: &'static str, cluster: String, why: String },
    #[error("cluster {name} does not stand")]
    NotStanding { name: String },
    #[error("cluster {name} has no node {node} (it has {nodes})")]
    NoSuchNode { name: String, node: String, nodes: String },
    #[error("provider {0} cannot kill or start nodes")]
    NoNodeControl(&'static str),
    #[error("{name:?} is no name for a cluster: 1 to 20 of a-z, 0-9 and '-', starting with a letter")]
    BadName { name: String },
    #[error("another mettle works on cluster {name} ({path} is locked)")]
    Locked { name: String, path: PathBuf },
    #[error("no free slot for another cluster: {reason}")]
    NoSlot { reason: String },
    #[error("failed to {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to parse {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: String },
    #[error("failed to {action}")]
    Exec {
        action: String,
        #[source]
        source: ExecError,
    },
    #[error("failed to make certificate {name}")]
    Certificate {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("{what} not within {seconds} s{detail}")]
    Deadline { what: String, seconds: u64, detail: String },
    #[error("failed to find {what} in any of: {tried}")]
    NotFound { what: String, tried: String },
    #[error("this machine cannot run a local cluster: {0}")]
    Unfit(String),
    #[error("{0:?} is no prefix of a registry, such as registry.example/team")]
    BadRegistry(String),
    #[error("{0}")]
    Toolchain(String),
    #[error("something of cluster {name} is left: {left}")]
    Residue { name: String, left: String },
}

/// Turns an I/O error into one that names the file.
pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProviderError {
    let path = path.to_owned();
    move |source| ProviderError::Io { action, path, source }
}

/// Turns the failure of a command into one that says what it was for.
pub fn exec(action: impl Into<String>) -> impl FnOnce(ExecError) -> ProviderError {
    let action = action.into();
    move |source| ProviderError::Exec { action, source }
}
