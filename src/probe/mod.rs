//! What watches the cluster during a run. A probe that sees nothing new says so by its heartbeat only.

mod members;
mod watch;

pub use members::{Source, observe_members};
pub use watch::observe_api;

use crate::model::Observation;

/// Where probes put what they see.
pub trait Sink: Clone + Send + Sync + 'static {
    fn observe(&self, observation: Observation);
}
