//! [`Ruleset`] → the text of one nft transaction.
//!
//! Nothing that a user of the API chose gets into it as it is: addresses and ports are numbers that were
//! parsed, names of chains and sets are hashes, comments keep only the characters of DNS names.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::pods;
use super::policy::World;
use super::ranges::Ranges;
use super::ruleset::{Allow, Chain, Destination, Direction, Peers, Ruleset};

/// The one table that is ours.
pub const TABLE: &str = "inet mettle_netpol";

/// nft takes 128 bytes, with its own end mark.
const COMMENT_CHARS_MAX: usize = 120;

/// The transaction that makes our table be `ruleset`, whatever it was before.
#[must_use]
pub fn render(ruleset: &Ruleset) -> String {
    let mut body = String::new();
    for (name, chain) in &ruleset.chains {
        counter(&mut body, name, chain);
    }
    for (name, ranges) in &ruleset.address_sets {
        address_set(&mut body, name, ranges);
    }
    for (name, destinations) in &ruleset.destination_sets {
        destination_set(&mut body, name, destinations);
    }
    for (name, chain) in &ruleset.chains {
        pod_chain(&mut body, name, chain);
    }
    dispatch_map(&mut body, Direction::Ingress, ruleset);
    dispatch_map(&mut body, Direction::Egress, ruleset);
    // The sender's side first. `jump`, so that a packet between two pods of the node passes both.
    forward(&mut body, "\t\tip saddr vmap @egress\n\t\tip daddr vmap @ingress\n");
    transaction(&body)
}

/// What holds when the world is beyond our limits: no pod of the node reaches anything through the
/// forward hook, nor is reached.
#[must_use]
pub fn render_closed(world: &World<'_>) -> String {
    let local = pods::by_address(world.node, &world.pods).into_values().filter(|pod| pod.local);
    let addresses = Ranges::new(local.map(|pod| (pod.address.to_bits(), pod.address.to_bits())));
    let mut body = String::new();
    body.push_str("\tcounter closed {\n\t}\n");
    address_set(&mut body, "local_pods", &addresses);
    let drops = ["saddr", "daddr"].map(|end| format!("\t\tip {end} @local_pods counter name closed drop\n"));
    forward(&mut body, &drops.concat());
    transaction(&body)
}

/// Deleting what does not exist is an error to nft, so the table is added first.
fn transaction(body: &str) -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{body}}}\n")
}

/// After `dstnat`, so destinations are pods and not Services; kube-proxy's own filters have this hook too, and a
/// packet needs everyone's consent.
fn forward(body: &mut String, rules: &str) {
    body.push_str("\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n");
    body.push_str("\t\tct state established,related accept\n");
    body.push_str(rules);
    body.push_str("\t}\n");
}

fn counter(body: &mut String, name: &str, chain: &Chain) {
    let comment = comment(&format!("{}/{}", chain.namespace, chain.pod));
    let _ = writeln!(body, "\tcounter {name} {{\n\t\tcomment \"{comment}\"\n\t}}");
}

fn address_set(body: &mut String, name: &str, ranges: &Ranges) {
    let _ = writeln!(body, "\tset {name} {{\n\t\ttype ipv4_addr");
    if !ranges.is_points() {
        body.push_str("\t\tflags interval\n");
    }
    elements(
        body,
        ranges.iter().map(|range| numbers(range, |address| Ipv4Addr::from_bits(address).to_string())),
    );
    body.push_str("\t}\n");
}

fn destination_set(body: &mut String, name: &str, destinations: &BTreeSet<Destination>) {
    let _ = writeln!(body, "\tset {name} {{\n\t\ttype ipv4_addr . inet_proto . inet_service");
    let items = destinations.iter();
    elements(body, items.map(|(address, protocol, port)| format!("{address} . {} . {port}", protocol.nft())));
    body.push_str("\t}\n");
}

fn dispatch_map(body: &mut String, direction: Direction, ruleset: &Ruleset) {
    let name = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let chains = ruleset.chains.iter().filter(|(_, chain)| chain.direction == direction);
    let _ = writeln!(body, "\tmap {name} {{\n\t\ttype ipv4_addr : verdict");
    elements(body, chains.map(|(name, chain)| format!("{} : jump {name}", chain.address)));
    body.push_str("\t}\n");
}

/// nft refuses an empty list of elements, and takes a set without one.
fn elements(body: &mut String, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        let _ = writeln!(body, "\t\telements = {{\n\t\t\t{}\n\t\t}}", items.join(",\n\t\t\t"));
    }
}

fn pod_chain(body: &mut String, name: &str, chain: &Chain) {
    let _ = writeln!(body, "\tchain {name} {{");
    // A pod that reaches itself through a Service.
    let _ = writeln!(body, "\t\tip {} {} return", peer_end(chain.direction), chain.address);
    let mut seen = BTreeSet::new();
    for allow in &chain.allows {
        let line = allow_line(chain.direction, allow);
        if seen.insert(line.clone()) {
            let _ = writeln!(body, "\t\t{line}");
        }
    }
    let _ = writeln!(body, "\t\tcounter name {name} drop\n\t}}");
}

/// The end of the packet that is the peer.
fn peer_end(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    }
}

/// `return` lets the packet through: it goes back to the forward chain.
fn allow_line(direction: Direction, allow: &Allow) -> String {
    let from = |peers: &Peers| match peers {
        Peers::Anyone => String::new(),
        Peers::Set(name) => format!("ip {} @{name} ", peer_end(direction)),
    };
    match allow {
        Allow::Everything(peers) => format!("{}return", from(peers)),
        Allow::Protocols(peers, protocols) => {
            let names: Vec<&str> = protocols.iter().map(|protocol| protocol.nft()).collect();
            format!("{}meta l4proto {{ {} }} return", from(peers), names.join(", "))
        }
        Allow::Ports(peers, protocol, ports) => {
            let ports: Vec<String> =
                ports.iter().map(|range| numbers(range, |port| port.to_string())).collect();
            format!("{}{} dport {{ {} }} return", from(peers), protocol.nft(), ports.join(", "))
        }
        Allow::Destinations(name) => format!("ip daddr . meta l4proto . th dport @{name} return"),
    }
}

/// `7` or `7-9`.
fn numbers((first, last): (u32, u32), text: impl Fn(u32) -> String) -> String {
    if first == last { text(first) } else { format!("{}-{}", text(first), text(last)) }
}

fn comment(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "./-".contains(c) { c } else { '_' };
    text.chars().take(COMMENT_CHARS_MAX).map(safe).collect()
}
