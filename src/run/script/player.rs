//! Plays one activity after another, or beside one another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::inject::{inject, resolve_of_script};
use super::super::judge::record_of;
use super::super::revert::{settle, undo};
use super::super::window::Injected;
use super::super::{InjectError, Journal, Recorder, Stop, World, open_changes};
use super::log::{Log, Part, Status};
use super::{Outside, Unanswered};
use crate::cluster::chain;
use crate::fault;
use crate::model::{
    Activity, Deed, Fact, FaultSpec, InjectedFault, OnConflict, Question, RunId, Script, Seed,
};

/// Between two looks of a probe that waits.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Until every fault was seen to bite, before the hypothesis is asked again.
const EVIDENCE_MAX: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a list of activities ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    Broken(String),
}

/// The journal of mettle's own changes, and the faults in it.
pub struct Bench {
    pub journal: Journal,
    pub injected: Vec<Injected>,
}

pub struct Player<W: World, O: Outside> {
    pub world: Arc<W>,
    pub outside: Arc<O>,
    pub script: Arc<Script>,
    pub name: String,
    pub run: RunId,
    pub seed: Seed,
    pub stop: Stop,
    pub recorder: Recorder,
    pub log: Log,
    pub bench: Arc<tokio::sync::Mutex<Bench>>,
    /// The method is over, whatever became of it: what still plays beside it ends.
    pub over: CancellationToken,
    pub beside: Mutex<Vec<JoinHandle<Result<(), Ended>>>>,
}

impl<W: World, O: Outside> Player<W, O> {
    /// Asks every probe of the hypothesis; whether all were answered as they must be.
    pub async fn hypothesis(&self, part: Part) -> Result<bool, Ended> {
        let mut met = true;
        for (position, probe) in self.script.probes.iter().enumerate() {
            let number = self.play(&probe.activity, part, position).await?;
            met &= self.log.entries()[number].is_met();
        }
        Ok(met)
    }

    /// The method, with what plays beside it, until every fault in it was seen to bite.
    pub async fn method(self: &Arc<Self>) -> Result<(), Ended> {
        for (position, activity) in self.script.method.iter().enumerate() {
            if activity.background {
                self.beside(position);
            } else {
                self.play(activity, Part::Method, position).await?;
            }
        }
        for played in self.take_beside() {
            joined(played.await)?;
        }
        self.until_bitten().await
    }

    fn beside(self: &Arc<Self>, position: usize) {
        let player = self.clone();
        let played = tokio::spawn(async move {
            let activity = &player.script.method[position];
            player.play(activity, Part::Method, position).await.map(drop)
        });
        self.beside.lock().unwrap_or_else(PoisonError::into_inner).push(played);
    }

