//! Two runs side by side, for a person.

use std::fmt::Write as _;

use tabled::builder::Builder;
use tabled::settings::Style;

use crate::model::{ComparedFigure, Comparison, Statistic};

/// The table, then what could not be compared, and the last lines: what was allowed, and the verdict.
#[must_use]
pub fn render(comparison: &Comparison, exit_meaning: &str) -> String {
    let mut builder = Builder::default();
    builder.push_record(["experiment", "figure", "before", "after", "allowed", "verdict", "because"]);
    for experiment in &comparison.experiments {
        for figure in &experiment.figures {
            builder.push_record(row(&experiment.experiment, figure));
        }
    }
    let mut table = builder.build();
    table.with(Style::modern());
    let mut text = format!("{table}\n");
    // Writing into a string cannot fail.
    for experiment in &comparison.experiments {
        if let Some(reason) = &experiment.reason {
            let verdict = experiment.verdict.map_or("not compared", |verdict| verdict.as_str());
            let _ = writeln!(text, "\n{verdict}: {}: {reason}", experiment.experiment);
        }
        for line in &experiment.left_out {
            let _ = writeln!(text, "left out: {line}");
        }
    }
    let margins = &comparison.margins;
    let _ = writeln!(
        text,
        "\n{} → {} · margin {} %, at least {} s, {} percentage points, {} ms",
        comparison.before,
        comparison.after,
        margins.margin_percent,
        margins.floor_seconds,
        margins.floor_percent,
        margins.floor_ms
    );
    let _ = writeln!(text, "verdict: {} · {exit_meaning}", comparison.verdict.as_str());
    text
}

fn row(experiment: &str, figure: &ComparedFigure) -> [String; 7] {
    [
        experiment.to_owned(),
        figure.figure.clone(),
        median(&figure.before),
        median(&figure.after),
        format!("+{}", figure.allowed),
        figure.verdict.as_str().to_owned(),
        figure.reason.clone(),
    ]
}

/// The median, with how many runs it is of: `5000 (6 runs: 4900 to 5100)`.
pub(super) fn median(statistic: &Statistic) -> String {
    let number = |value: Option<f64>| value.map_or("not seen".to_owned(), |value| value.to_string());
    match statistic.n {
        0 => "-".to_owned(),
        1 => format!("{} (1 run)", number(statistic.median)),
        n => {
            let (low, high) = (number(statistic.min), number(statistic.max));
            format!("{} ({n} runs: {low} to {high})", number(statistic.median))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare;
    use super::super::sample::report;
    use super::render;
    use crate::model::{Margins, RunId};

    #[test]
    fn a_person_sees_what_shifted_and_what_could_not_be_compared() {
        let (before, mut after) = (report(), report());
        after.run = RunId("r8".into());
        after.experiments[0].recovery_ms.client = Some(9000);
        let mut new = after.experiments[0].clone();
        new.name = "new".into();
        new.outcome = crate::model::RunOutcome::Stopped("deadline".into());
        after.experiments.push(new);
        let comparison = compare(&before, &after, Margins::default());
        insta::assert_snapshot!("comparison", render(&comparison, "exit 1: it is worse"));
    }
}
