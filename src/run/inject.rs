//! From a fault's specification to a change that happened: resolve, guard, write ahead, apply.

use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::{Entry, Journal, JournalError, Recorder, World, WorldError};
use crate::fault::{self, PlanError};
use crate::model::{
    Change, Experiment, Fact, FaultSpec, PhaseSeconds, Plan, PlannedFault, Rehearsal, RunId, Script, Seed,
    Snapshot,
};

/// One API call, or one node killed, takes at most this long.
const APPLY_DEADLINE: Duration = Duration::from_secs(45);

#[derive(Debug, Error)]
pub enum InjectError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("failed to {change}: {reason}")]
    Apply { change: String, reason: String },
}

/// Resolves every fault of an experiment against one snapshot: what `mettle plan` shows.
///
/// # Errors
/// When a selector matches too little, or the plan goes beyond its limits.
pub fn resolve(
    experiment: &Experiment,
    run: &RunId,
    seed: Seed,
    snapshot: &Snapshot,
) -> Result<Plan, PlanError> {
    let mut faults = Vec::with_capacity(experiment.faults.len());
    for index in 0..experiment.faults.len() {
        faults.push(resolve_one(experiment, run, seed, snapshot, index)?);
    }
    fault::guard(&faults, &experiment.limits, snapshot)?;
    Ok(Plan {
        run: run.clone(),
        seed,
        experiment: experiment.name.clone(),
        limits: experiment.limits.clone(),
        faults,
    })
}

/// The same for a script: its faults may all be held at the same time.
///
/// # Errors
/// When a selector matches too little, or the plan goes beyond its limits.
pub fn resolve_script(
    script: &Script,
    name: &str,
    run: &RunId,
    seed: Seed,
    snapshot: &Snapshot,
) -> Result<Plan, PlanError> {
    let mut faults = Vec::new();
    for (index, spec) in script.faults().enumerate() {
        faults.push(resolve_of_script(name, run, seed, (index, spec), snapshot)?);
    }
    fault::guard(&faults, &script.limits, snapshot)?;
    Ok(Plan { run: run.clone(), seed, experiment: name.to_owned(), limits: script.limits.clone(), faults })
}

pub(super) fn resolve_of_script(
    name: &str,
    run: &RunId,
    seed: Seed,
    (index, spec): (usize, &FaultSpec),
    snapshot: &Snapshot,
) -> Result<PlannedFault, PlanError> {
    resolve_fault(run, seed.derive(&format!("target/{name}/{index}")), spec, snapshot, index)
}

/// The same for a rehearsal, in its first round: each fault by itself, unless they are one schedule.
///
/// # Errors
/// When a selector matches too little, or a fault goes beyond the limits.
pub fn resolve_rehearsal(
    rehearsal: &Rehearsal,
    run: &RunId,
    seed: Seed,
    snapshot: &Snapshot,
) -> Result<Plan, PlanError> {
    let seed_of_round = seed.derive("round/0");
    if rehearsal.schedule {
        let plan = resolve(&as_experiment(rehearsal), run, seed_of_round, snapshot)?;
        return Ok(Plan { seed, experiment: rehearsal.rehearsal.clone(), ..plan });
    }
    let mut faults = Vec::with_capacity(rehearsal.faults.len());
    for (index, spec) in rehearsal.faults.iter().enumerate() {
        let fault = resolve_of_rehearsal(run, seed_of_round, spec, snapshot, index)?;
        fault::guard(std::slice::from_ref(&fault), &rehearsal.limits, snapshot)?;
        faults.push(fault);
    }
    let (limits, experiment) = (rehearsal.limits.clone(), rehearsal.rehearsal.clone());
    Ok(Plan { run: run.clone(), seed, experiment, limits, faults })
}

/// A rehearsal that is a schedule, as the fault window of an experiment.
pub(super) fn as_experiment(rehearsal: &Rehearsal) -> Experiment {
    Experiment {
        name: "rehearsal".to_owned(),
        description: String::new(),
        scenario: PathBuf::new(),
        proves: Vec::new(),
        load: rehearsal.load,
        phases: PhaseSeconds { fault: 1, ..PhaseSeconds::default() },
        faults: rehearsal.faults.clone(),
        expect: Vec::new(),
        limits: rehearsal.limits.clone(),
        stop_when: Vec::new(),
    }
}

