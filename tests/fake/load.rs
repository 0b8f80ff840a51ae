//! A load of one hundred requests a second against the in-memory cluster, with true outcomes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mettle::model::{ErrorClass, Fact, LoadSecond, OpId, Operation, OperationOutcome, RunId, Seen, Store};
use mettle::run::{Load, LoadStart, Recorder, RunningLoad, WorldError};
use tokio::task::JoinHandle;

use super::LoadLife;
use super::cluster::lock;
use super::group::Group;
use super::state::State;

const EVERY: Duration = Duration::from_millis(10);
const LATENCY_US: u64 = 5000;
const TIMEOUT_US: u64 = 1_000_000;

/// In turn, whatever the scenario says: its steps, and the stores that each writes to.
const STEPS: [(&str, &[Store]); 6] = [
    ("reader.catalog", &[]),
    ("reader.get-model", &[]),
    ("predictor.predict", &[Store::Postgres, Store::Jobs, Store::Kafka]),
    ("predictor.read-back", &[]),
    ("session.append", &[Store::Redis]),
    ("session.read", &[]),
];

pub struct FakeLoad {
    pub state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct Sent {
    operations: Vec<Operation>,
    died: Option<String>,
}

pub struct Running {
    sent: Arc<Mutex<Sent>>,
    task: JoinHandle<()>,
    out: PathBuf,
}

impl Load for FakeLoad {
    type Running = Running;

    async fn start(&self, start: LoadStart, recorder: Recorder) -> Result<Running, WorldError> {
        let life = lock(&self.state).behaviour.load;
        if life == LoadLife::NeverReady {
            std::future::pending::<()>().await;
        }
        let sent: Arc<Mutex<Sent>> = Arc::default();
        let task = tokio::spawn(drive(self.state.clone(), sent.clone(), recorder, start.run.clone(), life));
        Ok(Running { sent, task, out: start.out })
    }
}

impl RunningLoad for Running {
    async fn operations(&mut self) -> Result<Vec<Operation>, WorldError> {
        Ok(self.sent.lock().expect("no panic holds it").operations.clone())
    }

    async fn ended(&mut self) -> Option<String> {
        self.sent.lock().expect("no panic holds it").died.clone()
    }

    async fn step(&mut self, _up: bool) -> Result<(), WorldError> {
        Ok(())
    }

