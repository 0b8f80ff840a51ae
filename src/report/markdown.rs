//! `report.md`: for an issue, a wiki page, a pull request.

use std::fmt::Write as _;

use crate::model::{ExperimentReport, Finding, Report};

use super::compare_table::median;
use super::usable::title;

/// The report as Markdown, `exit_meaning` as its last line.
#[must_use]
pub fn to_markdown(report: &Report, exit_meaning: &str) -> String {
    let mut text = format!("# mettle: {}\n\n", report.verdict.as_str());
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "Run `{}`, seed {}, cluster `{}`, {}.\n",
        report.run,
        report.seed,
        cell(&report.cluster),
        cell(&report.started_at)
    );
    row(&mut text, &HEAD.map(str::to_owned));
    row(&mut text, &HEAD.map(|_| "---".to_owned()));
    report.experiments.iter().for_each(|experiment| row(&mut text, &summary(experiment)));
    for experiment in &report.experiments {
        let _ = writeln!(text, "\n## {}\n", cell(&title(experiment)));
        for Finding { check, verdict, reason, evidence, .. } in &experiment.findings {
            let _ = writeln!(text, "- **{}** {}: {}", verdict.as_str(), cell(check), cell(reason));
            for line in evidence {
                let _ = writeln!(text, "  - {}", cell(line));
            }
        }
        for fault in &experiment.faults {
            let (kind, target, because) = (cell(&fault.kind), cell(&fault.target), cell(&fault.because));
            let _ = writeln!(text, "- fault {kind} on {target} at {} ms ({because})", fault.injected_ms);
            for line in &fault.evidence {
                let _ = writeln!(text, "  - {}", cell(line));
            }
        }
        for line in &experiment.residue {
            let _ = writeln!(text, "- left behind: {}", cell(line));
        }
    }
    for repeats in &report.repeats {
        let _ = writeln!(text, "\n## {}: {} runs\n", cell(&repeats.experiment), repeats.runs);
        row(&mut text, &["figure", "median", "95 % interval"].map(str::to_owned));
        row(&mut text, &["---"; 3].map(str::to_owned));
        for (figure, statistic) in &repeats.statistics {
            let number = |value: Option<f64>| value.map_or("∞".to_owned(), |value| value.to_string());
            let interval = statistic.interval.map_or("-".to_owned(), |interval| {
                let (low, high) = (number(interval.low), number(interval.high));
                format!("{low} to {high} ({:.0} %)", interval.confidence * 100.0)
            });
            row(&mut text, &[figure.clone(), median(statistic), interval]);
        }
        for line in &repeats.left_out {
            let _ = writeln!(text, "\nLeft out: {}", cell(line));
        }
    }
    let _ = writeln!(text, "\nverdict: {} · {exit_meaning}", report.verdict.as_str());
    text
}

const HEAD: [&str; 7] = [
    "experiment",
    "verdict",
    "client recovery",
    "total",
    "not ok in fault",
    "user-minutes lost",
    "lost writes",
];

fn summary(experiment: &ExperimentReport) -> [String; 7] {
    let ms = |value: Option<u64>| value.map_or("-".to_owned(), |ms| format!("{ms} ms"));
    let (fault, impact) = (&experiment.windows.fault, &experiment.impact);
    let client = match (experiment.recovery_ms.client, experiment.resolution_ms) {
        (Some(client), Some(resolution)) => format!("{client} ± {resolution} ms"),
        (client, _) => ms(client),
    };
    let lost = super::usable::writes(experiment, |totals| totals.lost);
    [
        cell(&title(experiment)),
        experiment.verdict.as_str().to_owned(),
        client,
        ms(experiment.recovery_ms.total),
        format!("{} of {}", fault.errors, fault.requests),
        impact.as_ref().map_or("-".to_owned(), |impact| impact.user_minutes_lost.to_string()),
        lost.map_or("-".to_owned(), |lost| lost.to_string()),
    ]
}

fn row<const N: usize>(text: &mut String, cells: &[String; N]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// What a name may hold must not become a cell, a tag or a link.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::failing_report;
    use super::to_markdown;

    #[test]
    fn everything_that_was_found_is_on_the_page() {
        insta::assert_snapshot!("markdown", to_markdown(&failing_report(), "exit 5: not reverted"));
    }

    #[test]
    fn no_name_becomes_markup() {
        let mut report = failing_report();
        report.experiments[0].findings[0].reason = "a | b\n# <img src=x> [x](y)".into();
        let text = to_markdown(&report, "");
        assert!(text.contains("a \\| b # \\<img src=x\\> \\[x\\](y)"), "{text}");
    }
}
