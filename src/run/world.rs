//! The two seams of the loop: the cluster and the load. The real ones are wired in `command/`;
//! `tests/run_fake.rs` and `tests/crash.rs` run the whole loop against in-memory ones.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::Recorder;
use crate::cluster::chain;
use crate::ledger::Found;
use crate::model::{
    Change, LoadSpec, OnConflict, Operation, RunId, Scenario, Seed, Snapshot, Store, Undo, Watch,
};

/// What could not be done, with the object's name, and why.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct WorldError {
    pub what: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl WorldError {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    pub fn because(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }

    /// The whole chain in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    Reverted(String),
    /// The change never happened, or was undone before.
    AlreadyClean(String),
    /// Somebody else changed the object since: we do not overwrite it.
    Conflict(String),
}

/// The cluster under test. Every method is bounded by a deadline of its own.
pub trait World: Send + Sync + 'static {
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, WorldError>> + Send;

    /// Makes one change of `run`. The caller has journalled it.
    fn apply(
        &self,
        run: &RunId,
        change: &Change,
        recorder: &Recorder,
    ) -> impl Future<Output = Result<(), WorldError>> + Send;

    /// Undoes one change: idempotent, and tolerant of one that never happened.
    fn undo(
        &self,
        undo: &Undo,
        on_conflict: OnConflict,
    ) -> impl Future<Output = Result<Undone, WorldError>> + Send;

    /// Everything of ours that is still there: killed nodes, living agents, labelled objects.
    fn residue(&self) -> impl Future<Output = Result<Vec<String>, WorldError>> + Send;

    /// Watches and probes until `end`, recording what it sees. `watch` is what is looked at beyond the usual.
    fn observe(
        &self,
        watch: Watch,
        recorder: Recorder,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send;

    /// Reads back which operations of `run` a store holds, directly from its servers.
    fn found(&self, store: Store, run: &RunId) -> impl Future<Output = Result<Found, WorldError>> + Send;
}

/// What a load is started with.
#[derive(Debug, Clone)]
pub struct LoadStart {
    pub scenario: Scenario,
    pub load: LoadSpec,
    pub seed: Seed,
    pub run: RunId,
    /// `CLOCK_MONOTONIC` at ms 0 of the run.
    pub clock_origin_ns: u64,
    /// Directory for its files.
    pub out: PathBuf,
}

pub trait Load: Send + Sync + 'static {
    type Running: RunningLoad;
    /// Starts it and waits until its preparation is done. Seconds go into the recorder.
    fn start(
        &self,
        start: LoadStart,
        recorder: Recorder,
    ) -> impl Future<Output = Result<Self::Running, WorldError>> + Send;
}

pub trait RunningLoad: Send + 'static {
    /// Operations on disk so far.
    fn operations(&mut self) -> impl Future<Output = Result<Vec<Operation>, WorldError>> + Send;
    /// Why it is no longer running, if it is not.
    fn ended(&mut self) -> impl Future<Output = Option<String>> + Send;
    /// Brings the step's further users in, or lets them go.
    fn step(&mut self, up: bool) -> impl Future<Output = Result<(), WorldError>> + Send;
    /// Stops it within the deadline, by force if need be, and gives all its operations.
    fn stop(self, deadline: Duration) -> impl Future<Output = Result<Vec<Operation>, WorldError>> + Send;
}
