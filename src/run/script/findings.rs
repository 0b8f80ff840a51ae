//! What a script proved. Pure: what was played in, findings out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::judge::record_of;
use super::log::{Entry, Part, Status};
use super::play::Over;
use crate::model::{
    Activity, Deed, Event, ExperimentReport, FaultRecord, Finding, RecoveryPhases, RunOutcome, Script, Seed,
    Timeline, Verdict, Within,
};
use crate::report::{self, Judged};

pub fn report(script: &Script, name: &str, seed: Seed, events: Vec<Event>, over: &Over) -> ExperimentReport {
    let faults: Vec<FaultRecord> =
        over.injected.iter().map(|injected| record_of(&injected.begun, &events)).collect();
    let findings = judge(script, &over.entries, &faults, &over.outcome);
    let timeline =
        Timeline { events, windows: over.windows, faults, operations: Vec::new(), ledger: BTreeMap::new() };
    let residue = over.residue.iter().map(|line| script.hidden.scrub(line)).collect();
    let outcome = match &over.outcome {
        RunOutcome::Completed => RunOutcome::Completed,
        RunOutcome::Stopped(reason) => RunOutcome::Stopped(script.hidden.scrub(reason)),
        RunOutcome::Broken(reason) => RunOutcome::Broken(script.hidden.scrub(reason)),
    };
    let judged = Judged {
        findings,
        phases: RecoveryPhases::default(),
        // Without a load there are no users to lose anything.
        resolution_ms: None,
        impact: None,
        outcome,
        residue,
    };
    report::script(name, seed, &timeline, judged)
}

/// Why a call or a program that answered did not do what it was for.
pub fn refused(activity: &Activity, output: &Value) -> Option<String> {
    let status = output.get("status").and_then(Value::as_i64)?;
    match activity.deed {
        Deed::Process(_) if status != 0 => Some(format!("it left with {status}")),
        Deed::Http(_) if status >= 400 => Some(format!("it was answered with {status}")),
        _ => None,
    }
}

fn judge(script: &Script, entries: &[Entry], faults: &[FaultRecord], outcome: &RunOutcome) -> Vec<Finding> {
    let of = |part: Part| entries.iter().filter(move |entry| entry.part == part);
    let mut findings = Vec::new();
    if script.probes.is_empty() {
        let why =
            "the file has no probe with a tolerance: whatever happened, nothing says whether the stack held";
        findings.push(Finding::new("steady-state", Verdict::Inconclusive, why));
    }
    findings.extend(of(Part::Before).map(|entry| asked("before", entry, Verdict::Inconclusive)));
    let steady = of(Part::Before).filter(|entry| entry.is_met()).count() == script.probes.len();
    if !steady {
        return scrubbed(script, findings);
    }
    findings.extend(bitten(script, faults));
    let actions = || of(Part::Method).filter(|entry| !entry.activity.is_probe);
    findings.extend(actions().filter_map(done));
    let does = |entry: &Entry| !matches!(entry.activity.deed, Deed::Release { .. } | Deed::Ask(_));
    if !actions().any(does) {
        let why = "the method does nothing to the stack: that it holds proves nothing";
        findings.push(Finding::new("method", Verdict::Inconclusive, why));
    }
    findings.extend(of(Part::After).map(|entry| asked("after", entry, Verdict::Fail)));
    if of(Part::After).count() < script.probes.len() && *outcome == RunOutcome::Completed {
        findings.push(Finding::new(
            "steady-state after",
            Verdict::Inconclusive,
            "not every probe was asked again",
        ));
    }
    scrubbed(script, findings)
}

fn scrubbed(script: &Script, findings: Vec<Finding>) -> Vec<Finding> {
    let scrub = |text: &String| script.hidden.scrub(text);
    let findings = findings.into_iter().map(|finding| Finding {
        check: scrub(&finding.check),
        reason: scrub(&finding.reason),
        evidence: finding.evidence.iter().map(scrub).collect(),
        ..finding
    });
    findings.collect()
}

/// A probe of the hypothesis; `unmet` is what it means when its answer is not what it must be.
fn asked(when: &str, entry: &Entry, unmet: Verdict) -> Finding {
    let name = format!("steady-state {when}: {}", entry.activity.name);
    let (verdict, reason) = match (entry.status, &entry.within) {
        (Status::Succeeded, Some(Within::Yes)) => {
            (Verdict::Pass, "the answer is within its tolerance".to_owned())
        }
        (Status::Succeeded, Some(Within::No(why))) => (unmet, format!("the answer {why}")),
        (Status::Succeeded, Some(Within::Unfit(why))) => {
            (Verdict::Inconclusive, format!("the answer cannot be judged: {why}"))
        }
        (Status::Succeeded, None) => (Verdict::Inconclusive, "the answer was not judged".to_owned()),
        (Status::Failed, _) => (unmet, format!("it is not so: {}", entry.why)),
        (Status::Unknown | Status::Cut, _) => {
            (Verdict::Inconclusive, format!("no answer could be had: {}", entry.why))
        }
    };
    let answer = serde_json::to_string(&entry.output).unwrap_or_default();
    let answer: String = answer.chars().take(400).collect();
    Finding::new(name, verdict, reason).with_evidence([format!("after {} ms: {answer}", entry.took_ms)])
}

/// No evidence that a fault bit, no pass.
fn bitten(script: &Script, faults: &[FaultRecord]) -> Vec<Finding> {
    let asked = script.faults().count();
    let mut findings = Vec::new();
    if faults.len() < asked {
        let why = format!("{} of {asked} faults were injected", faults.len());
        findings.push(Finding::new("fault-evidence", Verdict::Inconclusive, why));
    }
    for (index, fault) in faults.iter().enumerate() {
        let kind = fault.kind.as_str();
        let (verdict, why) = match fault.effective_ms {
            Some(_) => (Verdict::Pass, format!("fault {index} ({kind}) was seen to bite")),
            None => (Verdict::Inconclusive, format!("fault {index} ({kind}): nothing shows that it bit")),
        };
        findings.push(Finding::new("fault-evidence", verdict, why).with_evidence(fault.evidence.clone()));
    }
    findings
}

/// A call or a program of the method. mettle sees how it ended, and not what it did to the stack.
fn done(entry: &Entry) -> Option<Finding> {
    let name = format!("action: {}", entry.activity.name);
    let answered = entry.status == Status::Succeeded;
    let (verdict, reason) = match &entry.activity.deed {
        // They speak by their evidence, and in the outcome.
        Deed::Fault { .. } | Deed::Release { .. } | Deed::Reverted { .. } => return None,
        _ if !answered => (Verdict::Inconclusive, format!("it was not done: {}", entry.why)),
        _ => match refused(&entry.activity, &entry.output) {
            Some(why) => (Verdict::Inconclusive, why),
            None => (Verdict::Pass, "it was done; what it did to the stack is its author's word".to_owned()),
        },
    };
    Some(Finding::new(name, verdict, reason))
}
