//! How one experiment went: what its judgement needs besides the timeline, the operations and what the stores held.

use serde::{Deserialize, Serialize};

use super::{Experiment, PlannedFault, RunId, RunOutcome, Seed, Windows};

/// `record.json`. With the other files of its directory it gives the same judgement at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRecord {
    pub run: RunId,
    /// Every repeated fault as so many faults, each at its own time.
    pub experiment: Experiment,
    pub seed: Seed,
    /// Nothing was injected on purpose: what the load sees when nothing is broken.
    #[serde(default)]
    pub control: bool,
    pub windows: Windows,
    /// Absent: the run ended before its gate.
    pub gate: Option<GateRecord>,
    pub faults: Vec<InjectedFault>,
    pub outcome: RunOutcome,
    pub residue: Vec<String>,
    /// How many operations were read when it was judged.
    pub operations: usize,
    /// Why the timeline is not whole, when it is not.
    pub gap: Option<String>,
}

/// What was known when the baseline was judged: so many of the first events and operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRecord {
    pub events: usize,
    pub operations: usize,
}

/// A fault that was begun. Whether it bit is in the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InjectedFault {
    pub fault: PlannedFault,
    pub injected_ms: u64,
    pub reverted_ms: Option<u64>,
}
