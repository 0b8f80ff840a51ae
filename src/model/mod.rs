//! Pure data: the words that every other module shares. Nothing here does I/O or reads a clock.

mod change;
mod check_spec;
mod check_words;
mod claim;
mod comparison;
mod drill;
mod event;
mod experiment;
mod fault_kind;
mod fault_spec;
mod file;
mod hidden;
mod ids;
mod limited;
mod limits;
mod name;
mod object;
mod object_ref;
mod operation;
mod parameters;
mod plan;
mod question;
mod record;
mod rehearsal;
mod repeats;
mod report;
mod samples;
mod scenario;
mod script;
mod snapshot;
mod stop_when;
mod store;
mod timeline;
mod tolerance;
mod verdict;
mod watch;

pub use change::{Change, ClaimRef, Command, ControlPlanePart, Look, NodeHow, PodRef, StoreRestore, Undo};
pub use check_spec::{CheckKind, CheckSpec};
pub use check_words::{RecoveryPhase, TripsBy, WindowName};
pub use claim::Claim;
pub use comparison::{ComparedExperiment, ComparedFigure, Comparison, Margins};
pub use drill::{Drill, DrillMethod, DrillTarget};
pub use event::{AlertState, BreakerCounts, BreakerRule, Event, Fact, LoadSecond, Observation, Phase};
pub use experiment::{Experiment, LoadSpec, LoadStep, PhaseSeconds, Suite};
pub use fault_kind::{FaultKind, On, Shape};
pub use fault_spec::{FaultSpec, Repeat, TargetSpec};
pub use file::{FileError, Problem, parse_yaml, read_text, read_yaml};
pub use hidden::Hidden;
pub use ids::{ListName, OpId, RunId, Seed};
pub use limited::Limited;
pub use limits::{Limits, PROTECTED_NAMESPACES, STACK_NAMESPACE};
pub use name::Name;
pub use object::{Edit, OnConflict, Restored, TOUCHED_LABEL, UNDO_ANNOTATION, edit, forget, restore};
pub use object_ref::ObjectRef;
pub use operation::{ErrorClass, Operation, OperationOutcome, Seen};
pub use parameters::{Direction, Parameters};
pub use plan::{Plan, PlannedChange, PlannedFault, Target};
pub use question::{Answered, Facts, Judging, NodeFact, PodFact, Question, Reading, WorkloadFact};
pub use record::{ExperimentRecord, GateRecord, InjectedFault};
pub use rehearsal::{Rehearsal, RehearsalRow};
pub use repeats::{Interval, RepeatsReport, Statistic};
pub use report::{
    EvidenceFiles, ExperimentReport, FaultReport, GoodputDip, Impact, LedgerTotals, RecoveryPhases, Report,
    WindowReport, Windows as WindowReports,
};
pub use samples::{GENERATOR_LIMITED_SHARE_MAX, Latencies, Quantile, Samples, Tally};
pub use scenario::{Degraded, Journey, Method, Poll, Reads, Scenario, Step, Think};
pub use script::{Activity, Deed, HttpCall, Probe, ProcessCall, Script};
pub use snapshot::{
    Component, Leadership, NodeInfo, ObjectInfo, PodInfo, Role, RoleFact, ServiceInfo, Snapshot, WorkloadInfo,
};
pub use stop_when::{StopCondition, StopKind};
pub use store::{Store, Stores};
pub use timeline::{FaultRecord, Timeline, Window, Windows};
pub use tolerance::{Tolerance, Within, Wrong};
pub use verdict::{Finding, RunOutcome, Verdict};
pub use watch::Watch;
