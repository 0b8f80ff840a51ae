//! A local cluster that stands, as a handle.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::super::error::{ProviderError, Result};
use super::super::handle::ClusterHandle;
use super::config::API_PORT;
use super::layout::Layout;
use super::net::NODES;
use super::record::Record;
use crate::provider::ProviderKind;

const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The cluster of that name, when its API answers.
pub fn open(name: &str) -> Result<ClusterHandle> {
    let layout = Layout::new(name)?;
    let not_standing = || ProviderError::NotStanding { name: name.to_owned() };
    let record = Record::load(&layout)?.ok_or_else(not_standing)?;
    let api = SocketAddr::from((record.networks().control_plane(), API_PORT));
    TcpStream::connect_timeout(&api, CONNECT_DEADLINE).map_err(|_| not_standing())?;
    Ok(handle(&layout, &record))
}

pub fn handle(layout: &Layout, record: &Record) -> ClusterHandle {
    let nets = record.networks();
    ClusterHandle {
        name: record.name.clone(),
        kind: ProviderKind::Local,
        kubeconfig: layout.kubeconfig(),
        nodes: record.nodes(),
        harness_source: Some(nets.host().into()),
        service_source: Some(nets.control_plane().into()),
        service_cidr: Some(nets.services().to_string()),
        pod_cidrs: (1..=NODES).map(|index| nets.node_pods(index).to_string()).collect(),
    }
}
