//! A second, naive reading of the API's text, and an interpreter of rulesets to hold against it.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::provider::local::netpol::pods::Protocol;
use crate::provider::local::netpol::policy::World;
use crate::provider::local::netpol::ranges::Ranges;
use crate::provider::local::netpol::ruleset::{Allow, Direction, Peers, Ruleset};
use crate::provider::local::netpol::selector::{Unreadable, selects};

/// The first packet of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
}

/// What nft does with the packet on our node, given the ruleset.
pub fn passes(ruleset: &Ruleset, packet: Packet) -> bool {
    let chains = ruleset.chains.values();
    let concerned = chains.filter(|chain| {
        chain.address
            == match chain.direction {
                Direction::Ingress => packet.to,
                Direction::Egress => packet.from,
            }
    });
    let mut verdicts = concerned.map(|chain| {
        let peer = match chain.direction {
            Direction::Ingress => packet.from,
            Direction::Egress => packet.to,
        };
        peer == chain.address || chain.allows.iter().any(|allow| lets(ruleset, allow, peer, packet))
    });
    verdicts.all(|verdict| verdict)
}

fn lets(ruleset: &Ruleset, allow: &Allow, peer: Ipv4Addr, packet: Packet) -> bool {
    let is_peer = |peers: &Peers| match peers {
        Peers::Anyone => true,
        Peers::Set(name) => ruleset.address_sets[name].contains(peer.to_bits()),
    };
    match allow {
        Allow::Everything(peers) => is_peer(peers),
        Allow::Protocols(peers, protocols) => is_peer(peers) && protocols.contains(&packet.protocol),
        Allow::Ports(peers, protocol, ports) => {
            is_peer(peers) && *protocol == packet.protocol && ports.contains(u32::from(packet.port))
        }
        Allow::Destinations(name) => {
            ruleset.destination_sets[name].contains(&(packet.to, packet.protocol, packet.port))
        }
    }
}

/// What the API's text says about the packet, as far as our node is to enforce it.
pub fn allowed(world: &World<'_>, packet: Packet) -> bool {
    let (from, to) = (pod_at(world, packet.from), pod_at(world, packet.to));
    if packet.from == packet.to {
        return true;
    }
    let here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(world.node);
    let egress = from.filter(here).is_none_or(|pod| side(world, "Egress", pod, packet.to, packet, to));
    let ingress = to.filter(here).is_none_or(|pod| side(world, "Ingress", pod, packet.from, packet, to));
    egress && ingress
}

fn pod_at<'a>(world: &World<'a>, address: Ipv4Addr) -> Option<&'a Pod> {
    let text = address.to_string();
    world.pods.iter().copied().find(|pod| {
        let status = pod.status.as_ref().expect("a status");
        let host = pod.spec.as_ref().expect("a spec").host_network == Some(true);
        status.pod_ip.as_ref() == Some(&text) && status.phase.as_deref() == Some("Running") && !host
    })
}

/// One side of the connection: the pod, in one direction, towards its peer.
fn side(
    world: &World<'_>,
    kind: &str,
    pod: &Pod,
    peer: Ipv4Addr,
    packet: Packet,
    destination: Option<&Pod>,
) -> bool {
    let isolating: Vec<(&str, &NetworkPolicySpec)> = world
        .policies
        .iter()
        .filter(|policy| policy.metadata.namespace == pod.metadata.namespace)
        .filter_map(|policy: &&NetworkPolicy| {
            Some((policy.metadata.namespace.as_deref()?, policy.spec.as_ref()?))
        })
        .filter(|(_, spec)| {
            let selector = spec.pod_selector.clone().unwrap_or_default();
            selects(&selector, &labels(pod), Unreadable::Selects)
        })
        .filter(|(_, spec)| match spec.policy_types.as_deref() {
            None | Some([]) => kind == "Ingress" || spec.egress.as_ref().is_some_and(|e| !e.is_empty()),
            Some(types) => types.iter().any(|name| name == kind),
        })
        .collect();
    isolating.is_empty()
        || isolating.iter().any(|(namespace, spec)| {
            let rule = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
                let peers = peers.clone().unwrap_or_default();
                let ports = ports.clone().unwrap_or_default();
                (peers.is_empty() || peers.iter().any(|p| peer_is(world, namespace, p, peer)))
                    && (ports.is_empty() || ports.iter().any(|p| port_is(p, packet, destination)))
            };
            match kind {
                "Ingress" => spec.ingress.iter().flatten().any(|r| rule(&r.from, &r.ports)),
                _ => spec.egress.iter().flatten().any(|r| rule(&r.to, &r.ports)),
            }
        })
}

fn peer_is(world: &World<'_>, namespace: &str, peer: &NetworkPolicyPeer, address: Ipv4Addr) -> bool {
    if let Some(block) = &peer.ip_block {
        let within = |cidr: &str| Ranges::block(cidr, &[]).contains(address.to_bits());
        return within(&block.cidr) && !block.except.iter().flatten().any(|hole| within(hole));
    }
    let Some(pod) = pod_at(world, address) else { return false };
    let home = pod.metadata.namespace.as_deref().unwrap_or_default();
    let right_namespace = match &peer.namespace_selector {
        None => home == namespace,
        Some(selector) => {
            world.namespaces.iter().filter(|candidate| candidate.metadata.name.as_deref() == Some(home)).any(
                |found| {
                    let labels = found.metadata.labels.clone().unwrap_or_default();
                    selects(selector, &labels, Unreadable::SelectsNothing)
                },
            )
        }
    };
    let pod_selector = peer.pod_selector.clone().unwrap_or_default();
    right_namespace && selects(&pod_selector, &labels(pod), Unreadable::SelectsNothing)
}

fn port_is(port: &NetworkPolicyPort, packet: Packet, destination: Option<&Pod>) -> bool {
    if port.protocol.as_deref().unwrap_or("TCP").to_lowercase() != packet.protocol.nft() {
        return false;
    }
    match &port.port {
        None => true,
        Some(IntOrString::Int(number)) => {
            (*number..=port.end_port.unwrap_or(*number)).contains(&i32::from(packet.port))
        }
        Some(IntOrString::String(name)) => {
            let spec = destination.and_then(|pod| pod.spec.as_ref());
            let containers = spec.map(|spec| spec.containers.clone()).unwrap_or_default();
            containers.iter().flat_map(|container| container.ports.iter().flatten()).any(|candidate| {
                candidate.name.as_ref() == Some(name)
                    && candidate.container_port == i32::from(packet.port)
                    && candidate.protocol.as_deref().unwrap_or("TCP").to_lowercase() == packet.protocol.nft()
            })
        }
    }
}

fn labels(pod: &Pod) -> std::collections::BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}
