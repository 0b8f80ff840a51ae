//! What operators expect of policies, tried.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;

use mettle::provider::local::netpol::apply::Applied;
use mettle::provider::local::netpol::ruleset::{Direction, chain_name};
use serde_json::{Value, json};

use super::net::{Net, PORTS, Reach, Who};

/// 5 ends to 4 others and the node to 5, on two ports.
const ALL: usize = (5 * 4 + 5) * 2;

fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// Of `open`, what reaches `to`.
fn into(open: &[String], to: &str) -> Vec<String> {
    open.iter().filter(|text| text.contains(&format!("→{to}:"))).cloned().collect()
}

fn out_of(open: &[String], from: &str) -> Vec<String> {
    open.iter().filter(|text| text.starts_with(&format!("{from}→"))).cloned().collect()
}

#[test]
#[ignore = "needs root and nft"]
fn a_policy_comes_into_force_and_goes_without_residue() {
    let mut net = Net::new();
    assert_eq!(net.open().len(), ALL, "everything connects before");
    assert_eq!(net.enforce(&[]), Applied::Changed);
    assert_eq!(net.open().len(), ALL, "a table without policies denies nothing");

    assert_eq!(net.enforce(&[json!({"podSelector": app("db")})]), Applied::Changed);
    let open = net.open();
    assert_eq!(into(&open, "db"), ["node→db:8080", "node→db:9090"], "only the node itself, for its probes");
    assert_eq!(out_of(&open, "db").len(), 8, "the isolated pod still reaches out");
    assert_eq!(open.len(), ALL - 8);
    assert_eq!(net.connect(Who::Db, Who::Node.address(), PORTS[0]).map(drop), Some(()), "and its node");
    assert!(net.dropped(&chain_name(Direction::Ingress, "shop", "db")) >= 8, "each denial was counted");

    assert_eq!(net.enforce(&[]), Applied::Changed);
    assert_eq!(net.open().len(), ALL, "everything connects after");
    assert_eq!(net.enforce(&[]), Applied::Unchanged);
}

#[test]
#[ignore = "needs root and nft"]
fn peers_and_ports_are_told_apart() {
    let mut net = Net::new();
    net.enforce(&[json!({"podSelector": app("db"), "ingress": [
        {"from": [{"podSelector": app("api")}], "ports": [{"port": "http"}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"team": "product"}}, "podSelector": app("job")}]},
        {"from": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.0/29"]}}]},
    ]})]);
    let expected = ["api→db:8080", "job→db:8080", "job→db:9090", "node→db:8080", "node→db:9090"];
    assert_eq!(into(&net.open(), "db"), expected);

    // The block without its exception, a range of ports; two policies add up.
    net.enforce(&[
        json!({"podSelector": app("db"), "ingress": [{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
            "ports": [{"port": 9000, "endPort": 9100}]}]}),
        json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web", "api"]}]},
            "ingress": [{"from": [{"podSelector": app("web")}], "ports": [{"protocol": "TCP"}]}]}),
        json!({"podSelector": app("db"), "ingress": [{"ports": [{"port": 8080, "protocol": "UDP"}]}]}),
    ]);
    let expected = ["web→db:8080", "web→db:9090", "outside→db:9090", "node→db:8080", "node→db:9090"];
    assert_eq!(into(&net.open(), "db"), expected);
}

#[test]
#[ignore = "needs root and nft"]
fn both_ends_on_a_node_must_agree() {
    let mut net = Net::new();
    let web_to_api_and_outside = json!({"podSelector": app("web"), "policyTypes": ["Egress"], "egress": [
        {"to": [{"podSelector": app("api")}], "ports": [{"port": "http"}]},
        {"to": [{"podSelector": app("db")}]},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
    ]});
    net.enforce(std::slice::from_ref(&web_to_api_and_outside));
    let open = net.open();
    let expected = ["web→api:8080", "web→db:8080", "web→db:9090", "web→outside:8080", "web→outside:9090"];
    assert_eq!(out_of(&open, "web"), expected);
    assert_eq!(into(&open, "web").len(), 10, "egress rules do not isolate for ingress here");

    net.enforce(&[web_to_api_and_outside, json!({"podSelector": app("db")})]);
    let open = net.open();
    assert_eq!(out_of(&open, "web"), ["web→api:8080", "web→outside:8080", "web→outside:9090"]);
    assert_eq!(into(&open, "db"), ["node→db:8080", "node→db:9090"]);
}

#[test]
#[ignore = "needs root and nft"]
fn services_are_judged_by_the_pod_behind_them() {
    let mut net = Net::new();
    let service = Ipv4Addr::new(10, 96, 0, 10);
    // What kube-proxy does: an address and port of its own, and a new source for a pod that meets itself.
    let db = Who::Db.address();
    net.nft(&[&format!(
        "table ip proxy {{
            chain before {{
                type nat hook prerouting priority dstnat
                ip daddr {service} tcp dport 80 dnat to {db}:8080
            }}
            chain after {{
                type nat hook postrouting priority srcnat
                ip saddr {db} ip daddr {db} masquerade
            }}
        }}"
    )]);
    let through = |net: &Net, from| net.connect(from, service, 80).is_some();
    assert!(through(&net, Who::Web) && through(&net, Who::Db), "the Service works");

    net.enforce(&[
        json!({"podSelector": app("db"), "ingress": [{"from": [{"podSelector": app("api")}], "ports": [{"port": 8080}]}]}),
        json!({"podSelector": app("db"), "policyTypes": ["Egress"]}),
    ]);
    assert!(through(&net, Who::Api), "allowed by the pod's own port");
    assert!(!through(&net, Who::Web) && !through(&net, Who::Outside), "denied behind the Service too");
    assert!(through(&net, Who::Db), "a pod reaches itself through its Service");
    assert_eq!(net.reach(Who::Db, Who::Web, 8080), Reach::Silence, "and nobody else");
}

#[test]
#[ignore = "needs root and nft"]
fn connections_that_exist_live_on_and_new_ones_do_not() {
    let mut net = Net::new();
    net.enforce(&[]);
    let listener = net.listener(Who::Db, 7000);
    let mut client = net.connect(Who::Web, Who::Db.address(), 7000).expect("it connects");
    let (mut server, _) = listener.accept().expect("it is accepted");
    net.enforce(&[json!({"podSelector": app("db"), "policyTypes": ["Ingress", "Egress"]})]);
    assert!(net.connect(Who::Web, Who::Db.address(), 7000).is_none(), "a new one is dropped");

    client.write_all(b"ping").expect("it is sent");
    let mut heard = [0; 4];
    server.read_exact(&mut heard).expect("it arrives");
    server.write_all(b"pong").expect("the answer is sent");
    client.read_exact(&mut heard).expect("the answer arrives");
    assert_eq!(&heard, b"pong");
}

#[test]
#[ignore = "needs root and nft"]
fn a_table_that_somebody_took_away_is_noticed_and_written_again() {
    let mut net = Net::new();
    let deny = [json!({"podSelector": app("db")})];
    net.enforce(&deny);
    assert!(net.verify());
    net.nft(&["delete table inet mettle_netpol"]);
    assert_eq!(net.reach(Who::Web, Who::Db, 8080), Reach::Connected);
    assert!(!net.verify());
    assert_eq!(net.enforce(&deny), Applied::Changed);
    assert_eq!(net.reach(Who::Web, Who::Db, 8080), Reach::Silence);
    assert!(net.verify());
}
