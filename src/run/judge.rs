//! From what a run saw to its report: the ledger is read back, the checks judge, nothing more is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::experiment::{Context, Ended};
use super::window::Injected;
use super::{Load, World};
use crate::model::{
    Event, ExperimentReport, FaultRecord, Finding, LedgerTotals, Operation, Phase, RecoveryPhases, Store,
    Stores, Timeline, Verdict,
};
use crate::report::Judged;
use crate::{check, fault, ledger, report};

/// Of one store: until what was accepted has gone its way, and is read.
const LEDGER_DEADLINE: Duration = Duration::from_secs(200);

pub(super) async fn judge<W: World, L: Load>(context: &Context<'_, W, L>, ended: Ended) -> ExperimentReport {
    context.phase(Phase::Judge);
    let Ended { progress, outcome, operations, residue } = ended;
    let ledger = read_ledger(context, &operations).await;
    let events = context.recorder.events();
    let faults = progress.injected.iter().map(|injected| record_of(injected, &events)).collect();
    let timeline = Timeline { events, operations, windows: progress.windows, faults, ledger };
    let (mut findings, phases) = match &progress.gate {
        // No steady baseline: nothing was injected and nothing can be judged; the gate's finding says why.
        Some(gate) if gate.verdict == Verdict::Pass => check::judge_all(context.experiment, &timeline),
        _ => (Vec::new(), RecoveryPhases::default()),
    };
    findings.splice(0..0, progress.gate.map(as_gate));
    report::experiment(
        context.experiment,
        context.seed,
        &timeline,
        Judged { findings, phases, outcome, residue },
    )
}

/// An unsteady baseline says nothing about how the stack recovers.
fn as_gate(mut gate: Finding) -> Finding {
    gate.verdict = gate.verdict.min(Verdict::Inconclusive);
    gate
}

pub(super) fn record_of(injected: &Injected, events: &[Event]) -> FaultRecord {
    let Injected { fault, injected_ms, reverted_ms, .. } = injected;
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

async fn read_ledger<W: World, L: Load>(
    context: &Context<'_, W, L>,
    operations: &[Operation],
) -> BTreeMap<Store, LedgerTotals> {
    let stores = operations.iter().fold(Stores::NONE, |all, operation| all.and(operation.writes));
    let mut ledger = BTreeMap::new();
    for store in stores.iter() {
        let found = tokio::time::timeout(LEDGER_DEADLINE, context.world.found(store, context.run)).await;
        match found {
            Ok(Ok(found)) => {
                ledger.insert(store, ledger::compare(operations, store, &found));
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
    ledger
}
