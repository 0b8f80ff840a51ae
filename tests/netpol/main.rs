//! NetworkPolicies in force between real network namespaces: what a policy forbids does not connect, what
//! it allows does, and nothing is left once it is gone. A node has the shape that the `ptp` plugin gives it:
//! a veth and a host route for each pod, no bridge.
//!
//! `cargo test --test netpol -- --ignored`, as root, with `nft` and `ip`.

mod net;
mod stories;
