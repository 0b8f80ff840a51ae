//! A drill: write, back up, write on, destroy, restore, compare. The undo of the destruction *is* the restore: it is in the
//! journal before anything is destroyed, so `mettle revert` brings the data back after a crash.
//!
//! # Guarantees
//! - Nothing is destroyed before a backup has ended well, enough was written, and all of it was read back.
//! - Once something is destroyed, the restore is run whatever else happens; a stop ends only what comes after it. When it
//!   fails, what the repository still has is restored, and the verdict stays a failure.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Entry, Journal, Load, LoadStart, Recorded, Recorder, RunningLoad, Settings, Stop, World, WorldError,
    open_changes, revert_all,
};
use crate::cluster::StoreMembers;
use crate::cluster::chain;
use crate::component::Moment;
use crate::ledger::Passage;
use crate::model::{
    Drill, ExperimentReport, OnConflict, Operation, Phase, RunId, RunOutcome, Scenario, Seed, Store, Watch,
    Windows,
};

mod course;
mod judge;
mod plan;
pub use judge::judge_drill_again;
#[cfg(test)]
mod tests;

const LOAD_START_DEADLINE: Duration = Duration::from_secs(60);
const LOAD_STOP_DEADLINE: Duration = Duration::from_secs(20);

/// What a drill needs of the cluster beyond a [`World`]. Every method is bounded by a deadline of its own.
pub trait DrillWorld: World {
    /// Pods and volumes of a store.
    fn members(&self, store: Store) -> impl Future<Output = Result<StoreMembers, WorldError>> + Send;

    /// Members that are in sync, by their own word, of how many.
    fn in_sync(&self, store: Store) -> impl Future<Output = Result<(u32, u32), WorldError>> + Send;

    /// Runs the stack's backup job under this name to its end; gives what it said last.
    fn back_up(&self, store: Store, job: &str) -> impl Future<Output = Result<String, WorldError>> + Send;

    /// The store's size, and of a database its clock and how far its archive is.
    fn moment(&self, store: Store) -> impl Future<Output = Result<Moment, WorldError>> + Send;
}

/// Everything that a drill needs, borrowed from its caller.
pub struct Drilling<'a, W: DrillWorld, L: Load> {
    pub world: &'a Arc<W>,
    pub load: &'a L,
    pub drill: &'a Drill,
    pub scenario: &'a Scenario,
    pub run: &'a RunId,
    pub seed: Seed,
    pub settings: &'a Settings,
    pub stop: &'a Stop,
    pub recorder: &'a Recorder,
}

/// What a drill has done and seen so far; survives its panic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Course {
    passage: Passage,
    windows: Windows,
    backup: Option<Result<String, String>>,
    held_back: Option<String>,
    missing_before: Option<u64>,
    /// What was destroyed, for the report.
    destroyed: Option<String>,
    left: Option<(Option<u64>, String)>,
    restore: Option<Result<String, String>>,
    members: Option<(u32, u32)>,
    whole_us: Option<u64>,
    bytes_before: Option<u64>,
}

/// `drill.json`. With the other files of its directory it gives the same judgement at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    pub drill: Drill,
    pub seed: Seed,
    course: Course,
    /// The store's size when all was over.
    bytes_after: Option<u64>,
    outcome: RunOutcome,
    residue: Vec<String>,
    /// How many operations were read when it was judged.
    operations: usize,
    /// Why the timeline is not whole, when it is not.
    gap: Option<String>,
}

impl Recorded for DrillRecord {
    const FILE: &'static str = "drill.json";

    fn operations(&self) -> usize {
        self.operations
    }
}

/// Why the course ended before its end.
#[derive(Debug)]
enum End {
    Stopped,
    Broken(String),
    /// Nothing was destroyed, and nothing is judged but that.
    HeldBack(String),
}

impl From<WorldError> for End {
    fn from(error: WorldError) -> Self {
        Self::Broken(error.chain())
    }
}

/// Runs one drill. Always gives a report; what went wrong is its `outcome`.
pub async fn run_drill<W: DrillWorld, L: Load>(drilling: Drilling<'_, W, L>) -> ExperimentReport {
    let end_probes = CancellationToken::new();
    let probes = tokio::spawn({
        let (world, recorder, end) = (drilling.world.clone(), drilling.recorder.clone(), end_probes.clone());
        async move { world.observe(Watch::default(), recorder, end).await }
    });
    let mut course = Course::default();
    let (outcome, operations, residue) = drilling.with_load(&mut course).await;
    end_probes.cancel();
    if tokio::time::timeout(Duration::from_secs(5), probes).await.is_err() {
        drilling.recorder.note("probes did not end within 5 s");
    }
    drilling.judge(course, outcome, operations, residue).await
}

