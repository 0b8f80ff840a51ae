//! Pure data: the words that every other module shares. Nothing here does I/O or reads a clock.

mod change;
mod claim;
mod drill;
mod event;
mod experiment;
mod fault_kind;
mod fault_spec;
mod file;
mod ids;
mod object;
mod object_ref;
mod operation;
mod parameters;
mod plan;
mod rehearsal;
mod report;
mod samples;
mod scenario;
mod snapshot;
mod timeline;
mod verdict;

pub use change::{Change, ClaimRef, Command, ControlPlanePart, Look, NodeHow, PodRef, StoreRestore, Undo};
pub use claim::Claim;
pub use drill::{Drill, DrillMethod, DrillTarget};
pub use event::{Event, Fact, LoadSecond, Observation, Phase};
pub use experiment::{CheckKind, CheckSpec, Experiment, Limits, LoadSpec, PhaseSeconds, Suite, WindowName};
pub use fault_kind::{FaultKind, On, Shape};
pub use fault_spec::{FaultSpec, Repeat, TargetSpec};
pub use file::{FileError, Problem, parse_yaml, read_text, read_yaml};
pub use ids::{OpId, RunId, Seed};
pub use object::{Edit, Restored, TOUCHED_LABEL, UNDO_ANNOTATION, edit, forget, restore};
pub use object_ref::ObjectRef;
pub use operation::{ErrorClass, Operation, OperationOutcome};
pub use parameters::{Direction, Parameters};
pub use plan::{Plan, PlannedChange, PlannedFault, Target};
pub use rehearsal::{Rehearsal, RehearsalRow};
pub use report::{
    ExperimentReport, FaultReport, LedgerTotals, RecoveryPhases, Report, WindowReport,
    Windows as WindowReports,
};
pub use samples::{GENERATOR_LIMITED_SHARE_MAX, Latencies, Quantile, Samples, Tally, in_limited_second};
pub use scenario::{Journey, Method, Poll, Scenario, Step, Think};
pub use snapshot::{
    Component, NodeInfo, ObjectInfo, PodInfo, Role, RoleFact, ServiceInfo, Snapshot, Store, WorkloadInfo,
};
pub use timeline::{FaultRecord, Timeline, Window, Windows};
pub use verdict::{Finding, RunOutcome, Verdict};
