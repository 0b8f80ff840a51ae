//! Random worlds: our judgement is the API's, and nft takes every text that we render.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::{NODE, Objects, namespace, pod};
use super::oracle::{Packet, allowed, passes};
use crate::provider::local::netpol::pods::Protocol;
use crate::provider::local::netpol::policy::{Limits, judge};
use crate::provider::local::netpol::render::{render, render_closed};

const NAMESPACES: [&str; 2] = ["shop", "watch"];
const APPS: [&str; 3] = ["web", "api", "db"];

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(values).prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = (
        one_of(&["app", "zone", "team", "kubernetes.io/metadata.name"]),
        one_of(&["In", "NotIn", "Exists", "DoesNotExist"]),
        prop::collection::vec(one_of(&["web", "api", "shop", "product"]), 1..3),
    )
        .prop_map(|(key, operator, values)| {
            let values = if operator.ends_with("In") { json!(values) } else { json!([]) };
            json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
        });
    prop_oneof![
        Just(json!({})),
        one_of(&APPS).prop_map(|app| json!({"matchLabels": {"app": app}})),
        one_of(&["product", "platform"]).prop_map(|team| json!({"matchLabels": {"team": team}})),
        expression,
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let block = (0u8..4, prop::sample::select(vec![0u8, 8, 16, 24, 29, 31, 32]), any::<bool>()).prop_map(
        |(third, length, hole)| {
            let except = if hole { json!([format!("10.1.{third}.2/{}", length.max(31))]) } else { json!([]) };
            json!({"ipBlock": {"cidr": format!("10.1.{third}.2/{length}"), "except": except}})
        },
    );
    prop_oneof![
        block,
        Just(json!({"ipBlock": {"cidr": "fd00::/8"}})),
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|spaces| json!({"namespaceSelector": spaces})),
        (selector(), selector())
            .prop_map(|(spaces, pods)| json!({"namespaceSelector": spaces, "podSelector": pods})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let number = prop::sample::select(vec![1u16, 80, 443, 5353, 8080, 9000, 65535]);
    let protocol = one_of(&["TCP", "UDP", "SCTP"]);
    prop_oneof![
        protocol.clone().prop_map(|protocol| json!({"protocol": protocol})),
        (number.clone(), protocol.clone())
            .prop_map(|(port, protocol)| json!({"port": port, "protocol": protocol})),
        (number, 0u16..2000)
            .prop_map(|(port, more)| json!({"port": port, "endPort": port.saturating_add(more)})),
        (one_of(&["http", "dns", "absent"]), protocol)
            .prop_map(|(name, protocol)| json!({"port": name, "protocol": protocol})),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (prop::collection::vec(peer(), 0..3), prop::collection::vec(port(), 0..4))
        .prop_map(move |(found, ports)| json!({peers: found, "ports": ports}));
    prop::collection::vec(rule, 0..3).prop_map(Value::from)
}

fn policy() -> impl Strategy<Value = Value> {
    let types = prop::sample::select(vec![
        json!(null),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    (one_of(&NAMESPACES), selector(), types, rules("from"), rules("to")).prop_map(
        move |(namespace, pods, types, ingress, egress)| {
            json!({
                "metadata": {"namespace": namespace},
                "spec": {"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress},
            })
        },
    )
}

/// Up to nine pods at 10.1.1.1 …, some on another node, some finished, some on the host's network.
fn objects() -> impl Strategy<Value = Objects> {
    let pods = prop::collection::vec((one_of(&NAMESPACES), one_of(&APPS), 0u8..10, 1u16..4), 0..9);
    let policies = prop::collection::vec(policy(), 0..5);
    (pods, policies).prop_map(|(pods, policies)| {
        let pods = pods.into_iter().enumerate().map(|(index, (namespace, app, kind, http))| {
            let node = if kind < 6 { NODE } else { "node-2" };
            let mut pod =
                pod(&namespace, &format!("pod-{index}"), &format!("10.1.1.{}", index + 1), node, &app);
            let spec = pod.spec.as_mut().expect("a spec");
            spec.host_network = Some(kind == 0);
            spec.containers[0].ports.as_mut().expect("ports")[0].container_port =
                i32::from(http) * 8080 % 65536;
            pod.status.as_mut().expect("a status").phase =
                Some(if kind == 1 { "Failed" } else { "Running" }.to_owned());
            pod
        });
        // The index keeps names unique, as the API does.
        let policies = policies.into_iter().enumerate().map(|(index, value)| {
            let mut policy: NetworkPolicy = serde_json::from_value(value).expect("a policy");
            policy.metadata.name = Some(format!("p{index}"));
            policy
        });
        Objects {
            pods: pods.collect(),
            namespaces: vec![namespace("shop", "product"), namespace("watch", "platform")],
            policies: policies.collect(),
        }
    })
}

fn packets() -> impl Iterator<Item = Packet> {
    let addresses = || {
        let pods = (1..=9).map(|last| Ipv4Addr::new(10, 1, 1, last));
        pods.chain([Ipv4Addr::new(10, 1, 3, 2), Ipv4Addr::new(192, 0, 2, 1)])
    };
    let ports = [80, 443, 1000, 5353, 8080, 16160, 65535];
    addresses().flat_map(move |from| {
        addresses().flat_map(move |to| {
            [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .flat_map(move |protocol| ports.map(|port| Packet { from, to, protocol, port }))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn our_judgement_is_the_apis(objects in objects()) {
        let world = objects.world();
        let ruleset = judge(&world, &Limits::default()).expect("a small world");
        for packet in packets() {
            prop_assert_eq!(passes(&ruleset, packet), allowed(&world, packet), "{:?}\n{}", packet, render(&ruleset));
        }
    }

    #[test]
    fn the_order_of_objects_does_not_show(objects in objects()) {
        let mut reversed = objects.clone();
        reversed.pods.reverse();
        reversed.namespaces.reverse();
        reversed.policies.reverse();
        prop_assert_eq!(objects.render(), reversed.render());
    }
}

#[test]
#[ignore = "needs root and nft"]
fn nft_takes_whatever_we_render() {
    // Of this thread only; the nft that it starts inherits it.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(150)
    });
    let outcome = runner.run(&objects(), |objects| {
        for text in [objects.render(), render_closed(&objects.world())] {
            for arguments in [["-c", "-f", "-"].as_slice(), ["-f", "-"].as_slice()] {
                let complaint = nft(arguments, &text);
                prop_assert_eq!(complaint.as_str(), "", "{:?} of\n{}", arguments, text);
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn nft(arguments: &[&str], text: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("nft reads");
    drop(stdin);
    let output = child.wait_with_output().expect("nft ends");
    let failed = if output.status.success() { "" } else { "failed: " };
    format!("{failed}{}", String::from_utf8_lossy(&output.stderr))
}
