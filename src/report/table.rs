//! What a person reads at the end of a run.

use std::fmt::Write as _;

use tabled::builder::Builder;
use tabled::settings::Style;

use crate::model::{
    ExperimentReport, FaultReport, Finding, Impact, RecoveryPhases, RepeatsReport, Report, RunOutcome,
    Verdict, WindowReport,
};

use super::compare_table::median;
use super::usable::title;

/// Lines of evidence that are shown below a finding; all of it is in `report.json`.
const EVIDENCE_MAX: usize = 4;

/// The table, then every finding that is not a pass with its reason, what was left behind, and the
/// last lines: seed, outcome, and the verdict with what its exit code means.
#[must_use]
pub fn render(report: &Report, exit_meaning: &str) -> String {
    let mut builder = Builder::default();
    builder.push_record([
        "experiment",
        "verdict",
        "fault → target (role)",
        "recovery",
        "not ok in fault",
        "users lost",
        "lost / doubled",
    ]);
    for experiment in &report.experiments {
        builder.push_record(row(experiment));
    }
    let mut table = builder.build();
    table.with(Style::modern());
    let mut text = format!("{table}\n");
    for experiment in &report.experiments {
        explain(&mut text, experiment);
    }
    for repeats in &report.repeats {
        text.push_str(&several(repeats));
    }
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "\nseed {} · run {} · cluster {} · {}",
        report.seed,
        report.run,
        report.cluster,
        outcome(&report.outcome)
    );
    if !report.not_run_here.is_empty() {
        let _ = writeln!(text, "not run here: {}", report.not_run_here.join(", "));
    }
    let _ = writeln!(text, "verdict: {} · {exit_meaning}", report.verdict.as_str());
    text
}

fn row(experiment: &ExperimentReport) -> [String; 7] {
    let faults: Vec<String> = experiment.faults.iter().map(fault).collect();
    let ledger = experiment.ledger.iter();
    let ledger: Vec<String> = ledger
        .map(|(store, totals)| {
            format!("{} {} / {}\nof {} ok", store.as_str(), totals.lost, totals.duplicated, totals.ok)
        })
        .collect();
    [
        title(experiment),
        experiment.verdict.as_str().to_owned(),
        or_dash(&faults),
        phases(&experiment.recovery_ms, experiment.resolution_ms),
        errors(&experiment.windows.fault),
        experiment.impact.as_ref().map_or("-".to_owned(), users_lost),
        or_dash(&ledger),
    ]
}

fn fault(fault: &FaultReport) -> String {
    let role = fault.role.as_deref().map(|role| format!(" ({role})")).unwrap_or_default();
    format!("{} →\n{}{role}", fault.kind, fault.target)
}

fn users_lost(impact: &Impact) -> String {
    let goodput = impact.goodput.share * 100.0;
    format!("{:.2} user-minutes\n{goodput:.2} % of goodput", impact.user_minutes_lost)
}

/// The phases that ended, two a line; what was not seen or does not apply is left out. No time of clients is known
/// better than the resolution.
fn phases(phases: &RecoveryPhases, resolution_ms: Option<u64>) -> String {
    let named = phases.named();
    let ended: Vec<String> =
        named.into_iter().filter_map(|(name, ms)| Some(format!("{name} {}", seconds(ms?)))).collect();
    let mut lines: Vec<String> = ended.chunks(2).map(|pair| pair.join(", ")).collect();
    if let (Some(ms), Some(_)) = (resolution_ms, phases.client) {
        lines.push(format!("client ± {ms} ms"));
    }
    or_dash(&lines)
}

#[allow(clippy::cast_precision_loss)]
fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

#[allow(clippy::cast_precision_loss)]
fn errors(window: &WindowReport) -> String {
    if window.requests == 0 {
        return "no requests".to_owned();
    }
    let percent = window.errors as f64 * 100.0 / window.requests as f64;
    format!("{} of {}\n{percent:.2} %", window.errors, window.requests)
}