    pub fn take_beside(&self) -> Vec<JoinHandle<Result<(), Ended>>> {
        std::mem::take(&mut self.beside.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every rollback, in order, whatever became of those before; a stop that came before does not cut them.
    pub async fn rollbacks(&self) {
        let (beside, ahead): (Vec<_>, Vec<_>) =
            self.script.rollbacks.iter().enumerate().partition(|(_, activity)| activity.background);
        let beside =
            beside.into_iter().map(|(position, activity)| self.play(activity, Part::Rollbacks, position));
        let beside = futures::future::join_all(beside);
        let ahead = async {
            for (position, activity) in ahead {
                let _ = self.play(activity, Part::Rollbacks, position).await;
            }
        };
        tokio::join!(beside, ahead);
    }

    /// Resolves when nobody waits for this part any more.
    async fn cut(&self, part: Part) {
        match part {
            Part::Rollbacks => self.stop.second().await,
            Part::Before | Part::Method | Part::After => tokio::select! {
                () = self.stop.requested() => {}
                () = self.over.cancelled() => {}
            },
        }
    }

    async fn pause(&self, ms: u64, part: Part) -> Result<(), Ended> {
        // A person who wants us to end does not want rollbacks to wait for nothing.
        let hurried = part == Part::Rollbacks && self.stop.is_requested();
        if ms == 0 || hurried {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.cut(part) => Err(Ended::Stopped),
            () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(()),
        }
    }

    /// Plays one, with its pauses; gives its number in the log.
    async fn play(&self, activity: &Activity, part: Part, position: usize) -> Result<usize, Ended> {
        self.pause(activity.pause_before_ms, part).await?;
        let number = self.log.begin(part, position, activity);
        let does = activity.describe(&self.script.hidden);
        self.recorder.note(format!("{}: {does}", self.shown(&activity.name)));
        let ended = self.deed(activity, part).await;
        let (status, output, why, broken) = match ended {
            Ok(output) => (Status::Succeeded, output, String::new(), None),
            Err(Undone::Answer(Unanswered::Silent(why))) => (Status::Failed, Value::Null, why, None),
            Err(Undone::Answer(Unanswered::Unasked(why))) => (Status::Unknown, Value::Null, why, None),
            Err(Undone::Cut) => (Status::Cut, Value::Null, "it was stopped".to_owned(), Some(Ended::Stopped)),
            Err(Undone::Broken(why)) => (Status::Failed, Value::Null, why.clone(), Some(Ended::Broken(why))),
        };
        let why = self.shown(&why);
        // Judged as it came, and kept without what nobody may read.
        let probe = match part {
            Part::Before | Part::After if status == Status::Succeeded => self.script.probes.get(position),
            _ => None,
        };
        let within = probe.map(|probe| probe.tolerance.judge(&output, &self.script.hidden));
        if status != Status::Succeeded {
            self.recorder.note(format!("{}: {why}", self.shown(&activity.name)));
        }
        self.log.end(number, status, self.script.hidden.scrub_value(&output), why, within);
        if let Some(ended) = broken {
            return Err(ended);
        }
        self.pause(activity.pause_after_ms, part).await?;
        Ok(number)
    }

    fn shown(&self, text: &str) -> String {
        self.script.hidden.scrub(text)
    }

    async fn deed(&self, activity: &Activity, part: Part) -> Result<Value, Undone> {
        let answer = async {
            match &activity.deed {
                Deed::Http(call) => self.outside.http(call).await,
                Deed::Process(call) => self.outside.process(call).await,
                Deed::Ask(question) => self.ask(question).await,
                Deed::Fault { .. } | Deed::Release { .. } | Deed::Reverted { .. } => Ok(Value::Null),
            }
        };
        match &activity.deed {
            // Never cut: an apply, and an undo, come to their own end.
            Deed::Fault { index, spec } => {
                if part != Part::Method || self.stop.is_requested() || self.over.is_cancelled() {
                    return Err(Undone::Cut);
                }
                self.inject(*index, spec).await.map_err(|error| Undone::Broken(chain(&error)))
            }
            Deed::Release { index } => self.release(*index).await,
            Deed::Reverted { .. } => Ok(Value::from("reverted by mettle")),
            Deed::Http(_) | Deed::Process(_) | Deed::Ask(_) => tokio::select! {
                biased;
                () = self.cut(part) => Err(Undone::Cut),
                answer = answer => answer.map_err(Undone::Answer),
            },
        }
    }

    async fn ask(&self, question: &Question) -> Result<Value, Unanswered> {
        let end = Instant::now() + Duration::from_secs(u64::from(question.within_seconds));
        loop {
            let facts = self.outside.facts(&question.reading).await;
            match facts.map(|facts| question.answer(&facts)) {
                Ok(answered) if question.is_answered(&answered) || Instant::now() >= end => {
                    return answered.map_err(Unanswered::Silent);
                }
                Err(unanswered) if question.within_seconds == 0 || Instant::now() >= end => {
                    return Err(unanswered);
                }
                _ => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    async fn inject(&self, index: usize, spec: &FaultSpec) -> Result<Value, InjectError> {
        let mut bench = self.bench.lock().await;
        let snapshot = self.world.snapshot().await?;
        let fault = resolve_of_script(&self.name, &self.run, self.seed, (index, spec), &snapshot)?;
        let mut all: Vec<_> = bench.injected.iter().map(|injected| injected.begun.fault.clone()).collect();
        all.push(fault.clone());
        fault::guard(&all, &self.script.limits, &snapshot)?;
        let injected_ms = self.recorder.clock().now_ms();
        let begun = InjectedFault { fault: fault.clone(), injected_ms, reverted_ms: None };
        bench.injected.push(Injected { begun, sequences: Vec::new() });
        let applied = inject(&*self.world, &mut bench.journal, &self.recorder, &self.run, &fault, &snapshot);
        let sequences = applied.await?;
        if let Some(injected) = bench.injected.iter_mut().find(|injected| injected.begun.fault.index == index)
        {
            injected.sequences = sequences;
        }
        Ok(fault.changes.iter().map(|change| Value::from(change.target.object.as_str())).collect())
    }

    /// Takes one fault back. What is not undone stays open in the journal: the revert at the end tries again.
    async fn release(&self, index: usize) -> Result<Value, Undone> {
        let mut bench = self.bench.lock().await;
        let found = bench.injected.iter().find(|injected| injected.begun.fault.index == index);
        let sequences = found.map(|injected| injected.sequences.clone()).unwrap_or_default();
        let open = open_changes(bench.journal.path()).map_err(|error| Undone::Broken(chain(&error)))?;
        for change in open.into_iter().filter(|open| sequences.contains(&open.sequence)) {
            let undone = undo(&*self.world, change, OnConflict::Tell).await;
            settle(&mut bench.journal, &self.recorder, undone).await.map_err(Undone::Broken)?;
        }
        let now_ms = self.recorder.record(Fact::FaultReverted { fault: index });
        if let Some(injected) = bench.injected.iter_mut().find(|injected| injected.begun.fault.index == index)
        {
            injected.begun.reverted_ms = Some(now_ms);
        }
        Ok(Value::from("reverted by mettle"))
    }

    /// What is asked before a fault bit says nothing of it.
    async fn until_bitten(&self) -> Result<(), Ended> {
        let injected = self.bench.lock().await.injected.clone();
        let end = Instant::now() + EVIDENCE_MAX;
        while Instant::now() < end {
            let events = self.recorder.events();
            if injected.iter().all(|injected| record_of(&injected.begun, &events).effective_ms.is_some()) {
                break;
            }
            if self.stop.sleep(LOOK_EVERY).await.is_err() {
                return Err(Ended::Stopped);
            }
        }
        Ok(())
    }
}

/// Why a deed was not done.
enum Undone {
    Answer(Unanswered),
    Cut,
    Broken(String),
}

/// How something that played beside the method ended.
pub fn joined(played: Result<Result<(), Ended>, tokio::task::JoinError>) -> Result<(), Ended> {
    played.unwrap_or_else(|panic| Err(Ended::Broken(format!("an activity failed: {panic}"))))
}
