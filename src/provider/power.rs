//! Power over nodes, whoever made the cluster.

use super::docker::{self, Flavour};
use super::error::{ProviderError, Result};
use super::handle::ClusterHandle;
use super::host::Host;
use super::local;
use crate::provider::ProviderKind;

pub use super::local::node::NodeState;

/// Powers a node off at once; one that is off stays off. Blocks.
pub fn kill(cluster: &ClusterHandle, node: &str) -> Result<()> {
    match whose(cluster)? {
        None => local::node::kill(cluster, node),
        Some(flavour) => docker::node::kill(&Host::this(), flavour, cluster, node),
    }
}

/// Powers a node on again; one that is on stays on. Blocks.
pub fn start(cluster: &ClusterHandle, node: &str) -> Result<()> {
    match whose(cluster)? {
        None => local::node::start(cluster, node),
        Some(flavour) => docker::node::start(&Host::this(), flavour, cluster, node),
    }
}

pub fn state(cluster: &ClusterHandle, node: &str) -> Result<NodeState> {
    match whose(cluster)? {
        None => local::node::state(cluster, node),
        Some(flavour) => docker::node::state(&Host::this(), flavour, cluster, node),
    }
}

/// The flavour of a cluster of containers; absent for a local one.
fn whose(cluster: &ClusterHandle) -> Result<Option<Flavour>> {
    match cluster.kind {
        ProviderKind::Local => Ok(None),
        ProviderKind::Kind | ProviderKind::K3d => Ok(Flavour::of(cluster.kind)),
        ProviderKind::Current => Err(ProviderError::NoNodeControl("current")),
    }
}
