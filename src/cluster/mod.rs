//! The Kubernetes API: read, wait, tunnel, and the one place that mutates during a run.

mod agent;
mod allowed;
mod apply;
mod cache;
mod client;
mod command;
mod denied;
mod door;
mod expired;
mod facts;
mod job;
mod look;
mod missed;
mod object;
mod power;
mod read;
mod remove;
mod restore;
mod tunnel;
mod wait;

pub use agent::AGENT_PREFIX;
pub use allowed::{Wanted, lacking};
pub use apply::{Applied, Applier};
pub use cache::PodCache;
pub use client::{ClusterError, chain, connect, server_of};
pub use command::run as run_command;
pub use door::Door;
pub use facts::read_facts;
pub use job::{forget_jobs, run_job};
pub use power::{Answer, Power};
pub use read::{
    NAME_LABEL, deployment_info, is_current, node_info, pod_info, secret_text, set_info, snapshot,
};
pub use remove::remove;
pub use restore::{StoreMembers, store_members};
pub use tunnel::{Dialer, PodAddress, Stream, http_get, http_get_json};
pub use wait::poll_until;
