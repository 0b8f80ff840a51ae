//! Two runs side by side: whether the later one is worse by more than a margin.
//!
//! Of each experiment that is in both, five figures: when clients were served again, the share of requests that were not
//! ok during the fault and in the recovery, the baseline's p99, and acknowledged writes that were lost. What is compared
//! are medians (of lost writes means, since a median does not see one loss in five runs). *Allowed* is the margin of the
//! earlier figure, and at least the floor. Fail: with 95 % confidence it is larger by more than that. Pass: with
//! 95 % confidence it is not. Inconclusive: the runs do not say.
//!
//! With fewer than five runs on either side there is no confidence to speak of: a fail then needs every later run to be worse
//! than every earlier one by more than twice what is allowed, and nothing passes. Only a run beside itself is not
//! shifted, whatever its size.

use std::collections::BTreeSet;

use crate::model::{
    ComparedExperiment, ComparedFigure, Comparison, ExperimentReport, Margins, Report, Seed, Verdict,
    WindowReport,
};
use crate::statistics::{Centre, SAMPLES_MIN, centre, difference, statistic};

use super::usable::{title, unusable, writes};

/// One figure of a run, and what belongs to it.
struct Figure {
    name: &'static str,
    of: Centre,
    /// `None` when the run has no such figure, `Some(None)` when it should and was never seen.
    value: fn(&ExperimentReport) -> Option<Option<f64>>,
    floor: fn(&Margins) -> f64,
}

#[allow(clippy::cast_precision_loss)]
const FIGURES: [Figure; 5] = [
    Figure {
        name: "recovery_client_ms",
        of: Centre::Median,
        value: |run| Some(run.recovery_ms.client.map(|ms| ms as f64)),
        floor: |margins| margins.floor_seconds * 1000.0,
    },
    Figure {
        name: "errors_fault_percent",
        of: Centre::Median,
        value: |run| error_percent(&run.windows.fault),
        floor: |margins| margins.floor_percent,
    },
    Figure {
        name: "errors_recovery_percent",
        of: Centre::Median,
        value: |run| error_percent(&run.windows.recovery),
        floor: |margins| margins.floor_percent,
    },
    Figure {
        name: "baseline_p99_ms",
        of: Centre::Median,
        value: |run| run.windows.baseline.p99_ms.map(Some),
        floor: |margins| margins.floor_ms,
    },
    Figure {
        name: "lost_writes",
        of: Centre::Mean,
        value: |run| writes(run, |totals| totals.lost).map(|lost| Some(lost as f64)),
        // No lost write is as good as none.
        floor: |_| 0.0,
    },
];

#[allow(clippy::cast_precision_loss)]
fn error_percent(window: &WindowReport) -> Option<Option<f64>> {
    (window.requests > 0).then(|| Some(window.errors as f64 * 100.0 / window.requests as f64))
}

/// Compares the later run with the earlier one.
#[must_use]
pub fn compare(before: &Report, after: &Report, margins: Margins) -> Comparison {
    let names = |report: &Report| -> BTreeSet<String> {
        report.experiments.iter().map(|experiment| experiment.name.clone()).collect()
    };
    let (old, new) = (names(before), names(after));
    let without = |experiment: &str, verdict, reason: &str| ComparedExperiment {
        experiment: experiment.to_owned(),
        verdict,
        reason: Some(reason.to_owned()),
        figures: Vec::new(),
        left_out: Vec::new(),
    };
    let experiments: Vec<ComparedExperiment> = old
        .union(&new)
        .map(|name| match (old.contains(name), new.contains(name)) {
            (true, true) => one(name, before, after, margins),
            (true, false) => without(
                name,
                Some(Verdict::Inconclusive),
                "the later run does not have it: what it showed is not shown any more",
            ),
            _ => without(name, None, "the earlier run does not have it: there is nothing to compare it with"),
        })
        .collect();
    Comparison {
        before: before.run.clone(),
        after: after.run.clone(),
        verdict: Verdict::worst(experiments.iter().filter_map(|experiment| experiment.verdict)),
        margins,
        experiments,
    }
}