/// `seed` is that of the round.
pub(super) fn resolve_of_rehearsal(
    run: &RunId,
    seed: Seed,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    index: usize,
) -> Result<PlannedFault, PlanError> {
    resolve_fault(run, seed.derive(&format!("rehearsal/{index}")), spec, snapshot, index)
}

/// Each fault has a generator of its own, so that its draw does not depend on the faults before it.
pub(super) fn resolve_one(
    experiment: &Experiment,
    run: &RunId,
    seed: Seed,
    snapshot: &Snapshot,
    index: usize,
) -> Result<PlannedFault, PlanError> {
    let seed = seed.derive(&format!("target/{}/{index}", experiment.name));
    resolve_fault(run, seed, &experiment.faults[index], snapshot, index)
}

pub(super) fn resolve_fault(
    run: &RunId,
    seed: Seed,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    index: usize,
) -> Result<PlannedFault, PlanError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed.0);
    fault::plan(run, index, spec, snapshot, &mut random).map_err(|error| error.of_fault(index))
}

/// Applies a planned fault, change by change, each journalled first; gives their numbers in the journal.
///
/// # Errors
/// When the journal or the cluster refuses; what was applied before stays in the journal.
pub(super) async fn inject<W: World>(
    world: &W,
    journal: &mut Journal,
    recorder: &Recorder,
    run: &RunId,
    fault: &PlannedFault,
    snapshot: &Snapshot,
) -> Result<Vec<u64>, InjectError> {
    let mut sequences = Vec::with_capacity(fault.changes.len());
    for planned in &fault.changes {
        let sequence = journal.next_sequence();
        let entry = Entry::Intended {
            sequence,
            change: planned.change.clone(),
            undo: planned.undo.clone(),
            before: before(&planned.change, snapshot),
        };
        journal.append(&entry).await?;
        recorder.record(Fact::ChangeIntended { sequence, text: planned.change.describe() });
        recorder.record(Fact::FaultInjected {
            fault: fault.index,
            kind: fault.kind.as_str().to_owned(),
            target: planned.target.clone(),
        });
        // Never raced against a stop: an apply that is dropped could land after its own undo.
        let applied = tokio::time::timeout(APPLY_DEADLINE, world.apply(run, &planned.change, recorder)).await;
        let failed = match applied {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer within {} s", APPLY_DEADLINE.as_secs())),
        };
        if let Some(reason) = failed {
            journal.append(&Entry::ApplyFailed { sequence, reason: reason.clone() }).await?;
            return Err(InjectError::Apply { change: planned.change.describe(), reason });
        }
        journal.append(&Entry::Applied { sequence }).await?;
        recorder.record(Fact::ChangeApplied { sequence });
        sequences.push(sequence);
    }
    Ok(sequences)
}

/// What the target was: for a person who must put it right by hand.
fn before(change: &Change, snapshot: &Snapshot) -> serde_json::Value {
    if let Some(pod) = change.pod() {
        let found = snapshot.pod(&pod.namespace, &pod.name);
        return serde_json::json!({
            "node": found.and_then(|pod| pod.node.clone()),
            "ready": found.map(|pod| pod.ready),
            "containers": found.map(|pod| pod.containers.clone()),
        });
    }
    let node = match change {
        Change::NodePower { node, .. } => Some(node),
        Change::Edit { object, .. } if object.kind == "Node" => Some(&object.name),
        _ => None,
    };
    if let Some(node) = node {
        let found = snapshot.nodes.iter().find(|known| known.name == *node);
        return serde_json::json!({ "ready": found.map(|node| node.ready), "unschedulable": found.map(|node| node.unschedulable) });
    }
    let Change::Edit { object, .. } = change else { return serde_json::Value::Null };
    let workload = snapshot.workloads.iter().find(|workload| workload.object() == *object);
    // The object itself keeps what its fields were.
    let found = snapshot.objects.iter().find(|found| found.object == *object).map(|found| &found.spec);
    serde_json::json!({ "desired": workload.map(|workload| workload.desired), "spec": found })
}

impl From<WorldError> for InjectError {
    fn from(error: WorldError) -> Self {
        Self::Apply { change: "read the cluster".to_owned(), reason: error.chain() }
    }
}
