//! NetworkPolicies → who may talk to whom on this node, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::pods::{self, PodView, Protocol};
use super::ports::{name_of, named_on, numbered};
use super::ranges::Ranges;
use super::ruleset::{Allow, Chain, Destination, Direction, Peers, Ruleset, chain_name, hash};
use super::selector::{Labels, Unreadable, selects};

/// What the API said last.
#[derive(Debug, Clone, Default)]
pub struct World<'a> {
    /// Our node: only its pods get rules here.
    pub node: &'a str,
    pub pods: Vec<&'a Pod>,
    pub namespaces: Vec<&'a Namespace>,
    pub policies: Vec<&'a NetworkPolicy>,
}

/// The most that we judge. nft takes seconds for a ruleset beyond these.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub pods_max: usize,
    pub namespaces_max: usize,
    pub policies_max: usize,
    /// Addresses and ranges in all sets together.
    pub elements_max: usize,
    /// Rules in all chains together.
    pub rules_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pods_max: 10_000,
            namespaces_max: 2_000,
            policies_max: 2_000,
            elements_max: 50_000,
            rules_max: 20_000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} {what} are more than the {max} that NetworkPolicies can be judged for")]
pub struct LimitExceeded {
    pub what: &'static str,
    pub count: usize,
    pub max: usize,
}

/// Judges the world: pure.
pub fn judge(world: &World<'_>, limits: &Limits) -> Result<Ruleset, LimitExceeded> {
    within("pods", world.pods.len(), limits.pods_max)?;
    within("namespaces", world.namespaces.len(), limits.namespaces_max)?;
    within("policies", world.policies.len(), limits.policies_max)?;
    let pods = pods::by_address(world.node, &world.pods);
    let namespaces = world
        .namespaces
        .iter()
        .filter_map(|namespace| {
            let meta = &namespace.metadata;
            Some((meta.name.as_deref()?, meta.labels.clone().unwrap_or_default()))
        })
        .collect();
    let local_pods = pods.values().filter(|pod| pod.local).count();
    let ruleset = Ruleset { local_pods, ..Ruleset::default() };
    let mut judge = Judge { pods: &pods, namespaces, limits, elements: 0, rules: 0, ruleset };
    let mut policies: Vec<&NetworkPolicy> = world.policies.clone();
    policies.sort_by_key(|policy| (&policy.metadata.namespace, &policy.metadata.name));
    for policy in policies {
        judge.add(policy)?;
    }
    Ok(judge.ruleset)
}

fn within(what: &'static str, count: usize, max: usize) -> Result<(), LimitExceeded> {
    if count > max { Err(LimitExceeded { what, count, max }) } else { Ok(()) }
}

/// One rule of a policy, ingress and egress alike.
struct Rule<'a> {
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

struct Judge<'a> {
    pods: &'a BTreeMap<Ipv4Addr, PodView>,
    namespaces: BTreeMap<&'a str, Labels>,
    limits: &'a Limits,
    elements: usize,
    rules: usize,
    ruleset: Ruleset,
}

impl<'a> Judge<'a> {
    fn add(&mut self, policy: &NetworkPolicy) -> Result<(), LimitExceeded> {
        let meta = &policy.metadata;
        let (Some(namespace), Some(name)) = (meta.namespace.as_deref(), meta.name.as_deref()) else {
            return Ok(());
        };
        let (no_spec, everything) = (NetworkPolicySpec::default(), LabelSelector::default());
        let spec = policy.spec.as_ref().unwrap_or(&no_spec);
        let selector = spec.pod_selector.as_ref().unwrap_or(&everything);
        let subjects: Vec<&'a PodView> = self
            .pods
            .values()
            .filter(|pod| pod.local && pod.namespace == namespace)
            .filter(|pod| selects(selector, &pod.labels, Unreadable::Selects))
            .collect();
        for direction in directions(spec) {
            for pod in &subjects {
                self.chain(direction, pod);
            }
            for (index, rule) in rules(spec, direction).into_iter().enumerate() {
                let id = format!("{}_{index}", hash(namespace, name));
                self.add_rule(direction, namespace, &id, &rule, &subjects)?;
            }
        }
        Ok(())
    }

    fn chain(&mut self, direction: Direction, pod: &PodView) -> &mut Chain {
        let name = chain_name(direction, &pod.namespace, &pod.name);
        self.ruleset.chains.entry(name).or_insert_with(|| Chain {
            direction,
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            address: pod.address,
            allows: Vec::new(),
        })
    }

