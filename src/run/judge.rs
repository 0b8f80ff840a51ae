//! From what a run saw to its report: the stores are read back and everything is put on disk; then the checks judge,
//! from nothing else than what is on disk, so that anybody can judge again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::evidence::{Evidence, stored_and_judged};
use super::experiment::{Context, Ended};
use super::{Load, World};
use crate::ledger::Found;
use crate::model::{
    Event, ExperimentRecord, ExperimentReport, Fact, FaultRecord, Finding, InjectedFault, Operation, Phase,
    RecoveryPhases, Store, Stores, Timeline, Verdict, Windows,
};
use crate::report::Judged;
use crate::{check, fault, ledger, report};

/// Of one store: until what was accepted has gone its way, and is read.
const LEDGER_DEADLINE: Duration = Duration::from_secs(200);

pub(super) async fn judge<W: World, L: Load>(context: &Context<'_, W, L>, ended: Ended) -> ExperimentReport {
    context.phase(Phase::Judge);
    let Ended { progress, outcome, operations, residue } = ended;
    let found = read_stores(context, &operations).await;
    let (events, gap) = context.recorder.seal();
    let record = ExperimentRecord {
        run: context.run.clone(),
        experiment: context.experiment.clone(),
        seed: context.seed,
        control: context.control,
        windows: progress.windows,
        gate: progress.gate,
        faults: progress.injected.into_iter().map(|injected| injected.begun).collect(),
        outcome,
        residue,
        operations: operations.len(),
        gap,
    };
    let evidence = Evidence { record, events, operations, found };
    stored_and_judged(&context.settings.out, evidence, judge_again)
}

/// The report of an experiment from its evidence, now or at any later time: pure, and always the same.
#[must_use]
pub fn judge_again(evidence: Evidence) -> ExperimentReport {
    let Evidence { record, events, operations, found } = evidence;
    let gate = gate_of(&record, &events, &operations);
    let stores = found.iter();
    let ledger = stores.map(|(store, found)| (*store, ledger::compare(&operations, *store, found))).collect();
    let faults = record.faults.iter().map(|injected| record_of(injected, &events)).collect();
    let mut timeline = Timeline { events, operations, windows: record.windows, faults, ledger };
    let (mut findings, phases) = match &gate {
        // No steady baseline: nothing was injected and nothing can be judged; the gate's finding says why.
        Some(gate) if gate.verdict == Verdict::Pass && record.control => {
            check::judge_control(&record.experiment, &mut timeline)
        }
        Some(gate) if gate.verdict == Verdict::Pass => check::judge_all(&record.experiment, &timeline),
        _ => (Vec::new(), RecoveryPhases::default()),
    };
    findings.splice(0..0, gate.map(as_gate));
    findings.extend(record.gap.map(|gap| {
        Finding::new("evidence", Verdict::Inconclusive, format!("the timeline is not whole: {gap}"))
    }));
    let judged = Judged {
        findings,
        phases,
        resolution_ms: check::resolution_ms(&record.experiment, &timeline),
        impact: check::impact(&record.experiment.load, &timeline),
        outcome: record.outcome,
        residue: record.residue,
    };
    report::experiment(&record.experiment, record.seed, &timeline, judged)
}

/// The gate's finding, from what was known when it was asked.
fn gate_of(record: &ExperimentRecord, events: &[Event], operations: &[Operation]) -> Option<Finding> {
    let gate = record.gate?;
    let baseline = record.windows.baseline;
    let known = Timeline {
        events: events.get(..gate.events)?.to_vec(),
        operations: operations.get(..gate.operations)?.to_vec(),
        windows: Windows { baseline, ..Windows::default() },
        ..Timeline::default()
    };
    let looks = known
        .events
        .iter()
        .filter(|event| event.fact == Fact::PhaseStarted { phase: Phase::Baseline })
        .count();
    let mut finding = check::baseline(&record.experiment, &known, baseline);
    if looks > 1 {
        finding.evidence.push(format!("looked at {looks} times, each time anew: this is the last"));
    }
    Some(finding)
}

/// An unsteady baseline says nothing about how the stack recovers.
fn as_gate(mut gate: Finding) -> Finding {
    gate.verdict = gate.verdict.min(Verdict::Inconclusive);
    gate
}

pub(super) fn record_of(injected: &InjectedFault, events: &[Event]) -> FaultRecord {
    let InjectedFault { fault, injected_ms, reverted_ms } = injected;
    let from = events.partition_point(|event| event.at_ms < *injected_ms);
    let mut evidence = Vec::new();
    let mut effective_ms = Some(0);
    for change in &fault.changes {
        let found = fault::evidence(fault.kind, change, &events[from..]);
        // A fault of several changes bit only when each of them did.
        let last = found.iter().map(|(at_ms, _)| *at_ms).max();
        effective_ms = effective_ms.zip(last).map(|(known, new)| known.max(new));
        evidence.extend(found.into_iter().map(|(at_ms, text)| format!("{at_ms} ms: {text}")));
    }
    FaultRecord {
        kind: fault.kind,
        targets: fault.changes.iter().map(|change| change.target.clone()).collect(),
        injected_ms: *injected_ms,
        effective_ms: effective_ms.filter(|_| !fault.changes.is_empty()),
        reverted_ms: *reverted_ms,
        evidence,
    }
}

async fn read_stores<W: World, L: Load>(
    context: &Context<'_, W, L>,
    operations: &[Operation],
) -> BTreeMap<Store, Found> {
    let stores = operations.iter().fold(Stores::NONE, |all, operation| all.and(operation.writes));
    let mut all = BTreeMap::new();
    for store in stores.iter() {
        let found = tokio::time::timeout(LEDGER_DEADLINE, context.world.found(store, context.run)).await;
        match found {
            Ok(Ok(found)) => {
                all.insert(store, found);
            }
            // Absent from the ledger: the checks on it become inconclusive.
            Ok(Err(error)) => context.recorder.note(format!(
                "the ledger of {} was not read: {}",
                store.as_str(),
                error.chain()
            )),
            Err(_) => context.recorder.note(format!("the ledger of {} was not read in time", store.as_str())),
        }
    }
    all
}
