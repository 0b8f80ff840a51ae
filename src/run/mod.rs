//! The loop: plan, load, baseline, gate, inject, observe, revert, recovery, judge.
//!
//! # Guarantees
//! - Nothing is changed before its undo is on disk ([`Journal`]), and an apply in flight is never dropped.
//! - Revert runs after a normal end, a failure, a panic, a stop; it is never cancelled and has its own deadline.
//! - No steady baseline, no injection; no evidence that a fault bit, no pass.
//!
//! # Caveats
//! - The seed replays our choices, not the cluster's timing.

mod clock;
mod drill;
mod evidence;
mod experiment;
mod inject;
mod journal;
mod judge;
mod live;
mod live_drill;
mod live_load;
mod recorder;
mod rehearse;
mod rest;
mod revert;
mod schedule;
mod script;
mod steady;
mod step;
mod stop;
mod window;
mod world;

pub use clock::RunClock;
pub use drill::{DrillRecord, DrillWorld, Drilling, judge_drill_again, run_drill};
pub use evidence::{Evidence, EvidenceError, Recorded, is_of, read_evidence};
pub use experiment::{Context, Settings, run_experiment};
pub use inject::{InjectError, resolve, resolve_rehearsal, resolve_script};
pub use journal::{Entry, Hook, Journal, JournalError, OpenChange, find_unreverted, open_changes};
pub use judge::judge_again;
pub use live::LiveWorld;
pub use live_load::LiveLoad;
pub use recorder::Recorder;
pub use rehearse::Rehearsing;
pub use revert::{Reverted, revert_all};
pub use script::{Nowhere, Outside, Played, Reach, ScriptContext, Unanswered, find_program, run_script};
pub use steady::{all_restored, archive_moved, not_restored, stack_restored};
pub use stop::Stop;
pub use world::{Load, LoadStart, RunningLoad, Undone, World, WorldError};
