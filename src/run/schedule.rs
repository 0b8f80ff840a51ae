//! A rehearsal whose faults are one schedule: beside one another, each held for its whole time. The window is that of
//! an experiment, without load and without a judgement of the stack.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inject::as_experiment;
use super::judge::record_of;
use super::rehearse::{EVIDENCE_SLACK, LOOK_EVERY, RESIDUE_DEADLINE, Rehearsing};
use super::window::{FaultWindow, Injected, Injections, WindowError};
use super::{Journal, Recorder, RunClock, World, revert_all};
use crate::cluster::chain;
use crate::model::{FaultRecord, OnConflict, Rehearsal, RehearsalRow, Verdict, Watch};

impl<W: World> Rehearsing<'_, W> {
    /// Injects all faults at their times, waits for their effects, reverts them, and looks for what is left. Always
    /// gives a row for each.
    pub async fn together(&self, rehearsal: &Rehearsal) -> Vec<RehearsalRow> {
        let recorder = Recorder::in_memory(RunClock::start());
        let end = CancellationToken::new();
        let probes = tokio::spawn({
            let (world, recorder, end) = (Arc::clone(self.world), recorder.clone(), end.clone());
            async move { world.observe(Watch::default(), recorder, end).await }
        });
        let mut rows: Vec<_> = rehearsal.faults.iter().map(|fault| RehearsalRow::of(fault.kind)).collect();
        match self.prepared(0, &recorder).await {
            Ok(journal) => self.all_at_their_times(rehearsal, &recorder, journal, &mut rows).await,
            Err(why) => rows.iter_mut().for_each(|row| row.why.clone_from(&why)),
        }
        end.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), probes).await;
        rows
    }

    async fn all_at_their_times(
        &self,
        rehearsal: &Rehearsal,
        recorder: &Recorder,
        journal: Journal,
        rows: &mut [RehearsalRow],
    ) {
        let path = journal.path().to_owned();
        let injections = Injections::default();
        let window =
            FaultWindow::of_rehearsal(self, as_experiment(rehearsal), recorder, journal, injections.clone());
        let (journal, ended) = match tokio::spawn(window.run()).await {
            Ok((journal, Ok(()))) => (Ok(journal), Ok(())),
            Ok((journal, Err(WindowError::Stopped))) => (Ok(journal), Err("stopped".to_owned())),
            Ok((journal, Err(WindowError::Inject(error)))) => (Ok(journal), Err(chain(&error))),
            Err(panic) => {
                (Journal::open(&path, self.hook.clone()), Err(format!("the schedule failed: {panic}")))
            }
        };
        let injected = injections.take();
        let ended = match ended {
            Ok(()) => self.until_bitten(&injected, recorder).await,
            Err(why) => Err(why),
        };
        // Whatever became of the schedule.
        let reverted = match journal {
            Ok(mut journal) => revert_all(&**self.world, &mut journal, recorder, OnConflict::Tell).await,
            Err(error) => Err(error),
        };
        let mut residue = match reverted {
            Ok(reverted) => reverted.open,
            Err(error) => vec![chain(&error)],
        };
        if residue.is_empty() {
            // Nothing is open in it.
            let _ = std::fs::remove_file(&path);
        }
        match tokio::time::timeout(RESIDUE_DEADLINE, self.world.residue()).await {
            Ok(Ok(left)) => residue.extend(left),
            Ok(Err(error)) => residue.push(format!("the residue scan failed: {}", error.chain())),
            Err(_) => residue.push("the residue scan gave no answer".to_owned()),
        }
        let events = recorder.events();
        for (index, row) in rows.iter_mut().enumerate() {
            let record = injected.iter().find(|one| one.begun.fault.index == index);
            judge(row, record.map(|one| record_of(&one.begun, &events)), &ended, &residue);
        }
    }

    async fn until_bitten(&self, injected: &[Injected], recorder: &Recorder) -> Result<(), String> {
        let end = Instant::now() + EVIDENCE_SLACK;
        while Instant::now() < end {
            let events = recorder.events();
            if injected.iter().all(|one| record_of(&one.begun, &events).effective_ms.is_some()) {
                break;
            }
            if self.stop.sleep(LOOK_EVERY).await.is_err() {
                return Err("stopped".to_owned());
            }
        }
        Ok(())
    }
}

/// What is left behind may be any fault's, so none of them is clean.
fn judge(
    row: &mut RehearsalRow,
    record: Option<FaultRecord>,
    ended: &Result<(), String>,
    residue: &[String],
) {
    row.residue = residue.to_vec();
    let effective_ms = record.as_ref().and_then(|record| record.effective_ms);
    if let Some(record) = record {
        row.targets = record.targets.iter().map(|target| target.object.clone()).collect();
        row.effective_ms = effective_ms.map(|at_ms| at_ms.saturating_sub(record.injected_ms));
        row.evidence = record.evidence;
    }
    (row.verdict, row.why) = match (residue.first(), ended, effective_ms) {
        (Some(left), ..) => (Verdict::Fail, format!("left behind: {left}")),
        (None, Err(why), _) => (Verdict::Inconclusive, why.clone()),
        (None, Ok(()), None) => (Verdict::Inconclusive, "it was not seen to bite".to_owned()),
        (None, Ok(()), Some(_)) => (Verdict::Pass, String::new()),
    };
}
