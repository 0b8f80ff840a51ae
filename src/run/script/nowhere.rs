//! The world of a script that breaks nothing by mettle's own hands: there is no cluster in it.

use tokio_util::sync::CancellationToken;

use super::super::{Recorder, Undone, World, WorldError};
use crate::ledger::Found;
use crate::model::{Change, OnConflict, RunId, Snapshot, Store, Undo, Watch};

/// Refuses every change; nothing of ours can be left in it.
pub struct Nowhere;

fn none<T>() -> Result<T, WorldError> {
    Err(WorldError::new("there is no cluster in this run"))
}

impl World for Nowhere {
    async fn snapshot(&self) -> Result<Snapshot, WorldError> {
        none()
    }

    async fn apply(&self, _run: &RunId, _change: &Change, _recorder: &Recorder) -> Result<(), WorldError> {
        none()
    }

    async fn undo(&self, _undo: &Undo, _on_conflict: OnConflict) -> Result<Undone, WorldError> {
        none()
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        Ok(Vec::new())
    }

    async fn observe(&self, _watch: Watch, _recorder: Recorder, _end: CancellationToken) {}

    async fn found(&self, _store: Store, _run: &RunId) -> Result<Found, WorldError> {
        none()
    }
}
