//! The fault window: every fault is injected at its time, and one whose hold ends before the window does is
//! reverted at its own end, while the others go on. What is still held at the end is the revert's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::experiment::Context;
use super::inject::{inject, resolve_one};
use super::revert::{Undo, settle, undo};
use super::stop::Stopped;
use super::{InjectError, Journal, Load, Recorder, Rehearsing, Stop, World, open_changes};
use crate::fault;
use crate::model::{Experiment, Fact, InjectedFault, OnConflict, PlannedFault, RunId, Seed};

/// A fault that was begun.
#[derive(Debug, Clone)]
pub(super) struct Injected {
    pub begun: InjectedFault,
    /// Its changes in the journal.
    pub sequences: Vec<u64>,
}

/// What was injected so far. Shared with the caller, so that it is known after a panic too.
#[derive(Debug, Clone, Default)]
pub(super) struct Injections(Arc<Mutex<Vec<Injected>>>);

impl Injections {
    fn with<T>(&self, see: impl FnOnce(&mut Vec<Injected>) -> T) -> T {
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn take(&self) -> Vec<Injected> {
        self.with(std::mem::take)
    }
}

pub(super) enum WindowError {
    Stopped,
    Inject(InjectError),
}

impl From<Stopped> for WindowError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl<E: Into<InjectError>> From<E> for WindowError {
    fn from(error: E) -> Self {
        Self::Inject(error.into())
    }
}

/// At the same second what ends goes first, so that limits are not exceeded by the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Release(usize),
    Inject(usize),
}

/// What happens at which second of the window, in order; faults by their position in the experiment.
fn steps(experiment: &Experiment) -> Vec<(u32, Step)> {
    let window = window_seconds(experiment);
    let mut steps = Vec::new();
    for (index, fault) in experiment.faults.iter().enumerate() {
        steps.push((fault.at_seconds, Step::Inject(index)));
        let end = fault.at_seconds.saturating_add(fault.hold_seconds);
        // A killed pod is not held: its undo only waits for the controller.
        if fault.kind.shape().held && end < window {
            steps.push((end, Step::Release(index)));
        }
    }
    steps.sort();
    steps
}

/// How long the fault window is: until every fault was held, and at least as long as the experiment says.
pub(super) fn window_seconds(experiment: &Experiment) -> u32 {
    let ends = experiment.faults.iter().map(|fault| fault.at_seconds.saturating_add(fault.hold_seconds));
    let step = experiment.load.step.map_or(0, |step| step.at_seconds.saturating_add(step.hold_seconds));
    ends.max().unwrap_or(0).max(step).max(experiment.phases.fault)
}

/// The undos of one fault, done.
struct Released {
    fault: usize,
    undos: Vec<Undo>,
}

pub(super) struct FaultWindow<W: World> {
    world: Arc<W>,
    experiment: Experiment,
    run: RunId,
    seed: Seed,
    stop: Stop,
    recorder: Recorder,
    journal: Journal,
    injected: Injections,
    control: bool,
    /// Undos under way: they wait until their target serves again, and the schedule does not wait for them.
    releasing: JoinSet<Released>,
}

impl<W: World> FaultWindow<W> {
    pub fn new<L: Load>(context: &Context<'_, W, L>, journal: Journal, injected: Injections) -> Self {
        Self {
            world: context.world.clone(),
            experiment: context.experiment.clone(),
            run: context.run.clone(),
            seed: context.seed,
            stop: context.stop.clone(),
            recorder: context.recorder.clone(),
            journal,
            injected,
            control: context.control,
            releasing: JoinSet::new(),
        }
    }

    /// That of a rehearsal whose faults are one schedule.
    pub fn of_rehearsal(
        rehearsing: &Rehearsing<'_, W>,
        experiment: Experiment,
        recorder: &Recorder,
        journal: Journal,
        injected: Injections,
    ) -> Self {
        Self {
            world: rehearsing.world.clone(),
            experiment,
            run: rehearsing.run.clone(),
            seed: rehearsing.seed,
            stop: rehearsing.stop.clone(),
            recorder: recorder.clone(),
            journal,
            injected,
            control: false,
            releasing: JoinSet::new(),
        }
    }

