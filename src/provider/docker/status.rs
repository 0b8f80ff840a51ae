//! How a cluster's containers are. What Kubernetes says of the nodes is asked of its API.

use std::path::PathBuf;

use serde::Serialize;

use super::super::error::Result;
use super::super::host::Host;
use super::engine;
use super::flavour::Flavour;
use super::record::{Place, Standing, foreign, standing};

#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub name: String,
    pub provider: &'static str,
    pub created: String,
    pub kubeconfig: PathBuf,
    pub members: Vec<MemberStatus>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    pub name: String,
    pub role: String,
    pub running: bool,
    /// Of its first process, on this machine.
    pub pid: Option<u32>,
}

/// Nothing when there is no such cluster.
pub fn status(host: &Host, flavour: Flavour, name: &str) -> Result<Option<ClusterStatus>> {
    let place = Place::new(host, flavour, name)?;
    let Some(record) = place.load()? else { return Ok(None) };
    engine::engine(host)?;
    let containers = engine::containers(host, flavour, name)?;
    match standing(flavour, Some(&record), &containers) {
        Standing::Foreign(why) => return Err(foreign(flavour, name, why)),
        Standing::Nothing | Standing::HalfMade => return Ok(None),
        Standing::Ours => {}
    }
    let members = containers.into_iter().map(|one| MemberStatus {
        name: one.name,
        role: one.role,
        running: one.running,
        pid: (one.pid > 0).then_some(one.pid),
    });
    Ok(Some(ClusterStatus {
        name: place.name.clone(),
        provider: flavour.name(),
        created: record.created,
        kubeconfig: place.kubeconfig(),
        members: members.collect(),
    }))
}
