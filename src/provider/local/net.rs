//! A cluster's networks, as pure data. A *slot* (0 to 15) sets them apart, so that clusters can stand side by side.

use std::net::Ipv4Addr;

use super::super::error::{ProviderError, Result};

pub const SLOTS: u8 = 16;
pub const NODES: u8 = 3;
const NODE_NET: u8 = 88;
const POD_NET: u8 = 120;
const SERVICE_NET: u8 = 160;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Networks {
    slot: u8,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub bits: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl Cidr {
    fn mask(bits: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
    }

    /// `a.b.c.d/n`, or an address alone.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, bits.parse().ok().filter(|bits| *bits <= 32)?),
            None => (text, 32),
        };
        Some(Self { base: base.parse().ok()?, bits })
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = Self::mask(self.bits.min(other.bits));
        u32::from(self.base) & mask == u32::from(other.base) & mask
    }
}

impl Networks {
    pub fn of_slot(slot: u8) -> Self {
        Self { slot }
    }

    pub fn slot(&self) -> u8 {
        self.slot
    }

    fn node_net(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, NODE_NET + self.slot, 0, last)
    }

    /// The network that nodes, control plane and this machine share.
    pub fn nodes(&self) -> Cidr {
        Cidr { base: self.node_net(0), bits: 24 }
    }

    pub fn host(&self) -> Ipv4Addr {
        self.node_net(1)
    }

    pub fn control_plane(&self) -> Ipv4Addr {
        self.node_net(10)
    }

    /// Address of node `index`, counted from 1.
    pub fn node(&self, index: u8) -> Ipv4Addr {
        self.node_net(10 + index)
    }

    pub fn pods(&self) -> Cidr {
        Cidr { base: Ipv4Addr::new(10, POD_NET + self.slot, 0, 0), bits: 16 }
    }

    pub fn node_pods(&self, index: u8) -> Cidr {
        Cidr { base: Ipv4Addr::new(10, POD_NET + self.slot, index, 0), bits: 24 }
    }

    pub fn services(&self) -> Cidr {
        Cidr { base: Ipv4Addr::new(10, SERVICE_NET + self.slot, 0, 0), bits: 16 }
    }

    fn service(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, SERVICE_NET + self.slot, 0, last)
    }

    pub fn api_service(&self) -> Ipv4Addr {
        self.service(1)
    }

    pub fn dns_service(&self) -> Ipv4Addr {
        self.service(10)
    }

    /// Hardware address of the interface with that last number on the nodes' network. Fixed, as a machine's is: a
    /// bridge otherwise changes its own when a port comes or goes, and a node would come back from a reboot with
    /// another; either way peers would send to the old one for half a minute.
    pub fn hardware_address(&self, last: u8) -> String {
        format!("02:6d:74:6c:{:02x}:{last:02x}", self.slot)
    }

    /// Name of this machine's end of the link into the cluster.
    pub fn host_link(&self) -> String {
        format!("mtl{}", self.slot)
    }

    fn all(&self) -> [Cidr; 3] {
        [self.nodes(), self.pods(), self.services()]
    }
}

/// The lowest slot that no other cluster has and that no route of the machine overlaps.
pub fn free_slot(taken: &[u8], routes: &[Cidr]) -> Result<Networks> {
    let mut reasons = Vec::new();
    for slot in 0..SLOTS {
        if taken.contains(&slot) {
            reasons.push(format!("slot {slot} is another cluster's"));
            continue;
        }
        let networks = Networks::of_slot(slot);
        match networks.all().iter().find_map(|net| routes.iter().find(|route| route.overlaps(net))) {
            Some(route) => reasons.push(format!("slot {slot} overlaps the machine's route {route}")),
            None => return Ok(networks),
        }
    }
    reasons.dedup();
    Err(ProviderError::NoSlot { reason: reasons.join("; ") })
}

/// The destinations in the output of `ip -4 route show table all`, except default, multicast and loopback routes.
pub fn parse_routes(text: &str) -> Vec<Cidr> {
    let kinds = ["local", "broadcast", "unreachable", "blackhole", "prohibit", "anycast", "unicast"];
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| !kinds.contains(word)))
        .filter_map(Cidr::parse)
        .filter(|route| route.bits > 0 && !route.base.is_loopback() && !route.base.is_multicast())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(list: &[&str]) -> Vec<Cidr> {
        list.iter().filter_map(|text| Cidr::parse(text)).collect()
    }

    #[test]
    fn the_first_free_slot_is_chosen() {
        let cases: &[(&[u8], &[&str], Option<u8>)] = &[
            (&[], &[], Some(0)),
            (&[0, 1], &[], Some(2)),
            (&[], &["192.168.0.0/16", "10.0.0.0/16"], Some(0)),
            (&[], &["10.88.0.0/16"], Some(1)),
            (&[1], &["10.88.0.7"], Some(2)),
            (&[], &["10.120.3.0/24", "10.161.0.0/20"], Some(2)),
            (&[], &["10.0.0.0/8"], None),
        ];
        for (taken, routes, expected) in cases {
            let slot = free_slot(taken, &cidrs(routes)).ok().map(|networks| networks.slot());
            assert_eq!(slot, *expected, "{taken:?} {routes:?}");
        }
    }

    #[test]
    fn no_slot_says_why() {
        let error = free_slot(&[0], &cidrs(&["10.0.0.0/8"])).unwrap_err().to_string();
        assert!(error.contains("slot 0 is another cluster's"), "{error}");
        assert!(error.contains("slot 1 overlaps the machine's route 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn routes_are_read() {
        let text = "default via 192.0.2.1 dev eth0\n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2\n\
                    local 127.0.0.0/8 dev lo table local\nunreachable 10.9.0.0/16\nlocal 192.0.2.2 dev eth0";
        let routes: Vec<String> = parse_routes(text).iter().map(Cidr::to_string).collect();
        assert_eq!(routes, ["192.0.2.0/24", "10.9.0.0/16", "192.0.2.2/32"]);
    }

    #[test]
    fn addresses_of_a_slot() {
        let networks = Networks::of_slot(2);
        assert_eq!(networks.nodes().to_string(), "10.90.0.0/24");
        assert_eq!(networks.node(3).to_string(), "10.90.0.13");
        assert_eq!(networks.node_pods(3).to_string(), "10.122.3.0/24");
        assert_eq!(networks.dns_service().to_string(), "10.162.0.10");
    }
}
