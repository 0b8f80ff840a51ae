//! What the checks of the ledger share: when its totals carry a judgement at all.

use crate::model::{CheckSpec, Finding, LedgerTotals, OpId, OperationOutcome, Store, Timeline, Verdict};

use super::places::with_place;
use super::text::{finding, inconclusive};

/// Examples that a finding quotes.
const EXAMPLES_MAX: usize = 10;

/// The totals of the check's store, with the store.
///
/// # Errors
/// Why they carry no judgement: the store is not named or was not read back, nothing was acknowledged, the
/// ledger covers fewer writes than were recorded, or nothing was acknowledged before the first injection, so
/// that nothing was at risk.
fn totals<'a>(spec: &CheckSpec, timeline: &'a Timeline) -> Result<(Store, &'a LedgerTotals), String> {
    let store = spec.store.ok_or("store is needed")?;
    let name = store.as_str();
    let totals = timeline.ledger.get(&store).ok_or(format!("{name} was not read back"))?;
    if totals.ok == 0 {
        return Err(format!("no write to {name} was acknowledged, so none could go wrong"));
    }
    let recorded = timeline.operations.iter().filter(|operation| operation.writes.contains(store));
    let mut recorded: Vec<OpId> = recorded.filter_map(|operation| operation.id).collect();
    recorded.sort_unstable();
    recorded.dedup();
    if (recorded.len() as u64) > totals.sent {
        return Err(format!("the ledger covers {} of {} writes to {name}", totals.sent, recorded.len()));
    }
    let injection_ms = timeline.injection_ms().ok_or("no fault was injected")?;
    let at_risk = timeline.operations.iter().filter(|operation| {
        operation.writes.contains(store)
            && operation.outcome == OperationOutcome::Ok
            && operation.done_us / 1000 < injection_ms
    });
    if at_risk.count() == 0 {
        return Err(format!("no write to {name} was acknowledged before the fault, so none was at risk"));
    }
    Ok((store, totals))
}

/// The totals of the check's store, for a check of what reads saw.
///
/// # Errors
/// Why they carry no judgement: the store is not named or was not read back, no read of it was recorded, the ledger covers
/// fewer than were, or none was made after the first injection, so that nothing was at risk.
fn read_totals<'a>(spec: &CheckSpec, timeline: &'a Timeline) -> Result<(Store, &'a LedgerTotals), String> {
    let store = spec.store.ok_or("store is needed")?;
    let name = store.as_str();
    let totals = timeline.ledger.get(&store).ok_or(format!("{name} was not read back"))?;
    let reads = || timeline.operations.iter().filter(|operation| operation.reads == Some(store));
    let recorded = reads().count() as u64;
    if recorded == 0 || totals.reads == 0 {
        return Err(format!("no read of {name} says what it held: does a step of the scenario have reads?"));
    }
    if recorded > totals.reads {
        return Err(format!("the ledger covers {} of {recorded} reads of {name}", totals.reads));
    }
    let injection_ms = timeline.injection_ms().ok_or("no fault was injected")?;
    if !reads().any(|read| read.sent_us / 1000 >= injection_ms) {
        return Err(format!("no read of {name} was answered after the fault, so none was at risk"));
    }
    Ok((store, totals))
}

/// What one check counts: how many went wrong, of how many, in words, and which examples are its own.
pub(super) struct Counted {
    pub wrong: u64,
    pub of: u64,
    /// For example `acknowledged writes are not in`; the store's name follows.
    pub what: &'static str,
    /// What follows the store's name, with its blank.
    pub after: &'static str,
    /// How its examples begin.
    pub kind: &'static str,
}

/// More than the check's `max` (0 when absent) is a fail; so is a store that contradicts itself.
pub(super) fn bounded(spec: &CheckSpec, timeline: &Timeline, count: fn(&LedgerTotals) -> Counted) -> Finding {
    let (store, totals) = match totals(spec, timeline) {
        Ok(found) => found,
        Err(why) => return inconclusive(spec, why),
    };
    let Counted { wrong, of, what, after, kind } = count(totals);
    let max = spec.max.unwrap_or(0);
    let broken = if totals.violations.is_empty() { "" } else { ", and the store contradicts itself" };
    let verdict = if wrong > max || !broken.is_empty() { Verdict::Fail } else { Verdict::Pass };
    let reason = format!("{wrong} of {of} {what} {}{after}, at most {max} may be{broken}", store.as_str());
    finding(spec, verdict, reason).with_evidence(evidence(timeline, totals, kind))
}

/// More reads than the check's `max` (0 when absent) is a fail.
pub(super) fn bounded_reads(
    spec: &CheckSpec,
    timeline: &Timeline,
    count: fn(&LedgerTotals) -> Counted,
) -> Finding {
    let (store, totals) = match read_totals(spec, timeline) {
        Ok(found) => found,
        Err(why) => return inconclusive(spec, why),
    };
    let Counted { wrong, of, what, after, kind } = count(totals);
    let max = spec.max.unwrap_or(0);
    let verdict = if wrong > max { Verdict::Fail } else { Verdict::Pass };
    let reason = format!("{wrong} of {of} {what} {}{after}, at most {max} may be", store.as_str());
    finding(spec, verdict, reason).with_evidence(evidence(timeline, totals, kind))
}

/// The ids of one kind among the examples, and the store's contradictions, as evidence.
fn evidence(timeline: &Timeline, totals: &LedgerTotals, kind: &str) -> Vec<String> {
    let ids = totals.examples.iter().filter(|example| example.starts_with(kind));
    let ids = ids.take(EXAMPLES_MAX).map(|line| with_place(timeline, line));
    ids.chain(totals.violations.iter().cloned()).take(EXAMPLES_MAX).collect()
}
