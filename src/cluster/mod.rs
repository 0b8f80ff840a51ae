//! The Kubernetes API: read, wait, tunnel, and the one place that mutates during a run.

mod agent;
mod apply;
mod cache;
mod client;
mod command;
mod door;
mod look;
mod object;
mod power;
mod read;
mod tunnel;
mod wait;

pub use agent::AGENT_PREFIX;
pub use apply::{Applied, Applier};
pub use cache::PodCache;
pub use client::{ClusterError, connect};
pub use command::run as run_command;
pub use door::Door;
pub use power::{Answer, Power};
pub use read::{NAME_LABEL, deployment_info, node_info, pod_info, set_info, snapshot};
pub use tunnel::{Dialer, PodAddress, Stream, http_get};
pub use wait::poll_until;
