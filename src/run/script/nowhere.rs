//! The world of a script that breaks nothing by mettle's own hands: there is no cluster in it.

use tokio_util::sync::CancellationToken;

use super::super::{Recorder, Undone, World, WorldError};
use crate::ledger::Found;
use crate::model::{Change, RunId, Snapshot, Store, Undo};

/// Refuses every change; nothing of ours can be left in it.
pub struct Nowhere;

fn none<T>() -> Result<T, WorldError> {
    Err(WorldError::new("there is no cluster in this run"))
}

impl World for Nowhere {
    async fn snapshot(&self) -> Result<Snapshot, WorldError> {
        none()
    }

    async fn apply(&self, _change: &Change, _recorder: &Recorder) -> Result<(), WorldError> {
        none()
    }

    async fn undo(&self, _undo: &Undo) -> Result<Undone, WorldError> {
        none()
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        Ok(Vec::new())
    }

    async fn observe(&self, _recorder: Recorder, _end: CancellationToken) {}

    async fn found(&self, _store: Store, _run: &RunId) -> Result<Found, WorldError> {
        none()
    }
}
