//! Pure data: the words that every other module shares. Nothing here does I/O or reads a clock.

mod change;
mod claim;
mod event;
mod experiment;
mod file;
mod ids;
mod operation;
mod plan;
mod report;
mod samples;
mod scenario;
mod snapshot;
mod timeline;
mod verdict;

pub use change::{Change, PodRef, Undo};
pub use claim::Claim;
pub use event::{Event, Fact, LoadSecond, Observation, Phase};
pub use experiment::{
    CheckKind, CheckSpec, Experiment, FaultKind, FaultSpec, Limits, LoadSpec, PhaseSeconds, Suite,
    TargetSpec, WindowName,
};
pub use file::{FileError, Problem, parse_yaml, read_text, read_yaml};
pub use ids::{OpId, RunId, Seed};
pub use operation::{ErrorClass, Operation, OperationOutcome};
pub use plan::{Plan, PlannedChange, PlannedFault, Target};
pub use report::{
    ExperimentReport, FaultReport, LedgerTotals, RecoveryPhases, Report, WindowReport,
    Windows as WindowReports,
};
pub use samples::{GENERATOR_LIMITED_SHARE_MAX, Latencies, Quantile, Samples, Tally, in_limited_second};
pub use scenario::{Journey, Method, Poll, Scenario, Step, Think};
pub use snapshot::{Component, NodeInfo, PodInfo, Role, RoleFact, Snapshot, Store, WorkloadInfo};
pub use timeline::{FaultRecord, Timeline, Window, Windows};
pub use verdict::{Finding, RunOutcome, Verdict};
