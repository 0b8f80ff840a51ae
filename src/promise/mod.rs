//! What the deployment guide promises and manifests alone can carry: numbers, shapes, settings.
//!
//! A promise is a pure judgement over the rendered objects of an overlay: objects in, [`Finding`] out. It says what the
//! manifests *state*; that the running stack keeps it is for the live checks and the experiments. What cannot be read, or
//! is not there, is inconclusive, never a pass. `breaks.rs` holds, for each promise, a change of the real manifests that
//! it must see.
//!
//! Give it rendered objects: the order of an apply (D3) is not in what an API server lists, and would be judged wrong.

mod case;
mod manifests;
mod mesh;
mod monitoring;
mod numbers;
mod pods;
mod security;
mod stores;
mod whole;

#[cfg(test)]
mod breaks;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::model::Finding;
use case::Case;
use manifests::Manifests;

/// Which promises an overlay must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Those of every overlay, however small.
    Every,
    /// Those and the guide's own numbers.
    Full,
}

/// One promise of the guide and how it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// The id in `stack/claims.yaml`.
    pub claim: &'static str,
    pub name: &'static str,
    /// The smallest profile that must keep it.
    pub profile: Profile,
    look: fn(&Manifests<'_>, &mut Case),
}

impl Promise {
    fn judge(&self, manifests: &Manifests<'_>) -> Finding {
        let mut case = Case::default();
        (self.look)(manifests, &mut case);
        case.finish(self.name)
    }
}

/// A promise's finding, with the claim that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub claim: &'static str,
    pub finding: Finding,
}

const fn every(claim: &'static str, name: &'static str, look: fn(&Manifests<'_>, &mut Case)) -> Promise {
    Promise { claim, name, profile: Profile::Every, look }
}

const fn full(claim: &'static str, name: &'static str, look: fn(&Manifests<'_>, &mut Case)) -> Promise {
    Promise { claim, name, profile: Profile::Full, look }
}

/// In the guide's order.
pub const PROMISES: &[Promise] = &[
    every("D1", "namespace", whole::namespace),
    every("D2", "secret-references", whole::secret_references),
    every("D3", "apply-order", whole::apply_order),
    // An apply of a tag that moves is not the same apply twice.
    every("D3", "images-pinned", whole::images_pinned),
    full("D3", "images-released", whole::images_released),
    every("G1", "routes-and-health-checks", mesh::routes),
    full("G1", "kong-is-the-gateway", mesh::kong),
    full("S1", "backend-autoscaling", numbers::backend),
    full("S2", "frontend-autoscaling", numbers::frontend),
    full("S3", "services-autoscaling", numbers::services),
    full("S4", "worker-autoscaling", numbers::workers),
    full("S5", "edge-autoscaling", numbers::edges),
    full("P1", "client-connections", stores::client_connections),
    every("P2", "connection-pool", stores::connection_pool),
    every("P3", "replication", stores::replication),
    every("R1", "redis-cluster", stores::redis_cluster),
    full("R2", "redis-memory", numbers::redis_memory),
    every("K1", "kafka-cluster", stores::kafka),
    every("K2", "rabbitmq-cluster", stores::rabbitmq),
    every("K3", "zookeeper-ensemble", stores::zookeeper),
    every("I3", "strict-mutual-tls", mesh::strict),
    every("I4", "circuit-breakers", mesh::breakers),
    every("C3", "asset-cache", mesh::asset_cache),
    every("M1", "scrape-targets", monitoring::scrapes),
    every("M2", "resource-metrics", monitoring::resources),
    every("M3", "dashboards", monitoring::dashboards),
    every("M4", "alert-rules", monitoring::alerts),
    every("M5", "tracing", monitoring::tracing),
    every("F1", "restart-and-disruption", pods::restarts),
    every("F2", "probes", pods::probes),
    every("X1", "default-deny", security::default_deny),
    every("X2", "least-privilege", security::least_privilege),
    every("X2", "restricted-pods", pods::restricted),
    every("X3", "tls-doors", mesh::doors),
    every("X4", "no-literal-secrets", security::no_literal_secrets),
    every("X5", "known-callers", mesh::known_callers),
];

/// Judges every promise of the profile over the rendered objects of an overlay.
#[must_use]
pub fn judge(objects: &[Value], profile: Profile) -> Vec<Judged> {
    let manifests = Manifests::new(objects);
    let wanted = |promise: &&Promise| profile == Profile::Full || promise.profile == Profile::Every;
    let judged = |promise: &Promise| Judged { claim: promise.claim, finding: promise.judge(&manifests) };
    PROMISES.iter().filter(wanted).map(judged).collect()
}
