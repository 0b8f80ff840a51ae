//! Faults one after another, without load: whether each bites on this cluster, how fast, and whether anything is left.
//! The same journal, the same application and the same revert as in a run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inject::{InjectError, inject, resolve_of_rehearsal};
use super::{
    Entry, Hook, Journal, Recorder, RunClock, Stop, World, not_restored, revert_all, stack_restored,
};
use crate::fault;
use crate::model::{FaultSpec, Limits, OnConflict, PlannedFault, RehearsalRow, RunId, Seed, Verdict, Watch};

/// Until the stack is as it should be before the next fault.
const REST_DEADLINE: Duration = Duration::from_secs(150);
const REST_STABLE: Duration = Duration::from_secs(3);
/// Beyond the time that a fault is held: a kubelet that notices, an image that is tried.
pub(super) const EVIDENCE_SLACK: Duration = Duration::from_secs(45);
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
pub(super) const RESIDUE_DEADLINE: Duration = Duration::from_secs(30);

/// What all faults of a rehearsal have in common.
pub struct Rehearsing<'a, W: World> {
    pub world: &'a Arc<W>,
    pub stop: &'a Stop,
    pub run: &'a RunId,
    pub seed: Seed,
    pub limits: Limits,
    pub cluster: &'a str,
    /// Directory of the journals.
    pub journals: &'a Path,
    pub hook: Option<Hook>,
}

impl<W: World> Rehearsing<'_, W> {
    /// Injects one fault, waits for its effect, reverts it, and looks for what is left. Always gives a row.
    pub async fn one(&self, index: usize, spec: &FaultSpec) -> RehearsalRow {
        // Each with a timeline of its own: what was seen before it is no evidence.
        let recorder = Recorder::in_memory(RunClock::start());
        let end = CancellationToken::new();
        let probes = tokio::spawn({
            let (world, recorder, end) = (self.world.clone(), recorder.clone(), end.clone());
            async move { world.observe(Watch::default(), recorder, end).await }
        });
        let mut row = RehearsalRow::of(spec.kind);
        match self.prepared(index, &recorder).await {
            Ok(journal) => self.there_and_back(index, spec, &recorder, journal, &mut row).await,
            Err(why) => row.why = why,
        }
        end.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), probes).await;
        row
    }

    pub(super) async fn prepared(&self, index: usize, recorder: &Recorder) -> Result<Journal, String> {
        self.rest(recorder).await?;
        self.open(&self.journals.join(format!("{}-{index}.jsonl", self.run))).await
    }

    async fn there_and_back(
        &self,
        index: usize,
        spec: &FaultSpec,
        recorder: &Recorder,
        mut journal: Journal,
        row: &mut RehearsalRow,
    ) {
        let injected = self.inject(index, spec, recorder, &mut journal, row).await;
        let begun = Instant::now();
        // Whatever became of the injection.
        match revert_all(&**self.world, &mut journal, recorder, OnConflict::Tell).await {
            Ok(reverted) if reverted.open.is_empty() => {
                row.reverted_ms = Some(ms(begun));
                // Nothing is open in it.
                let _ = std::fs::remove_file(journal.path());
            }
            Ok(reverted) => row.residue.extend(reverted.open),
            Err(error) => row.residue.push(error.to_string()),
        }
        match tokio::time::timeout(RESIDUE_DEADLINE, self.world.residue()).await {
            Ok(Ok(left)) => row.residue.extend(left),
            Ok(Err(error)) => row.residue.push(format!("the residue scan failed: {}", error.chain())),
            Err(_) => row.residue.push("the residue scan gave no answer".to_owned()),
        }
        (row.verdict, row.why) = match (row.residue.first(), injected) {
            (Some(left), _) => (Verdict::Fail, format!("left behind: {left}")),
            (None, Err(why)) => (Verdict::Inconclusive, why),
            (None, Ok(())) => (Verdict::Pass, String::new()),
        };
    }

    /// Waits until the stack is as it should be.
    async fn rest(&self, recorder: &Recorder) -> Result<(), String> {
        let end = Instant::now() + REST_DEADLINE;
        let mut whole_since: Option<Instant> = None;
        while Instant::now() < end {
            if self.stop.sleep(Duration::from_millis(250)).await.is_err() {
                return Err("stopped".to_owned());
            }
            whole_since = recorder.look(0, stack_restored).then(|| whole_since.unwrap_or_else(Instant::now));
            if whole_since.is_some_and(|since| since.elapsed() >= REST_STABLE) {
                return Ok(());
            }
        }
        let lacks = recorder.look(0, not_restored).join(", ");
        Err(format!("the stack was not whole within {} s before it: {lacks}", REST_DEADLINE.as_secs()))
    }

    async fn open(&self, path: &Path) -> Result<Journal, String> {
        let mut journal = Journal::open(path, self.hook.clone()).map_err(|error| error.to_string())?;
        let opened = Entry::Opened {
            run: self.run.clone(),
            cluster: self.cluster.to_owned(),
            experiment: "rehearsal".to_owned(),
            seed: self.seed,
        };
        journal.append(&opened).await.map_err(|error| error.to_string())?;
        Ok(journal)
    }

    async fn inject(
        &self,
        index: usize,
        spec: &FaultSpec,
        recorder: &Recorder,
        journal: &mut Journal,
        row: &mut RehearsalRow,
    ) -> Result<(), String> {
        let snapshot = self.world.snapshot().await.map_err(|error| error.chain())?;
        let planned = resolve_of_rehearsal(self.run, self.seed, spec, &snapshot, index);
        let planned = planned.map_err(|error| error.to_string())?;
        row.targets = planned.changes.iter().map(|change| change.target.object.clone()).collect();
        fault::guard(std::slice::from_ref(&planned), &self.limits, &snapshot)
            .map_err(|error| error.to_string())?;
        let (decided, since_ms) = (Instant::now(), recorder.clock().now_ms());
        let injected = inject(&**self.world, journal, recorder, self.run, &planned, &snapshot).await;
        injected.map_err(|error| match error {
            InjectError::Apply { reason, .. } => reason,
            other => other.to_string(),
        })?;
        row.applied_ms = Some(ms(decided));
        let hold = Duration::from_secs(u64::from(spec.hold_seconds));
        self.until_effective(&planned, recorder, since_ms, decided + hold + EVIDENCE_SLACK, row).await?;
        // At least for a moment: what is reverted at once was hardly held.
        let held_until = decided + hold.min(Duration::from_secs(3));
        if self.stop.sleep(held_until.saturating_duration_since(Instant::now())).await.is_err() {
            return Err("stopped".to_owned());
        }
        Ok(())
    }

    async fn until_effective(
        &self,
        planned: &PlannedFault,
        recorder: &Recorder,
        since_ms: u64,
        end: Instant,
        row: &mut RehearsalRow,
    ) -> Result<(), String> {
        while Instant::now() < end {
            let found: Vec<_> = recorder.look(since_ms, |events| {
                let changes = planned.changes.iter();
                changes.map(|change| fault::evidence(planned.kind, change, events)).collect()
            });
            if !found.is_empty() && found.iter().all(|evidence| !evidence.is_empty()) {
                let last_ms = found.iter().flatten().map(|(at_ms, _)| *at_ms).max();
                row.effective_ms = last_ms.map(|at_ms| at_ms.saturating_sub(since_ms));
                row.evidence = found.into_iter().flatten().map(|(_, text)| text).collect();
                return Ok(());
            }
            if self.stop.sleep(LOOK_EVERY).await.is_err() {
                return Err("stopped".to_owned());
            }
        }
        Err("it was not seen to bite".to_owned())
    }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
