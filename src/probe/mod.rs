//! What watches the cluster during a run. A probe that sees nothing new says so by its heartbeat only.

mod alerts;
mod breakers;
mod every;
mod exposition;
mod members;
mod refusals;
mod scales;
mod served;
#[cfg(test)]
mod testing;
mod watch;

pub use alerts::observe_alerts;
pub use breakers::observe_breakers;
pub use members::{Source, observe_members};
pub use refusals::observe_refusals;
pub use scales::observe_scales;
pub use served::observe_served;
pub use watch::observe_api;

use crate::model::Observation;

/// Where probes put what they see.
pub trait Sink: Clone + Send + Sync + 'static {
    fn observe(&self, observation: Observation);
}
