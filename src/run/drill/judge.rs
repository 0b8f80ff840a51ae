//! From what a drill saw to its report. Nothing more is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Course, DrillWorld, Drilling};
use crate::ledger::{self, DrillSeen};
use crate::model::{
    ExperimentReport, FaultReport, Finding, Operation, OperationOutcome, Phase, RunOutcome, Timeline, Verdict,
};
use crate::report::{self, Judged};
use crate::run::Load;

const LEDGER_DEADLINE: Duration = Duration::from_secs(60);

impl<W: DrillWorld, L: Load> Drilling<'_, W, L> {
    pub(super) async fn judge(
        &self,
        course: Course,
        outcome: RunOutcome,
        operations: Vec<Operation>,
        residue: Vec<String>,
    ) -> ExperimentReport {
        self.phase(Phase::Judge);
        let store = self.drill.store;
        // A store that nothing was destroyed in was read before.
        let found = match course.destroyed {
            None => None,
            Some(_) => {
                let read = tokio::time::timeout(LEDGER_DEADLINE, self.world.found(store, self.run)).await;
                let read = read.map_err(|_| "no answer".to_owned());
                match read.and_then(|read| read.map_err(|error| error.chain())) {
                    Ok(found) => Some(found),
                    Err(why) => {
                        self.recorder.note(format!("the ledger was not read: {why}"));
                        None
                    }
                }
            }
        };
        let bytes_after = self.world.moment(store).await.ok().map(|moment| moment.bytes);
        let ledger: BTreeMap<_, _> =
            found.iter().map(|found| (store, ledger::compare(&operations, store, found))).collect();
        let events = self.recorder.events();
        let timeline =
            Timeline { events, operations, windows: course.windows, ledger, ..Timeline::default() };
        let smoke_window = timeline.windows.recovery;
        let reads = timeline
            .operations_in(smoke_window)
            .filter(|operation| operation.writes.is_empty() && operation.outcome == OperationOutcome::Ok);
        // What the run itself could not do says nothing of the stack; what the restore could not is a finding.
        let restore_failed = matches!(course.restore, Some(Err(_)));
        let seen = DrillSeen {
            drill: self.drill,
            operations: &timeline.operations,
            passage: course.passage,
            backup: course.backup.clone().unwrap_or_else(|| Err(NOT_REACHED.to_owned())),
            held_back: course.held_back.clone(),
            missing_before: course.missing_before,
            left: course.left.clone(),
            restore: course.restore.clone(),
            found: found.as_ref(),
            members: course.members,
            whole_us: course.whole_us,
            bytes: (course.bytes_before, bytes_after),
            smoke: timeline.samples(smoke_window),
            smoke_reads: reads.count() as u64,
        };
        let (findings, phases) = match course.backup {
            Some(_) => ledger::judge_drill(&seen),
            None => (vec![Finding::new("backup", Verdict::Inconclusive, NOT_REACHED)], Default::default()),
        };
        let outcome = if restore_failed { RunOutcome::Completed } else { outcome };
        let judged = Judged { findings, phases, resolution_ms: None, impact: None, outcome, residue };
        let mut report = report::experiment(&self.drill.as_experiment(), self.seed, &timeline, judged);
        report.faults.extend(self.fault(&course));
        report
    }

    /// The destruction, as a report shows a fault.
    fn fault(&self, course: &Course) -> Option<FaultReport> {
        let target = course.destroyed.clone()?;
        let evidence: Vec<String> = course.left.iter().map(|(_, text)| text.clone()).collect();
        Some(FaultReport {
            kind: format!("{} {} lost", self.drill.store.as_str(), self.drill.method.as_str()),
            target,
            role: None,
            because: self.drill.destroys(),
            injected_ms: course.passage.destroyed_us.0 / 1000,
            effective_ms: course.left.as_ref().map(|_| course.passage.destroyed_us.1 / 1000),
            reverted_ms: course
                .passage
                .restored_us
                .filter(|_| matches!(course.restore, Some(Ok(_))))
                .map(|us| us / 1000),
            evidence,
        })
    }
}

const NOT_REACHED: &str = "the backup was not reached";
