//! What nft must know, as data, and the names that things have there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

use super::pods::Protocol;
use super::ranges::Ranges;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ingress => "in",
            Self::Egress => "out",
        }
    }
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    Anyone,
    /// The addresses of this set of the ruleset.
    Set(String),
}

/// One reason to let a packet through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Whatever is sent.
    Everything(Peers),
    /// Every port of these protocols.
    Protocols(Peers, BTreeSet<Protocol>),
    /// These destination ports.
    Ports(Peers, Protocol, Ranges),
    /// The destinations of this set: each peer's own number of a named port.
    Destinations(String),
}

/// The pod's rules in one direction, in which some policy isolates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub direction: Direction,
    pub namespace: String,
    pub pod: String,
    pub address: Ipv4Addr,
    pub allows: Vec<Allow>,
}

pub type Destination = (Ipv4Addr, Protocol, u16);

/// Everything that nft must know. Ordered, so that equal worlds give equal text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub address_sets: BTreeMap<String, Ranges>,
    pub destination_sets: BTreeMap<String, BTreeSet<Destination>>,
    pub chains: BTreeMap<String, Chain>,
    pub local_pods: usize,
}

/// The name of the chain, and of the counter, of a pod in one direction.
#[must_use]
pub fn chain_name(direction: Direction, namespace: &str, pod: &str) -> String {
    format!("{}_{}", direction.prefix(), hash(namespace, pod))
}

/// 64 bits of SHA-256: neither part can hold the separator.
pub(super) fn hash(namespace: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{namespace}/{name}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
