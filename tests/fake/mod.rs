//! An in-memory cluster and load for the whole loop, in virtual time. What they do, well or badly, is a
//! [`Behaviour`]; what happens when is a queue of [`state::Happening`]s that is worked off whenever somebody looks.

// Each test binary uses a part of it.
#![allow(dead_code, unused_imports)]

mod cluster;
mod group;
mod load;
mod made;
mod meddle;
mod object;
mod points;
mod snapshot;
mod stage;
mod state;
mod undo;
mod watch;

pub use cluster::FakeWorld;
pub use load::FakeLoad;
pub use meddle::Meddling;
pub use object::object_before;
pub use points::{Points, Trip};
pub use snapshot::equal_but_for_replaced;
pub use stage::{Ran, SETTLE, Stage, experiment_file, finding, small};

/// How an undo goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoing {
    Works,
    Fails,
    Conflict,
}

/// When the load gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadLife {
    Healthy,
    /// It runs and sends nothing.
    Zero,
    /// It sends nothing more after these ms, and says that it runs.
    SilentAfter(u64),
    /// Its process dies.
    DiesAfter(u64),
    /// It never becomes ready.
    NeverReady,
}

/// Everything that a test can have otherwise than healthy.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// PostgreSQL acknowledges only what a replica has.
    pub synchronous: bool,
    /// How far an asynchronous replica is behind.
    pub lag_ms: u64,
    /// Every so many writes, a store applies one twice.
    pub twice_every: Option<u64>,
    /// Controllers replace what is gone.
    pub replaces: bool,
    /// Until a new pod is ready.
    pub start_ms: u64,
    /// Changes are accepted and have no effect.
    pub ignores_changes: bool,
    /// From this change on, counted from 1, the API refuses.
    pub refuses_from: Option<u64>,
    /// A refused change has happened all the same.
    pub refuses_after_effect: bool,
    pub undoing: Undoing,
    pub ledger_readable: bool,
    /// Every so many requests, one fails.
    pub fails_every: Option<u64>,
    /// Requests from this one on do not fail so; there are 100 a second.
    pub fails_until: u64,
    pub labelled: bool,
    pub backends: u32,
    pub redis_replicas: bool,
    pub load: LoadLife,
    /// The probes look.
    pub probes: bool,
    /// Until when, by its own clock, the backend's autoscaler wants more than its least; it is watched only when this is set.
    pub scaled_until_ms: Option<u64>,
    /// What becomes of each target while its fault is on.
    pub meddling: Option<Meddling>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            synchronous: true,
            lag_ms: 20,
            twice_every: None,
            replaces: true,
            start_ms: 3000,
            ignores_changes: false,
            refuses_from: None,
            refuses_after_effect: false,
            undoing: Undoing::Works,
            ledger_readable: true,
            fails_every: None,
            fails_until: u64::MAX,
            labelled: true,
            backends: 3,
            redis_replicas: true,
            load: LoadLife::Healthy,
            probes: true,
            scaled_until_ms: None,
            meddling: None,
        }
    }
}
