//! One snapshot a case of the API's semantics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::fixtures::{NODE, Objects, pod};
use crate::provider::local::netpol::policy::{Limits, judge};
use crate::provider::local::netpol::render::render_closed;

fn shop(policies: &[&str]) -> String {
    Objects::shop(policies).render()
}

#[test]
fn without_policies_nothing_is_isolated() {
    insta::assert_snapshot!(shop(&[]));
}

#[test]
fn an_empty_selector_isolates_the_namespace_for_ingress_by_default() {
    insta::assert_snapshot!(shop(&["podSelector: {}"]));
}

#[test]
fn egress_rules_imply_the_type_egress() {
    insta::assert_snapshot!(shop(&["{podSelector: {matchLabels: {app: web}}, egress: [{}]}"]));
}

#[test]
fn the_type_egress_alone_leaves_ingress_open() {
    insta::assert_snapshot!(shop(&["{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}"]));
}

#[test]
fn an_empty_from_is_everyone() {
    let rule = "ingress: [{from: [], ports: [{port: 8080}]}]";
    insta::assert_snapshot!(shop(&[&format!("{{podSelector: {{matchLabels: {{app: web}}}}, {rule}}}")]));
}

#[test]
fn peers_are_pods_of_the_namespace_or_of_namespaces_or_blocks() {
    insta::assert_snapshot!(shop(&["
podSelector: {matchLabels: {app: db}}
ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
  - from: [{namespaceSelector: {matchLabels: {team: platform}}}]
  - from:
      - namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [product]}]}
        podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web, db]}]}
  - from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.64/26]}}]
  - from: [{ipBlock: {cidr: 0.0.0.0/0}}]
    ports: [{port: 443}]
  - from: [{podSelector: {matchLabels: {app: nobody}}}]
"]));
}

#[test]
fn ports_are_numbers_ranges_names_and_whole_protocols() {
    insta::assert_snapshot!(shop(&["
podSelector: {matchLabels: {app: api}}
ingress:
  - ports:
      - {port: 80}
      - {port: 75, endPort: 90}
      - {port: http}
      - {port: dns, protocol: UDP}
      - {port: dns}
      - {port: 9000, endPort: 9010, protocol: SCTP}
  - from: [{podSelector: {}}]
    ports: [{protocol: UDP}, {protocol: SCTP}]
"]));
}

#[test]
fn a_named_port_in_egress_is_each_destinations_own() {
    let mut objects = Objects::shop(&["
podSelector: {matchLabels: {app: web}}
policyTypes: [Egress]
egress:
  - to: [{podSelector: {}}]
    ports: [{port: http}, {port: 5432}]
"]);
    let db = objects.pods[2].spec.as_mut().expect("a spec");
    db.containers[0].ports.as_mut().expect("ports")[0].container_port = 9999;
    insta::assert_snapshot!(objects.render());
}

#[test]
fn policies_add_up() {
    insta::assert_snapshot!(shop(&[
        "{podSelector: {matchLabels: {app: web}}}",
        "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}], policyTypes: [Ingress]}",
    ]));
}

#[test]
fn host_network_and_finished_pods_are_left_alone() {
    let mut objects = Objects::shop(&["{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"]);
    objects.pods[0].spec.as_mut().expect("a spec").host_network = Some(true);
    objects.pods[1].status.as_mut().expect("a status").phase = Some("Failed".to_owned());
    objects.pods[2].status.as_mut().expect("a status").phase = Some("Succeeded".to_owned());
    insta::assert_snapshot!(objects.render());
}

#[test]
fn the_newest_of_two_pods_has_the_address() {
    let mut objects = Objects::shop(&["{podSelector: {matchLabels: {app: old}}}"]);
    let created = |text: &str| Some(Time(text.parse().expect("a time")));
    let mut old = pod("shop", "z-old", "10.1.1.9", NODE, "old");
    old.metadata.creation_timestamp = created("2026-01-01T00:00:00Z");
    let mut new = pod("shop", "a-new", "10.1.1.9", NODE, "new");
    new.metadata.creation_timestamp = created("2026-01-01T00:00:01Z");
    objects.pods = vec![new, old.clone()];
    assert!(!objects.render().contains("10.1.1.9"), "the new pod is not selected");
    objects.pods = vec![old];
    assert!(objects.render().contains("10.1.1.9"), "the old pod is selected");
}

#[test]
fn what_makes_no_sense_allows_nothing() {
    insta::assert_snapshot!(shop(&["
podSelector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}
policyTypes: [Ingress]
ingress:
  - ports: [{port: 0}, {port: 70000}, {port: 90, endPort: 80}, {port: http, endPort: 90}, {endPort: 9}, {port: 80, protocol: ICMP}]
  - from: [{}]
  - from: [{podSelector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}}]
  - from: [{ipBlock: {cidr: '10.0.0.0/8, 0.0.0.0/0'}}]
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['10.1.0.0/16 }']}}]
  - from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]
"]));
}

#[test]
fn names_do_not_reach_nft_as_they_are() {
    let mut objects = Objects::shop(&["podSelector: {}"]);
    objects.pods.truncate(1);
    objects.pods[0].metadata.name = Some("x\" }\n flush ruleset; #".repeat(9));
    insta::assert_snapshot!(objects.render());
}

#[test]
fn beyond_the_limits_the_nodes_pods_are_cut_off() {
    let objects = Objects::shop(&["{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"]);
    let limits = Limits::default();
    let too_small = [
        Limits { pods_max: 4, ..limits },
        Limits { namespaces_max: 1, ..limits },
        Limits { policies_max: 0, ..limits },
        Limits { elements_max: 3, ..limits },
        Limits { rules_max: 2, ..limits },
    ];
    let messages =
        too_small.map(|limits| judge(&objects.world(), &limits).expect_err("too small").to_string());
    insta::assert_snapshot!(messages.join("\n"));
    insta::assert_snapshot!(render_closed(&objects.world()));
}
