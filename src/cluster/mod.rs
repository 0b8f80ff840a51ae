//! The Kubernetes API: read, wait, tunnel, and the one place that mutates during a run.

mod agent;
mod apply;
mod cache;
mod client;
mod command;
mod door;
mod job;
mod look;
mod object;
mod power;
mod read;
mod restore;
mod tunnel;
mod wait;

pub use agent::AGENT_PREFIX;
pub use apply::{Applied, Applier};
pub use cache::PodCache;
pub use client::{ClusterError, connect};
pub use door::Door;
pub use job::{forget_jobs, run_job};
pub use power::{Answer, Power};
pub use read::{NAME_LABEL, deployment_info, node_info, pod_info, set_info, snapshot};
pub use restore::{StoreMembers, store_members};
pub use tunnel::{Dialer, PodAddress, Stream, http_get};
pub use wait::poll_until;
