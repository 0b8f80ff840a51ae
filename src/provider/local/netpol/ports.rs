//! The ports of NetworkPolicy rules.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods::{PodView, Protocol};
use super::ranges::Ranges;
use super::ruleset::{Allow, Peers};

/// What a rule allows by number, or by naming no ports at all. A port that makes no sense allows nothing.
pub fn numbered(peers: &Peers, ports: &[NetworkPolicyPort]) -> Vec<Allow> {
    if ports.is_empty() {
        return vec![Allow::Everything(peers.clone())];
    }
    let mut whole = BTreeSet::new();
    let mut ranges: BTreeMap<Protocol, Vec<(u32, u32)>> = BTreeMap::new();
    for port in ports {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
        match (&port.port, port.end_port) {
            (None, None) => {
                whole.insert(protocol);
            }
            (Some(IntOrString::Int(first)), last) => {
                let last = last.unwrap_or(*first);
                if let (Ok(first @ 1..), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    ranges.entry(protocol).or_default().push((u32::from(first), u32::from(last)));
                }
            }
            (None, Some(_)) | (Some(IntOrString::String(_)), _) => {}
        }
    }
    let mut allows = Vec::new();
    for (protocol, ranges) in ranges {
        let ranges = Ranges::new(ranges);
        if !whole.contains(&protocol) && !ranges.is_empty() {
            allows.push(Allow::Ports(peers.clone(), protocol, ranges));
        }
    }
    if !whole.is_empty() {
        allows.push(Allow::Protocols(peers.clone(), whole));
    }
    allows
}

/// What a rule allows by name on the pod that is the destination.
pub fn named_on(pod: &PodView, peers: &Peers, ports: &[NetworkPolicyPort]) -> Vec<Allow> {
    let mut numbers: BTreeMap<Protocol, Vec<(u32, u32)>> = BTreeMap::new();
    for (name, protocol) in ports.iter().filter_map(name_of) {
        let resolved = pod.named_port(name, protocol).map(|number| (u32::from(number), u32::from(number)));
        numbers.entry(protocol).or_default().extend(resolved);
    }
    let allows = numbers.into_iter().map(|(protocol, numbers)| (protocol, Ranges::new(numbers)));
    allows
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(protocol, ranges)| Allow::Ports(peers.clone(), protocol, ranges))
        .collect()
}

/// The name and protocol of a port that is given by name; a name cannot begin a range.
pub fn name_of(port: &NetworkPolicyPort) -> Option<(&str, Protocol)> {
    match (&port.port, port.end_port) {
        (Some(IntOrString::String(name)), None) => {
            Some((name.as_str(), Protocol::parse(port.protocol.as_deref())?))
        }
        _ => None,
    }
}
