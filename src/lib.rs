//! `mettle`: a chaos and resilience test harness for whole Kubernetes stacks.
//!
//! The map, from the outside in (who may know whom is held by `tests/tidy.rs`):
//!
//! - [`cli`] the command line's types; [`command`] one file a subcommand.
//! - [`run`] the loop: plan, load, baseline, gate, inject, observe, revert, recovery, judge.
//! - [`provider`] where a cluster comes from; [`stack`] the system under test on it.
//! - [`load`] the goose side; [`probe`] what watches the cluster; [`component`] who has which role.
//! - [`cluster`] the Kubernetes API: read, wait, tunnel, and the one place that mutates.
//! - [`promise`] what the manifests alone must state; pure.
//! - [`fault`], [`check`], [`ledger`], [`report`] pure: data in, data out.
//! - [`statistics`] pure: medians, their intervals, how far two samples are apart.
//! - [`foreign`] pure: experiment files of other tools, as rehearsals of ours.
//! - [`model`] the words all of them share.

pub mod check;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod component;
pub mod exit;
pub mod fault;
pub mod foreign;
pub mod ledger;
pub mod load;
pub mod model;
pub mod probe;
pub mod promise;
pub mod provider;
pub mod report;
pub mod run;
pub mod stack;
pub mod statistics;
pub mod verify;
