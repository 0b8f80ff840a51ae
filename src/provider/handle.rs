//! What the rest of mettle knows of a cluster that stands.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::docker::{self, Flavour};
use super::error::{ProviderError, Result};
use super::host::Host;
use super::local;
use crate::provider::ProviderKind;

/// A cluster that stands.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterHandle {
    pub name: String,
    #[serde(skip)]
    pub kind: ProviderKind,
    pub kubeconfig: PathBuf,
    /// Nodes that the provider can kill and start; empty when it cannot.
    pub nodes: Vec<String>,
    /// Address of this machine on the cluster's network: pods see it when they are called by their own address.
    pub harness_source: Option<IpAddr>,
    /// Address that pods see when this machine calls a *Service*: kube-proxy masquerades, so that answers
    /// come back the same way.
    pub service_source: Option<IpAddr>,
    pub service_cidr: Option<String>,
    pub pod_cidrs: Vec<String>,
}

/// The cluster of that name, when it stands. Blocks briefly: files, and one TCP connection or Docker; no API call.
pub fn open(kind: ProviderKind, name: &str) -> Result<ClusterHandle> {
    match kind {
        ProviderKind::Local => local::open(name),
        ProviderKind::Current => current(),
        ProviderKind::Kind => docker::open(&Host::this(), Flavour::Kind, name),
        ProviderKind::K3d => docker::open(&Host::this(), Flavour::K3d, name),
    }
}

/// The kubeconfig that kubectl would use. Nothing in it tells whether its nodes can be killed: they cannot.
fn current() -> Result<ClusterHandle> {
    let listed = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    let kubeconfig = match listed {
        Some(list) => std::env::split_paths(&list).next().unwrap_or_default(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".kube/config"),
    };
    if !kubeconfig.is_file() {
        let tried = format!("KUBECONFIG, {}", kubeconfig.display());
        return Err(ProviderError::NotFound { what: "a kubeconfig".to_owned(), tried });
    }
    Ok(ClusterHandle {
        name: "current".to_owned(),
        kind: ProviderKind::Current,
        kubeconfig,
        nodes: Vec::new(),
        harness_source: None,
        service_source: None,
        service_cidr: None,
        pod_cidrs: Vec::new(),
    })
}
