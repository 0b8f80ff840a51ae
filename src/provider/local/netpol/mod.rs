//! Enforces the API's NetworkPolicies on one node of the `local` provider, with nftables.
//!
//! Why ours: the nodes of `local` are network namespaces whose pods hang on `ptp` veths, with nothing in
//! the path that knows NetworkPolicies. kube-network-policies needs nft's `queue` statement, which
//! some kernels are built without (`NFT_QUEUE`), kube-router and the large network plugins are
//! programs that a machine without an image registry cannot get. The API's semantics in nft rules are
//! small, and need nothing but `nft`.
//!
//! Chain of work: [`pods`] and [`selector`] say who is meant, [`policy`] decides who may talk to whom,
//! [`render`] writes it as one nft transaction (all of this is pure), [`apply`] gives it to nft, [`run`]
//! watches the API and repeats.
//!
//! # Guarantees
//! - Semantics of `networking.k8s.io/v1` for IPv4: defaulted policy types, additive policies, selectors
//!   with expressions, `ipBlock` with `except`, ports by number, range and name; TCP, UDP, SCTP.
//! - A node always reaches its own pods (probes), and a pod its node and itself: that traffic is local to
//!   the node, or has one address on both sides, and is never judged.
//! - Rules change in one transaction: no moment without rules, none with half of them.
//! - When the API is away, or this process dies, the last rules stay.
//! - Beyond its limits it fails closed: the node's pods are cut off, and a line on stderr says why.
//! - What is denied is dropped and counted, one nft counter a pod and direction (`nft list counters
//!   table inet mettle_netpol`; names from [`ruleset::chain_name`]).
//!
//! # Assumptions
//! - kube-proxy has rewritten Service addresses before the forward hook, and does not masquerade traffic
//!   between pods: both ends are seen with pod addresses.
//! - A pod without the host's network reaches everything but its own node through the forward hook.
//!
//! # Caveats
//! - Connections that a policy comes to forbid later live on until they end (the API leaves it open); only
//!   new ones are dropped.
//! - A new pod, or a new policy, is not enforced before the API has told us and the debounce is over
//!   (about 0.1 s); nothing is enforced before the first sync.
//! - Counters start from zero with each change of the rules.
//! - Traffic through a NodePort of another node arrives with that node's address.
//! - IPv6 is not judged.
//! - With `ports`, only TCP, UDP and SCTP pass; ICMP passes where a rule names no ports.

pub mod apply;
pub mod pods;
pub mod policy;
pub mod ports;
pub mod ranges;
pub mod render;
pub mod ruleset;
pub mod run;
pub mod selector;
#[cfg(test)]
mod tests;