impl<W: DrillWorld, L: Load> Drilling<'_, W, L> {
    async fn with_load(&self, course: &mut Course) -> (RunOutcome, Vec<Operation>, Vec<String>) {
        let broken = |why: String| (RunOutcome::Broken(why), Vec::new(), Vec::new());
        self.phase(Phase::Prepare);
        if let Err(why) = self.ready_for_it().await {
            return broken(why);
        }
        let mut journal = match self.open_journal().await {
            Ok(journal) => journal,
            Err(error) => return broken(chain(&error)),
        };
        let mut load = match self.start_load().await {
            Ok(load) => load,
            Err(why) => return broken(why),
        };
        let went = AssertUnwindSafe(self.go(&mut load, course, &mut journal)).catch_unwind().await;
        let mut outcome = match went {
            Ok(Ok(())) => RunOutcome::Completed,
            Ok(Err(End::HeldBack(why))) => {
                self.recorder.note(format!("nothing is destroyed: {why}"));
                course.held_back = Some(why);
                RunOutcome::Completed
            }
            Ok(Err(End::Broken(why))) => RunOutcome::Broken(why),
            Ok(Err(End::Stopped)) => self.stopped(),
            Err(_) => RunOutcome::Broken("the drill failed by a bug of ours".to_owned()),
        };
        let residue = self.bring_back(&mut journal).await;
        self.phase(Phase::Drain);
        let died = load.ended().await;
        let operations = match load.stop(LOAD_STOP_DEADLINE).await {
            Ok(operations) => operations,
            Err(error) => {
                outcome = worse(outcome, error.chain());
                Vec::new()
            }
        };
        if let Some(why) = died {
            outcome = worse(outcome, format!("the load ended early: {why}"));
        }
        (outcome, operations, residue)
    }

    async fn open_journal(&self) -> Result<Journal, super::JournalError> {
        let mut journal = Journal::open(&self.settings.journal, self.settings.hook.clone())?;
        let opened = Entry::Opened {
            run: self.run.clone(),
            cluster: self.settings.cluster.clone(),
            experiment: self.drill.drill.clone(),
            seed: self.seed,
        };
        journal.append(&opened).await.map(|()| journal)
    }

    async fn start_load(&self) -> Result<L::Running, String> {
        let start = LoadStart {
            scenario: self.scenario.clone(),
            load: self.drill.load,
            seed: self.seed.derive("load"),
            run: self.run.clone(),
            clock_origin_ns: self.recorder.clock().origin_ns(),
            out: self.settings.out.clone(),
        };
        let started = self.load.start(start, self.recorder.clone());
        match tokio::time::timeout(LOAD_START_DEADLINE, started).await {
            Ok(Ok(load)) => Ok(load),
            Ok(Err(error)) => Err(error.chain()),
            Err(_) => Err(format!("the load was not ready within {} s", LOAD_START_DEADLINE.as_secs())),
        }
    }

    /// What is destroyed and not restored: the drill's own restore failed, or was never reached. Never cancelled; a second
    /// signal ends the waiting, and the journal keeps what is open.
    async fn bring_back(&self, journal: &mut Journal) -> Vec<String> {
        match open_changes(journal.path()) {
            Ok(open) if open.is_empty() => return Vec::new(),
            Ok(_) => self.recorder.note("the data are brought back as far as the repository has them"),
            Err(error) => return vec![format!("nothing was restored by the journal: {}", chain(&error))],
        }
        self.phase(Phase::Revert);
        let path = journal.path().display().to_string();
        tokio::select! {
            biased;
            () = self.stop.second() => vec![format!("the data are destroyed, the restore was not waited for: {path}")],
            reverted = revert_all(&**self.world, journal, self.recorder, OnConflict::Tell) => match reverted {
                Ok(reverted) => reverted.open,
                Err(error) => vec![format!("nothing was restored by the journal: {}", chain(&error))],
            },
        }
    }

    fn phase(&self, phase: Phase) {
        self.recorder.record(crate::model::Fact::PhaseStarted { phase });
    }

    fn now_us(&self) -> u64 {
        self.recorder.clock().now_ms() * 1000
    }

    fn stopped(&self) -> RunOutcome {
        RunOutcome::Stopped(self.stop.reason().unwrap_or("no reason was given").to_owned())
    }
}

/// The first failure is the one that is told.
fn worse(outcome: RunOutcome, reason: String) -> RunOutcome {
    match outcome {
        RunOutcome::Completed => RunOutcome::Broken(reason),
        other => other,
    }
}
