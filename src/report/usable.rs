//! Whether the figures of one run mean anything beside those of others.

use crate::model::{CheckKind, ExperimentReport, Finding, LedgerTotals, RunOutcome, Verdict};

/// What must hold before a figure is a figure: by the names of the findings, up to their bracket.
const GROUND: [&str; 7] =
    ["steady-state", "fault-evidence", "load-floor", "probe-heartbeat", "evidence", "control", "run"];

/// Why they do not: the run ended early, or what a judgement stands on is missing. `None` when they do.
pub(super) fn unusable(experiment: &ExperimentReport) -> Option<String> {
    if experiment.outcome != RunOutcome::Completed {
        return Some("it did not run to its end".to_owned());
    }
    let kind = |finding: &Finding| finding.check.split('(').next().unwrap_or_default().to_owned();
    let ground = |finding: &&Finding| GROUND.contains(&kind(finding).as_str());
    let missing = experiment.findings.iter().filter(ground).find(|finding| finding.verdict != Verdict::Pass);
    if let Some(finding) = missing {
        return Some(format!("{}: {}", finding.check, finding.reason));
    }
    // An autoscaler answers to a step of the load: that needs no fault.
    let stepped = || experiment.findings.iter().any(|finding| kind(finding) == CheckKind::Scales.as_str());
    (experiment.faults.is_empty() && !stepped()).then(|| "no fault was injected".to_owned())
}

/// What it is called in a table: several runs of one experiment are numbered.
pub(super) fn title(experiment: &ExperimentReport) -> String {
    match experiment.repeat {
        Some(repeat) => format!("{} #{repeat}", experiment.name),
        None => experiment.name.clone(),
    }
}

/// Writes that one kind of trouble befell, of all stores; absent when none was read back.
pub(super) fn writes(experiment: &ExperimentReport, count: fn(&LedgerTotals) -> u64) -> Option<u64> {
    (!experiment.ledger.is_empty()).then(|| experiment.ledger.values().map(count).sum())
}
