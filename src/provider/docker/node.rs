//! Power of a cluster's nodes. These calls block; asynchronous callers use a blocking task.

use super::super::error::{ProviderError, Result};
use super::super::handle::ClusterHandle;
use super::super::host::Host;
use super::super::local::node::NodeState;
use super::engine;
use super::flavour::Flavour;
use super::record::{Place, Record};
use super::up;

const READY_SECONDS: u64 = 120;

/// Kills a node's container; one that is off stays off.
pub fn kill(host: &Host, flavour: Flavour, cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (_, id) = find(host, flavour, cluster, node)?;
    engine::power_off(host, flavour, &id)
}

/// Starts it again and waits until Kubernetes calls the node ready. Its disk is as it was: kubelet and containerd come
/// up with the container, and start its pods.
pub fn start(host: &Host, flavour: Flavour, cluster: &ClusterHandle, node: &str) -> Result<()> {
    let (record, id) = find(host, flavour, cluster, node)?;
    engine::power_on(host, flavour, &id)?;
    up::await_node(host, flavour, &record, node, READY_SECONDS)
}

pub fn state(host: &Host, flavour: Flavour, cluster: &ClusterHandle, node: &str) -> Result<NodeState> {
    let (_, id) = find(host, flavour, cluster, node)?;
    let running = engine::inspect(host, flavour, &[&id])?.iter().all(|one| one.running);
    Ok(if running { NodeState::On } else { NodeState::Off })
}

/// By the id that we recorded: a container of that name which somebody made later is not touched.
fn find(host: &Host, flavour: Flavour, cluster: &ClusterHandle, node: &str) -> Result<(Record, String)> {
    let place = Place::new(host, flavour, &cluster.name)?;
    let record = place.load()?.ok_or_else(|| ProviderError::NotStanding { name: cluster.name.clone() })?;
    let id = record.workers(flavour).find(|member| member.name == node).map(|member| member.id.clone());
    match id {
        Some(id) => Ok((record, id)),
        None => Err(ProviderError::NoSuchNode {
            name: cluster.name.clone(),
            node: node.to_owned(),
            nodes: cluster.nodes.join(", "),
        }),
    }
}
