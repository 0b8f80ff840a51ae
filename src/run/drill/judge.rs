//! From what a drill saw to its report: the store is read back and everything is put on disk; then it is judged, from nothing
//! else than what is on disk, so that anybody can judge again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Course, DrillRecord, DrillWorld, Drilling};
use crate::ledger::{self, DrillSeen, Found};
use crate::model::{
    Drill, ExperimentReport, FaultReport, Finding, Operation, OperationOutcome, Phase, RunOutcome, Store,
    Timeline, Verdict,
};
use crate::report::{self, Judged};
use crate::run::Load;
use crate::run::evidence::{Evidence, stored_and_judged};

const LEDGER_DEADLINE: Duration = Duration::from_secs(60);
const NOT_REACHED: &str = "the backup was not reached";

impl<W: DrillWorld, L: Load> Drilling<'_, W, L> {
    pub(super) async fn judge(
        &self,
        course: Course,
        outcome: RunOutcome,
        operations: Vec<Operation>,
        residue: Vec<String>,
    ) -> ExperimentReport {
        self.phase(Phase::Judge);
        // A store that nothing was destroyed in was read before.
        let found = match course.destroyed {
            None => BTreeMap::new(),
            Some(_) => self.read_store().await,
        };
        let bytes_after = self.world.moment(self.drill.store).await.ok().map(|moment| moment.bytes);
        let (events, gap) = self.recorder.seal();
        let record = DrillRecord {
            drill: self.drill.clone(),
            seed: self.seed,
            course,
            bytes_after,
            outcome,
            residue,
            operations: operations.len(),
            gap,
        };
        let evidence = Evidence { record, events, operations, found };
        stored_and_judged(&self.settings.out, evidence, judge_drill_again)
    }

    async fn read_store(&self) -> BTreeMap<Store, Found> {
        let store = self.drill.store;
        let read = tokio::time::timeout(LEDGER_DEADLINE, self.world.found(store, self.run)).await;
        let read = read.map_err(|_| "no answer".to_owned());
        match read.and_then(|read| read.map_err(|error| error.chain())) {
            Ok(found) => BTreeMap::from([(store, found)]),
            Err(why) => {
                self.recorder.note(format!("the ledger was not read: {why}"));
                BTreeMap::new()
            }
        }
    }
}

/// The report of a drill from its evidence, now or at any later time: pure, and always the same.
#[must_use]
pub fn judge_drill_again(evidence: Evidence<DrillRecord>) -> ExperimentReport {
    let Evidence { record, events, operations, found } = evidence;
    let DrillRecord { drill, seed, course, bytes_after, outcome, residue, gap, .. } = record;
    let stores = found.iter();
    let ledger = stores.map(|(store, found)| (*store, ledger::compare(&operations, *store, found))).collect();
    let timeline = Timeline { events, operations, windows: course.windows, ledger, ..Timeline::default() };
    let smoke_window = timeline.windows.recovery;
    let reads = timeline
        .operations_in(smoke_window)
        .filter(|operation| operation.writes.is_empty() && operation.outcome == OperationOutcome::Ok);
    let seen = DrillSeen {
        drill: &drill,
        operations: &timeline.operations,
        passage: course.passage,
        backup: course.backup.clone().unwrap_or_else(|| Err(NOT_REACHED.to_owned())),
        held_back: course.held_back.clone(),
        missing_before: course.missing_before,
        left: course.left.clone(),
        restore: course.restore.clone(),
        found: found.get(&drill.store),
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
    // What the run itself could not do says nothing of the stack; what the restore could not is a finding.
    let restore_failed = matches!(course.restore, Some(Err(_)));
    let outcome = if restore_failed { RunOutcome::Completed } else { outcome };
    let judged = Judged { findings, phases, resolution_ms: None, impact: None, outcome, residue };
    let mut report = report::experiment(&drill.as_experiment(), seed, &timeline, judged);
    report.faults.extend(fault(&drill, &course));
    if let Some(gap) = gap {
        report.doubt(format!("the timeline is not whole: {gap}"));
    }
    report
}

/// The destruction, as a report shows a fault.
fn fault(drill: &Drill, course: &Course) -> Option<FaultReport> {
    let target = course.destroyed.clone()?;
    let evidence: Vec<String> = course.left.iter().map(|(_, text)| text.clone()).collect();
    let Course { passage, restore, .. } = course;
    Some(FaultReport {
        kind: format!("{} {} lost", drill.store.as_str(), drill.method.as_str()),
        target,
        role: None,
        because: drill.destroys(),
        injected_ms: passage.destroyed_us.0 / 1000,
        effective_ms: course.left.as_ref().map(|_| passage.destroyed_us.1 / 1000),
        reverted_ms: passage.restored_us.filter(|_| matches!(restore, Some(Ok(_)))).map(|us| us / 1000),
        evidence,
    })
}