    pub async fn run(mut self) -> (Journal, Result<(), WindowError>) {
        let result = self.schedule().await;
        // An undo under way is not dropped; a second signal ends the wait, and the journal keeps what is open.
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.second() => {}
            () = async {
                while let Some(released) = self.releasing.join_next().await {
                    self.settle(released).await;
                }
            } => {}
        }
        (self.journal, result)
    }

    async fn schedule(&mut self) -> Result<(), WindowError> {
        let start_ms = self.recorder.clock().now_ms();
        for (at_seconds, step) in steps(&self.experiment) {
            self.wait_until(start_ms + u64::from(at_seconds) * 1000).await?;
            match step {
                _ if self.control => {}
                Step::Inject(index) => self.inject(index).await?,
                Step::Release(index) => self.release(index)?,
            }
        }
        self.wait_until(start_ms + u64::from(window_seconds(&self.experiment)) * 1000).await?;
        Ok(())
    }

    async fn inject(&mut self, index: usize) -> Result<(), WindowError> {
        // Roles move: each fault is resolved against the cluster as it is when it is injected.
        let snapshot = self.world.snapshot().await?;
        let fault = resolve_one(&self.experiment, &self.run, self.seed, &snapshot, index)?;
        let mut all: Vec<PlannedFault> = self
            .injected
            .with(|injected| injected.iter().map(|injected| injected.begun.fault.clone()).collect());
        all.push(fault.clone());
        fault::guard(&all, &self.experiment.limits, &snapshot)?;
        let injected_ms = self.recorder.clock().now_ms();
        let begun = InjectedFault { fault: fault.clone(), injected_ms, reverted_ms: None };
        self.injected.with(|injected| injected.push(Injected { begun, sequences: Vec::new() }));
        let sequences =
            inject(&*self.world, &mut self.journal, &self.recorder, &self.run, &fault, &snapshot).await?;
        self.with_fault(index, |injected| injected.sequences = sequences);
        Ok(())
    }

    /// Begins to revert one fault; last change first, as ever.
    fn release(&mut self, index: usize) -> Result<(), WindowError> {
        let sequences = self.with_fault(index, |injected| injected.sequences.clone()).unwrap_or_default();
        let open = open_changes(self.journal.path())?.into_iter();
        let open: Vec<_> = open.filter(|open| sequences.contains(&open.sequence)).collect();
        let world = self.world.clone();
        self.releasing.spawn(async move {
            let mut undos = Vec::with_capacity(open.len());
            for change in open {
                undos.push(undo(&*world, change, OnConflict::Tell).await);
            }
            Released { fault: index, undos }
        });
        Ok(())
    }

    /// What was not undone here stays open in the journal: the revert after the window tries again.
    async fn settle(&mut self, released: Result<Released, JoinError>) {
        let Ok(Released { fault, undos }) = released else {
            self.recorder.note("reverting a fault at its own end failed");
            return;
        };
        let mut whole = true;
        for undo in undos {
            whole &= settle(&mut self.journal, &self.recorder, undo).await.is_ok();
        }
        if whole {
            let now_ms = self.recorder.record(Fact::FaultReverted { fault });
            self.with_fault(fault, |injected| injected.begun.reverted_ms = Some(now_ms));
        }
    }

    fn with_fault<T>(&self, index: usize, see: impl FnOnce(&mut Injected) -> T) -> Option<T> {
        self.injected.with(|injected| injected.iter_mut().find(|one| one.begun.fault.index == index).map(see))
    }

    async fn wait_until(&mut self, at_ms: u64) -> Result<(), WindowError> {
        let left = at_ms.saturating_sub(self.recorder.clock().now_ms());
        let stop = self.stop.clone();
        let mut waited = std::pin::pin!(stop.sleep(Duration::from_millis(left)));
        loop {
            tokio::select! {
                biased;
                waited = &mut waited => return Ok(waited?),
                Some(released) = self.releasing.join_next() => self.settle(released).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Inject, Release};
    use super::{steps, window_seconds};
    use crate::model::Experiment;

    #[test]
    fn a_hold_that_ends_before_the_window_is_released_at_its_own_end() {
        let experiment: Experiment = serde_json::from_value(serde_json::json!({
            "name": "x", "scenario": "x.yaml", "expect": [], "phases": {"fault": 12},
            "faults": [
                {"kind": "process-pause", "target": {"component": "redis"}, "atSeconds": 5, "holdSeconds": 10},
                {"kind": "node-kill", "target": {"node": "n1"}, "atSeconds": 10, "holdSeconds": 20},
                {"kind": "pod-kill", "target": {"component": "redis"}, "atSeconds": 15, "holdSeconds": 1},
            ],
        }))
        .unwrap();
        assert_eq!(window_seconds(&experiment), 30);
        assert_eq!(steps(&experiment), [(5, Inject(0)), (10, Inject(1)), (15, Release(0)), (15, Inject(2))]);
    }
}
