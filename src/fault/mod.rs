//! One file a fault. Pure: a snapshot in, changes and their undo out; a timeline in, evidence out.
//! A new fault is one file, one line in each match below, and one experiment (docs/adding-a-fault.md).

mod guard;
mod node_kill;
mod pod_kill;
mod process_pause;
mod select;

#[cfg(test)]
mod testing;

pub use guard::{ALLOWED_LABEL, PROTECTED_NAMESPACES, guard};
pub use select::{PlanError, key_slot};

use rand_chacha::ChaCha8Rng;

use crate::model::{Event, FaultKind, FaultSpec, PlannedChange, PlannedFault, RunId, Snapshot};

/// What the catalogue says of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FaultInfo {
    pub name: &'static str,
    pub level: &'static str,
    pub does: &'static str,
    pub undone_by: &'static str,
    pub evidence: &'static str,
    pub needs: &'static str,
}

#[must_use]
pub fn info(kind: FaultKind) -> FaultInfo {
    match kind {
        FaultKind::PodKill => pod_kill::INFO,
        FaultKind::NodeKill => node_kill::INFO,
        FaultKind::ProcessPause => process_pause::INFO,
    }
}

/// Resolves one fault against a snapshot. The same snapshot and generator give the same targets.
///
/// # Errors
/// When the selector matches nothing, or too little: a fault without a target is never a success.
pub fn plan(
    run: &RunId,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<PlannedFault, PlanError> {
    let changes = match spec.kind {
        FaultKind::PodKill => pod_kill::changes(spec, snapshot, random)?,
        FaultKind::NodeKill => node_kill::changes(spec, snapshot, random)?,
        FaultKind::ProcessPause => process_pause::changes(run, index, spec, snapshot, random)?,
    };
    Ok(PlannedFault {
        index,
        kind: spec.kind,
        at_ms: u64::from(spec.at_seconds) * 1000,
        hold_ms: u64::from(spec.hold_seconds) * 1000,
        changes,
    })
}

/// What in `events` shows that this change bit, each with its ms; empty while the proof is not complete.
/// `events` begin at the injection.
#[must_use]
pub fn evidence(kind: FaultKind, change: &PlannedChange, events: &[Event]) -> Vec<(u64, String)> {
    match kind {
        FaultKind::PodKill => pod_kill::evidence(change, events),
        FaultKind::NodeKill => node_kill::evidence(change, events),
        FaultKind::ProcessPause => process_pause::evidence(change, events),
    }
}