    fn add_rule(
        &mut self,
        direction: Direction,
        namespace: &str,
        id: &str,
        rule: &Rule<'_>,
        subjects: &[&PodView],
    ) -> Result<(), LimitExceeded> {
        if subjects.is_empty() {
            return Ok(());
        }
        let addresses = (!rule.peers.is_empty()).then(|| self.addresses(namespace, rule.peers));
        let peers = match &addresses {
            None => Peers::Anyone,
            Some(addresses) if addresses.is_every_address() => Peers::Anyone,
            Some(addresses) if addresses.is_empty() => return Ok(()),
            Some(addresses) => {
                self.count_elements(addresses.len())?;
                let name = format!("{}_peers_{id}", direction.prefix());
                self.ruleset.address_sets.insert(name.clone(), addresses.clone());
                Peers::Set(name)
            }
        };
        let mut common = numbered(&peers, rule.ports);
        if direction == Direction::Egress {
            let destinations = self.destinations(addresses.as_ref(), rule.ports);
            if !destinations.is_empty() {
                self.count_elements(destinations.len())?;
                let name = format!("{}_named_{id}", direction.prefix());
                self.ruleset.destination_sets.insert(name.clone(), destinations);
                common.push(Allow::Destinations(name));
            }
        }
        for pod in subjects {
            let named = match direction {
                Direction::Ingress => named_on(pod, &peers, rule.ports),
                Direction::Egress => Vec::new(),
            };
            self.rules += common.len() + named.len();
            within("rules", self.rules, self.limits.rules_max)?;
            self.chain(direction, pod).allows.extend(common.iter().cloned().chain(named));
        }
        Ok(())
    }

    fn count_elements(&mut self, more: usize) -> Result<(), LimitExceeded> {
        self.elements += more;
        within("addresses in sets", self.elements, self.limits.elements_max)
    }

    /// The addresses of the peers of a rule of a policy in `namespace`.
    fn addresses(&self, namespace: &str, peers: &[NetworkPolicyPeer]) -> Ranges {
        let blocks = peers
            .iter()
            .filter(|peer| peer.pod_selector.is_none() && peer.namespace_selector.is_none())
            .filter_map(|peer| peer.ip_block.as_ref())
            .map(|block| Ranges::block(&block.cidr, block.except.as_deref().unwrap_or_default()));
        let blocks: Vec<(u32, u32)> = blocks.flat_map(|block| block.iter().collect::<Vec<_>>()).collect();
        let pods = self
            .pods
            .values()
            .filter(|pod| peers.iter().any(|peer| self.is_peer(namespace, peer, pod)))
            .map(|pod| (pod.address.to_bits(), pod.address.to_bits()));
        Ranges::new(blocks.into_iter().chain(pods))
    }

    /// Whether the selectors of a peer mean this pod.
    fn is_peer(&self, namespace: &str, peer: &NetworkPolicyPeer, pod: &PodView) -> bool {
        let selects =
            |selector: &LabelSelector, labels: &Labels| selects(selector, labels, Unreadable::SelectsNothing);
        if peer.ip_block.is_some() {
            return false;
        }
        let in_namespace = match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => false,
            (None, Some(_)) => pod.namespace == namespace,
            (Some(selector), _) => {
                self.namespaces.get(pod.namespace.as_str()).is_some_and(|labels| selects(selector, labels))
            }
        };
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
    }

    /// The peers' own numbers of the named ports of an egress rule; `None` stands for every address.
    fn destinations(&self, addresses: Option<&Ranges>, ports: &[NetworkPolicyPort]) -> BTreeSet<Destination> {
        let named: Vec<(&str, Protocol)> = ports.iter().filter_map(name_of).collect();
        let mut destinations = BTreeSet::new();
        if named.is_empty() {
            return destinations;
        }
        for pod in self.pods.values() {
            if addresses.is_some_and(|addresses| !addresses.contains(pod.address.to_bits())) {
                continue;
            }
            for (name, protocol) in &named {
                destinations
                    .extend(pod.named_port(name, *protocol).map(|number| (pod.address, *protocol, number)));
            }
        }
        destinations
    }
}

/// The directions in which a policy isolates the pods that it selects.
fn directions(spec: &NetworkPolicySpec) -> BTreeSet<Direction> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        return std::iter::once(Direction::Ingress).chain(egress.then_some(Direction::Egress)).collect();
    }
    types
        .iter()
        .filter_map(|name| match name.as_str() {
            "Ingress" => Some(Direction::Ingress),
            "Egress" => Some(Direction::Egress),
            _ => None,
        })
        .collect()
}

fn rules(spec: &NetworkPolicySpec, direction: Direction) -> Vec<Rule<'_>> {
    fn rule<'a>(
        peers: &'a Option<Vec<NetworkPolicyPeer>>,
        ports: &'a Option<Vec<NetworkPolicyPort>>,
    ) -> Rule<'a> {
        Rule { peers: peers.as_deref().unwrap_or_default(), ports: ports.as_deref().unwrap_or_default() }
    }
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().map(|r| rule(&r.from, &r.ports)).collect(),
        Direction::Egress => spec.egress.iter().flatten().map(|r| rule(&r.to, &r.ports)).collect(),
    }
}