fn one(name: &str, before: &Report, after: &Report, margins: Margins) -> ComparedExperiment {
    let mut left_out = Vec::new();
    let mut usable = |report: &'_ Report, which: &str| -> Vec<ExperimentReport> {
        let runs = report.experiments.iter().filter(|experiment| experiment.name == name);
        let mut kept = Vec::new();
        for run in runs {
            match unusable(run) {
                None => kept.push(run.clone()),
                Some(why) => left_out.push(format!("{which} {}: {why}", title(run))),
            }
        }
        kept
    };
    let (old, new) = (usable(before, "before:"), usable(after, "after:"));
    let itself = before.run == after.run && old == new;
    let compared = FIGURES.iter().filter_map(|figure| {
        let seed = before.seed.derive(&format!("compare/{name}/{}", figure.name));
        let values = |runs: &[ExperimentReport]| runs.iter().filter_map(figure.value).collect::<Vec<_>>();
        let (old, new) = (values(&old), values(&new));
        // What neither has does not apply to this experiment.
        let applies = !(old.is_empty() && new.is_empty());
        applies.then(|| judge(figure, &old, &new, margins, itself, seed))
    });
    let figures: Vec<ComparedFigure> = compared.collect();
    let reason = (old.is_empty() || new.is_empty()).then(|| "no run of it carries a figure".to_owned());
    let verdict = Verdict::worst(figures.iter().map(|figure| figure.verdict));
    let verdict = if reason.is_some() { verdict.max(Verdict::Inconclusive) } else { verdict };
    ComparedExperiment { experiment: name.to_owned(), verdict: Some(verdict), reason, figures, left_out }
}

fn judge(
    figure: &Figure,
    old: &[Option<f64>],
    new: &[Option<f64>],
    margins: Margins,
    itself: bool,
    seed: Seed,
) -> ComparedFigure {
    let numbers = |values: &[Option<f64>]| -> Vec<f64> {
        values.iter().map(|value| value.unwrap_or(f64::INFINITY)).collect()
    };
    let (before, after) = (numbers(old), numbers(new));
    let margin = centre(figure.of, &before) * margins.margin_percent / 100.0;
    let floor = (figure.floor)(&margins);
    let allowed = if margin.is_finite() { margin.max(floor) } else { floor };
    let bounds = difference(&before, &after, figure.of, seed);
    let (verdict, reason) = if itself {
        (Verdict::Pass, "the same run".to_owned())
    } else if before.is_empty() || after.is_empty() {
        (Verdict::Inconclusive, "only one of the runs has it".to_owned())
    } else if let Some(bounds) = bounds {
        if bounds.low > allowed {
            (Verdict::Fail, format!("larger by {} or more", number(bounds.low)))
        } else if bounds.high <= allowed {
            (Verdict::Pass, format!("larger by {} at most", number(bounds.high.max(0.0))))
        } else {
            let (low, high) = (number(bounds.low), number(bounds.high));
            (Verdict::Inconclusive, format!("larger by {low} to {high}: more runs would narrow it"))
        }
    } else {
        few(&before, &after, allowed)
    };
    ComparedFigure {
        figure: figure.name.to_owned(),
        before: statistic(old, seed),
        after: statistic(new, seed),
        allowed: round(allowed),
        at_least: bounds.map(|bounds| bounds.low).filter(|low| low.is_finite()).map(round),
        at_most: bounds.map(|bounds| bounds.high).filter(|high| high.is_finite()).map(round),
        verdict,
        reason: format!("{reason}, {} is allowed", number(allowed)),
    }
}

/// Too few for confidence: only what leaves no room is a fail.
fn few(before: &[f64], after: &[f64], allowed: f64) -> (Verdict, String) {
    let best = after.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if best - worst > 2.0 * allowed {
        return (Verdict::Fail, format!("every run is larger by {} or more", number(best - worst)));
    }
    let (old, new) = (before.len(), after.len());
    let reason = format!("{old} and {new} runs are too few to tell, {SAMPLES_MIN} of each are needed");
    (Verdict::Inconclusive, reason)
}

fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn number(value: f64) -> String {
    if value.is_finite() { format!("{}", (value * 100.0).round() / 100.0) } else { "any amount".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::sample::report;
    use super::compare;
    use crate::model::Verdict::{self, Fail, Inconclusive, Pass};
    use crate::model::{Comparison, ExperimentReport, Margins, Report, RunId, RunOutcome, Store};

    /// One run an entry: when its clients were served again.
    fn runs(id: &str, client_ms: &[Option<u64>]) -> Report {
        let mut all = report();
        all.run = RunId(id.into());
        let one = all.experiments.remove(0);
        all.experiments = client_ms
            .iter()
            .zip(1..)
            .map(|(client, repeat)| {
                let mut run = ExperimentReport { repeat: Some(repeat), ..one.clone() };
                run.recovery_ms.client = *client;
                run
            })
            .collect();
        all
    }

    fn seen(client_ms: &[u64]) -> Vec<Option<u64>> {
        client_ms.iter().copied().map(Some).collect()
    }

    fn verdict_of(comparison: &Comparison, figure: &str) -> Verdict {
        let figures = &comparison.experiments[0].figures;
        figures.iter().find(|one| one.figure == figure).map(|one| one.verdict).expect(figure)
    }

    #[test]
    fn only_a_shift_beyond_the_margin_fails_and_only_its_absence_passes() {
        let steady = [5000, 5100, 4900, 5050, 4950, 5000];
        let with = |change: fn(u64) -> u64| seen(&steady.map(change));
        let few = |ms| seen(&[ms]);
        for (name, before, after, verdict) in [
            ("as before", with(|ms| ms), with(|ms| ms + 10), Pass),
            ("faster", with(|ms| ms), with(|ms| ms / 2), Pass),
            // 20 % of 5 s, which is also the floor.
            ("within the margin", with(|ms| ms), with(|ms| ms + 600), Pass),
            ("beyond the margin", with(|ms| ms), with(|ms| ms + 1500), Fail),
            ("at the margin", with(|ms| ms), with(|ms| ms + 1000), Inconclusive),
            ("wild", with(|ms| ms), seen(&[1000, 9000, 2000, 12_000, 5000, 8000]), Inconclusive),
            ("twice as long, and yet less than the floor", seen(&[300; 6]), seen(&[600; 6]), Pass),
            ("never again", with(|ms| ms), vec![None; 6], Fail),
            ("never before either", vec![None; 6], vec![None; 6], Inconclusive),
            ("never before", vec![None; 6], with(|ms| ms), Pass),
            ("few, about the same", few(5000), few(5100), Inconclusive),
            ("few, slower", few(5000), few(6500), Inconclusive),
            ("few, far slower", few(5000), few(7100), Fail),
            ("one of many is missing", with(|ms| ms), few(5000), Inconclusive),
        ] {
            let found = compare(&runs("a", &before), &runs("b", &after), Margins::default());
            assert_eq!(verdict_of(&found, "recovery_client_ms"), verdict, "{name}: {found:#?}");
        }
    }

    #[test]
    fn a_run_beside_itself_is_not_shifted() {
        for count in [1, 6] {
            let run = runs("a", &seen(&[5000, 9000, 1000, 20_000, 3, 5000][..count]));
            let found = compare(&run, &run, Margins::default());
            assert_eq!(found.verdict, Pass, "{found:#?}");
        }
        // The same name is not the same run.
        let found = compare(&runs("a", &seen(&[5000])), &runs("a", &seen(&[5001])), Margins::default());
        assert_eq!(found.verdict, Inconclusive);
    }

    #[test]
    fn every_figure_is_compared() {
        let many = || runs("b", &seen(&[5000; 6]));
        let changed = |change: fn(&mut ExperimentReport)| {
            let mut after = many();
            after.experiments.iter_mut().for_each(change);
            compare(&runs("a", &seen(&[5000; 6])), &after, Margins::default())
        };
        assert_eq!(changed(|_| ()).verdict, Pass);
        type Change = fn(&mut ExperimentReport);
        let lost: Change = |run| run.ledger.values_mut().for_each(|totals| totals.lost = 1);
        let cases: [(&str, Change); 4] = [
            ("errors_fault_percent", |run| run.windows.fault.errors += 10),
            ("errors_recovery_percent", |run| run.windows.recovery.errors += 10),
            ("baseline_p99_ms", |run| run.windows.baseline.p99_ms = Some(90.0)),
            ("lost_writes", lost),
        ];
        for (figure, change) in cases {
            let found = changed(change);
            assert_eq!((verdict_of(&found, figure), found.verdict), (Fail, Fail), "{figure}: {found:#?}");
        }
        // One loss in six runs: no proof, and no pass either.
        let once = |run: &mut ExperimentReport| {
            let lost = u64::from(run.repeat == Some(1));
            run.ledger.values_mut().for_each(|totals| totals.lost = lost);
        };
        assert_eq!(verdict_of(&changed(once), "lost_writes"), Inconclusive);
        let unread = changed(|run| drop(run.ledger.remove(&Store::Postgres)));
        assert_eq!(verdict_of(&unread, "lost_writes"), Inconclusive);
    }

    #[test]
    fn what_cannot_be_compared_is_told() {
        let renamed = |name: &str| {
            let mut other = runs("b", &seen(&[5000; 6]));
            other.experiments.iter_mut().for_each(|run| name.clone_into(&mut run.name));
            other
        };
        let before = runs("a", &seen(&[5000; 6]));
        let found = compare(&before, &renamed("other"), Margins::default());
        let verdicts: Vec<_> =
            found.experiments.iter().map(|one| (one.experiment.as_str(), one.verdict)).collect();
        assert_eq!(verdicts, [("other", None), ("postgres-primary-loss", Some(Inconclusive))]);
        assert_eq!(found.verdict, Inconclusive);
        // Only something new: nothing was compared, and nothing passes.
        let nothing = Report { experiments: Vec::new(), ..runs("a", &[]) };
        assert_eq!(compare(&nothing, &before, Margins::default()).verdict, Inconclusive);
        let mut stopped = runs("b", &seen(&[5000; 6]));
        stopped.experiments.iter_mut().for_each(|run| run.outcome = RunOutcome::Stopped("deadline".into()));
        let found = compare(&before, &stopped, Margins::default());
        assert_eq!((found.verdict, found.experiments[0].left_out.len()), (Inconclusive, 6));
    }
}
