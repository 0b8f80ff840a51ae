//! Where the files of a cluster are, and the names of its kernel objects.

use std::path::{Path, PathBuf};

use super::super::error::{ProviderError, Result};

pub const STATE_ROOT: &str = "/var/lib/mettle";
const NAME_CHARS_MAX: usize = 20;

/// Everything of one cluster lives under one directory that only root can read.
#[derive(Debug, Clone)]
pub struct Layout {
    name: String,
}

impl Layout {
    pub fn new(name: &str) -> Result<Self> {
        let ok = name.len() <= NAME_CHARS_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !ok {
            return Err(ProviderError::BadName { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn root(&self) -> PathBuf {
        Path::new(STATE_ROOT).join(&self.name)
    }

    pub fn record(&self) -> PathBuf {
        self.root().join("cluster.json")
    }

    pub fn lock(&self) -> PathBuf {
        Path::new(STATE_ROOT).join(format!("{}.lock", self.name))
    }

    pub fn pki(&self) -> PathBuf {
        self.root().join("pki")
    }

    pub fn logs(&self) -> PathBuf {
        self.root().join("logs")
    }

    pub fn bin(&self) -> PathBuf {
        self.root().join("bin")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("kubeconfig")
    }

    /// Directory of a member: a node, or [`CONTROL_PLANE`].
    pub fn member(&self, member: &str) -> PathBuf {
        self.root().join("nodes").join(member)
    }

    /// There once the API is ready and knows who may do what: servers that come earlier are turned away and die.
    pub fn api_ready(&self) -> PathBuf {
        self.member(CONTROL_PLANE).join("api-ready")
    }

    pub fn containerd_socket(&self, node: &str) -> PathBuf {
        self.member(node).join("containerd.sock")
    }

    /// Directory behind local PersistentVolume `index` of a node.
    pub fn volume(&self, node: &str, index: u8) -> PathBuf {
        self.member(node).join("pv").join(index.to_string())
    }

    pub fn netns(&self, member: &str) -> String {
        format!("mettle-{}-{member}", self.name)
    }

    pub fn netns_file(&self, member: &str) -> PathBuf {
        Path::new("/run/netns").join(self.netns(member))
    }

    /// The cluster's directory in every cgroup hierarchy, relative to its mount.
    pub fn cgroup(&self) -> String {
        format!("mettle-{}", self.name)
    }

    /// The node's own cgroup, the root of its pods.
    pub fn node_cgroup(&self, node: &str) -> String {
        format!("{}/{node}", self.cgroup())
    }

    /// The cgroup of a member's servers.
    pub fn system_cgroup(&self, member: &str) -> String {
        format!("{}/{member}-system", self.cgroup())
    }
}

/// The member that is not a node.
pub const CONTROL_PLANE: &str = "cp";

/// Name of node `index`, counted from 1.
pub fn node_name(index: u8) -> String {
    format!("n{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["mettle", "dev", "a-1"] {
            assert!(Layout::new(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "A", "1a", "a_b", "a/b", "x123456789012345678901"] {
            assert!(Layout::new(bad).is_err(), "{bad}");
        }
    }
}