    async fn stop(self, _deadline: Duration) -> Result<Vec<Operation>, WorldError> {
        self.task.abort();
        let operations = std::mem::take(&mut self.sent.lock().expect("no panic holds it").operations);
        let lines = operations.iter().map(|one| serde_json::to_string(one).expect("JSON") + "\n");
        std::fs::write(self.out.join("operations.jsonl"), lines.collect::<String>()).expect("it is written");
        Ok(operations)
    }
}

async fn drive(
    state: Arc<Mutex<State>>,
    sent: Arc<Mutex<Sent>>,
    recorder: Recorder,
    run: RunId,
    life: LoadLife,
) {
    let mut tick = tokio::time::interval(EVERY);
    let mut second = LoadSecond { at_ms: recorder.clock().now_ms() / 1000 * 1000, ..LoadSecond::default() };
    for number in 0_u64.. {
        tick.tick().await;
        let now_ms = recorder.clock().now_ms();
        if now_ms >= second.at_ms + 1000 {
            let next = LoadSecond { at_ms: now_ms / 1000 * 1000, ..LoadSecond::default() };
            recorder.record(Fact::Load(std::mem::replace(&mut second, next)));
        }
        match life {
            LoadLife::DiesAfter(ms) if now_ms >= ms => {
                sent.lock().expect("no panic holds it").died = Some("signal 9".to_owned());
                return;
            }
            LoadLife::Zero => continue,
            LoadLife::SilentAfter(ms) if now_ms >= ms => continue,
            _ => {}
        }
        let operation = request(&mut lock(&state), number, &run, now_ms);
        second.intended += 1;
        match operation.outcome {
            OperationOutcome::Ok => second.ok += 1,
            OperationOutcome::Failed => second.failed += 1,
            OperationOutcome::Indeterminate => second.indeterminate += 1,
        }
        sent.lock().expect("no panic holds it").operations.push(operation);
    }
}

fn request(state: &mut State, number: u64, run: &RunId, now_ms: u64) -> Operation {
    let round = usize::try_from(number / 6).expect("a short test");
    let (step, stores) = STEPS[usize::try_from(number % 6).expect("below 6")];
    let id = (!stores.is_empty()).then(|| OpId::new(&format!("{run}-{number}")));
    let answered = answer(state, number, round, id);
    let (reads, of, seen) = match answered {
        Ok(()) => says(state, number, round, run),
        Err(_) => (None, None, None),
    };
    // What was asked for is not there.
    let absent = of.is_some_and(|of| !state.groups[0].holds(of));
    let (outcome, error) = match answered {
        Ok(()) if absent => (OperationOutcome::Failed, Some(ErrorClass::ClientStatus)),
        Ok(()) => (OperationOutcome::Ok, None),
        Err(ErrorClass::Timeout) => (OperationOutcome::Indeterminate, Some(ErrorClass::Timeout)),
        Err(error) => (OperationOutcome::Failed, Some(error)),
    };
    let slow = matches!(error, Some(ErrorClass::Timeout | ErrorClass::ConnectTimeout));
    let at_us = now_ms * 1000;
    Operation {
        id: id.or(of),
        step: step.into(),
        writes: stores.iter().copied().collect(),
        reads,
        intended_us: at_us,
        sent_us: at_us,
        done_us: at_us + if slow { TIMEOUT_US } else { LATENCY_US },
        outcome,
        error,
        status: absent.then_some(404),
        degraded: false,
        seen,
    }
}

/// What the answer of a read says of a store: the prediction made just before, or the whole list of a shard.
fn says(
    state: &State,
    number: u64,
    round: usize,
    run: &RunId,
) -> (Option<Store>, Option<OpId>, Option<Box<Seen>>) {
    match number % 6 {
        3 => {
            let of = OpId::new(&format!("{run}-{}", number - 1));
            let made = state.acknowledged.contains(&of);
            (made.then_some(Store::Postgres), made.then_some(of), None)
        }
        5 => {
            let shard = &state.groups[shard_in(state, round)];
            let then = shard.ids().collect();
            (Some(Store::Redis), None, Some(Box::new(Seen { list: shard.list(run), kept: 0, then })))
        }
        _ => (None, None, None),
    }
}

/// The shards follow PostgreSQL, in turn.
fn shard_in(state: &State, round: usize) -> usize {
    let is_shard = |group: &&Group| group.component == mettle::model::Component::Redis;
    1 + round % state.groups.iter().filter(is_shard).count()
}

fn answer(state: &mut State, number: u64, round: usize, id: Option<OpId>) -> Result<(), ErrorClass> {
    use mettle::model::Component::Backend;
    let behind: Vec<_> = state.pods.iter().filter(|pod| pod.component == Backend && pod.ready).collect();
    let turn = round + usize::try_from(number).expect("a short test");
    let backend = behind.get(turn % behind.len().max(1)).ok_or(ErrorClass::ConnectionRefused)?;
    match (state.node_on(&backend.node), backend.running, backend.paused) {
        (false, ..) => return Err(ErrorClass::ConnectTimeout),
        (true, false, _) => return Err(ErrorClass::ConnectionRefused),
        (true, true, true) => return Err(ErrorClass::Timeout),
        (true, true, false) => {}
    }
    let fails = number < state.behaviour.fails_until;
    if fails && state.behaviour.fails_every.is_some_and(|every| number.is_multiple_of(every)) {
        return Err(ErrorClass::ServerStatus);
    }
    let group = match number % 6 {
        2 | 3 => 0,
        4 | 5 => shard_in(state, round),
        _ => return Ok(()),
    };
    if !state.leader_serves(&state.groups[group]) {
        let leader = state.groups[group].leader.as_deref().and_then(|name| state.pod(name));
        let silent = leader.is_some_and(|pod| pod.paused || !state.node_on(&pod.node));
        return Err(if silent { ErrorClass::Timeout } else { ErrorClass::ServerStatus });
    }
    if let Some(id) = id {
        let twice = state.behaviour.twice_every.is_some_and(|every| (round as u64).is_multiple_of(every));
        let now_ms = state.now_ms;
        state.groups[group].write(id, now_ms, if twice { 2 } else { 1 });
        state.acknowledged.insert(id);
    }
    Ok(())
}
