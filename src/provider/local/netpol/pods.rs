//! The cluster's pods as NetworkPolicies see them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::selector::Labels;

/// The protocols that NetworkPolicies know, by nft's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

impl Protocol {
    /// TCP when absent, `None` when unknown.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    #[must_use]
    pub fn nft(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A live pod with an IPv4 address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    pub namespace: String,
    pub name: String,
    pub address: Ipv4Addr,
    pub labels: Labels,
    /// Ports of its containers that have a name.
    pub named_ports: BTreeMap<String, BTreeSet<(Protocol, u16)>>,
    /// Whether it runs on our node.
    pub local: bool,
}

impl PodView {
    /// The port that a policy's name means on this pod.
    pub fn named_port(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> + '_ {
        let ports = self.named_ports.get(name).into_iter().flatten();
        ports.filter(move |(candidate, _)| *candidate == protocol).map(|(_, port)| *port)
    }
}

/// The pods that policies judge, by address. Not among them: pods on the host's network (they have the
/// node's address), finished pods and pods without an address. Should two pods claim one address, the
/// one created last has it.
#[must_use]
pub fn by_address(node: &str, pods: &[&Pod]) -> BTreeMap<Ipv4Addr, PodView> {
    let mut ordered: Vec<&Pod> = pods.to_vec();
    ordered.sort_by_cached_key(|pod| {
        let meta = &pod.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    });
    ordered.into_iter().filter_map(|pod| view(node, pod)).map(|view| (view.address, view)).collect()
}

fn view(node: &str, pod: &Pod) -> Option<PodView> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if finished || spec.host_network == Some(true) {
        return None;
    }
    let others = status.pod_ips.iter().flatten().map(|pod_ip| &pod_ip.ip);
    let address = status.pod_ip.iter().chain(others).find_map(|ip| ip.parse::<Ipv4Addr>().ok())?;
    // Init containers count: a sidecar is one that keeps running.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    Some(PodView {
        namespace: pod.metadata.namespace.clone()?,
        name: pod.metadata.name.clone()?,
        address,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        named_ports: named_ports(containers),
        local: spec.node_name.as_deref() == Some(node),
    })
}

fn named_ports<'a>(
    containers: impl Iterator<Item = &'a Container>,
) -> BTreeMap<String, BTreeSet<(Protocol, u16)>> {
    let mut named: BTreeMap<String, BTreeSet<(Protocol, u16)>> = BTreeMap::new();
    for port in containers.flat_map(|container| container.ports.iter().flatten()) {
        let (Some(name), Some(protocol)) = (&port.name, Protocol::parse(port.protocol.as_deref())) else {
            continue;
        };
        if let Ok(number @ 1..) = u16::try_from(port.container_port) {
            named.entry(name.clone()).or_default().insert((protocol, number));
        }
    }
    named
}
