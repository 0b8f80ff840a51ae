//! Power over nodes, whoever made the cluster.

use super::docker::{self, Flavour};
use super::error::{ProviderError, Result};
use super::handle::ClusterHandle;
use super::host::Host;
use super::local;
use crate::model::{ControlPlanePart, NodeHow};
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

/// Breaks a node in one way; it may be broken so already. Blocks.
pub fn break_node(cluster: &ClusterHandle, node: &str, how: NodeHow) -> Result<()> {
    match (how, whose(cluster)?) {
        (NodeHow::Off, _) => kill(cluster, node),
        (NodeHow::Freeze, None) => local::fault::freeze(cluster, node),
        (NodeHow::Isolate, None) => local::fault::isolate(cluster, node),
        (_, Some(_)) => {
            Err(ProviderError::NoNodeControl("kind and k3d (they have power over nodes, no more)"))
        }
    }
}

/// Takes exactly that back. Blocks.
pub fn restore_node(cluster: &ClusterHandle, node: &str, how: NodeHow) -> Result<()> {
    match (how, whose(cluster)?) {
        (NodeHow::Off, _) => start(cluster, node),
        (NodeHow::Freeze, None) => local::fault::thaw(cluster, node),
        (NodeHow::Isolate, None) => local::fault::connect(cluster, node),
        // It was refused.
        (_, Some(_)) => Ok(()),
    }
}

/// Stops a server of the control plane; what the kernel says of it then. Blocks.
pub fn pause(cluster: &ClusterHandle, part: ControlPlanePart) -> Result<String> {
    match whose(cluster)? {
        None => local::fault::pause(cluster, part),
        Some(_) => Err(ProviderError::NoNodeControl("kind and k3d (they have power over nodes, no more)")),
    }
}

/// Lets it go on. Blocks.
pub fn resume(cluster: &ClusterHandle, part: ControlPlanePart) -> Result<()> {
    match whose(cluster)? {
        None => local::fault::resume(cluster, part),
        Some(_) => Ok(()),
    }
}

/// Everything that is broken now, for people. Blocks.
pub fn broken(cluster: &ClusterHandle) -> Result<Vec<String>> {
    if whose(cluster)?.is_none() {
        return local::fault::broken(cluster);
    }
    let mut off = Vec::new();
    for node in &cluster.nodes {
        if state(cluster, node)? != NodeState::On {
            off.push(format!("node {node} is off"));
        }
    }
    Ok(off)
}

/// The flavour of a cluster of containers; absent for a local one.
fn whose(cluster: &ClusterHandle) -> Result<Option<Flavour>> {
    match cluster.kind {
        ProviderKind::Local => Ok(None),
        ProviderKind::Kind | ProviderKind::K3d => Ok(Flavour::of(cluster.kind)),
        ProviderKind::Current => Err(ProviderError::NoNodeControl("current")),
    }
}