fn or_dash(lines: &[String]) -> String {
    if lines.is_empty() { "-".to_owned() } else { lines.join("\n") }
}

/// One line a figure: its median, its spread, and the interval of the median.
fn several(repeats: &RepeatsReport) -> String {
    let mut builder = Builder::default();
    builder.push_record(["figure", "median", "confidence"]);
    for (figure, statistic) in &repeats.statistics {
        let number = |value: Option<f64>| value.map_or("∞".to_owned(), |value| value.to_string());
        let interval = statistic.interval.map_or("-".to_owned(), |interval| {
            let (low, high) = (number(interval.low), number(interval.high));
            format!("{low} to {high} ({:.0} %)", interval.confidence * 100.0)
        });
        builder.push_record([figure.clone(), median(statistic), interval]);
    }
    let mut table = builder.build();
    table.with(Style::modern());
    let RepeatsReport { experiment, runs, passed, inconclusive, failed, left_out, .. } = repeats;
    let mut text = format!(
        "\n{experiment}: {runs} runs: {passed} passed, {inconclusive} inconclusive, {failed} failed\n{table}\n"
    );
    for line in left_out {
        let _ = writeln!(text, "left out: {line}");
    }
    text
}

fn explain(text: &mut String, experiment: &ExperimentReport) {
    let name = &title(experiment);
    let not_pass = experiment.findings.iter().filter(|finding| finding.verdict != Verdict::Pass);
    for Finding { check, verdict, reason, evidence, .. } in not_pass {
        let _ = writeln!(text, "\n{}: {name}: {check}: {reason}", verdict.as_str());
        for line in evidence.iter().take(EVIDENCE_MAX) {
            let _ = writeln!(text, "  {line}");
        }
        if evidence.len() > EVIDENCE_MAX {
            let _ = writeln!(text, "  … {} more in report.json", evidence.len() - EVIDENCE_MAX);
        }
    }
    if !experiment.residue.is_empty() {
        let _ = writeln!(text, "\nleft behind: {name}:");
        for line in &experiment.residue {
            let _ = writeln!(text, "  {line}");
        }
    }
}

fn outcome(outcome: &RunOutcome) -> String {
    match outcome {
        RunOutcome::Completed => "completed".to_owned(),
        RunOutcome::Stopped(reason) => format!("stopped: {reason}"),
        RunOutcome::Broken(reason) => format!("broken: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{failing_report, report};
    use super::render;
    use crate::model::{Report, Verdict};

    #[test]
    fn a_person_sees_what_held_and_what_did_not() {
        insta::assert_snapshot!("table", render(&report(), "exit 0: the stack held"));
        insta::assert_snapshot!("table_fail", render(&failing_report(), "exit 5: not reverted"));
    }

    #[test]
    fn several_runs_are_summed_up() {
        let one = report().experiments.remove(0);
        let run = |repeat, client| {
            let mut run = crate::model::ExperimentReport { repeat: Some(repeat), ..one.clone() };
            run.recovery_ms.client = client;
            run
        };
        let mut stopped = run(4, Some(1));
        stopped.outcome = crate::model::RunOutcome::Stopped("deadline".into());
        let experiments = vec![run(1, Some(1700)), run(2, Some(1900)), run(3, None), stopped];
        let mut several = crate::report::run(
            report().run,
            report().seed,
            "local/mettle".into(),
            String::new(),
            experiments,
        );
        several.verdict = Verdict::Inconclusive;
        insta::assert_snapshot!("table_repeats", render(&several, "exit 3: unclear"));
    }

    #[test]
    fn a_report_without_experiments_is_shown() {
        let nothing = Report { experiments: Vec::new(), verdict: Verdict::Inconclusive, ..report() };
        assert!(render(&nothing, "exit 3").contains("verdict: inconclusive · exit 3"));
    }
}
