//! The figures of experiments that were run more than once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ExperimentReport, RepeatsReport, Seed, Verdict};
use crate::statistics::statistic;

use super::usable::{title, unusable, writes};

/// One entry an experiment that was run at least twice, in the order of the first runs.
#[must_use]
pub(super) fn repeats(seed: Seed, experiments: &[ExperimentReport]) -> Vec<RepeatsReport> {
    let mut names: Vec<&str> = Vec::new();
    for experiment in experiments {
        if !names.contains(&experiment.name.as_str()) {
            names.push(&experiment.name);
        }
    }
    let of = |name: &str| experiments.iter().filter(|one| one.name == name).collect::<Vec<_>>();
    names.into_iter().map(of).filter(|runs| runs.len() > 1).map(|runs| one(seed, &runs)).collect()
}

fn one(seed: Seed, runs: &[&ExperimentReport]) -> RepeatsReport {
    let count = |verdict| runs.iter().filter(|run| run.verdict == verdict).count() as u64;
    let (mut usable, mut left_out) = (Vec::new(), Vec::new());
    for run in runs {
        match unusable(run) {
            None => usable.push(*run),
            Some(why) => left_out.push(format!("{}: {why}", title(run))),
        }
    }
    let name = runs.first().map(|run| run.name.clone()).unwrap_or_default();
    let seen: Vec<BTreeMap<String, f64>> = usable.iter().map(|run| figures_of(run)).collect();
    // What no run has does not apply.
    let figures: BTreeSet<&String> = seen.iter().flat_map(BTreeMap::keys).collect();
    let statistics = figures.into_iter().map(|figure| {
        let values: Vec<Option<f64>> = seen.iter().map(|of_run| of_run.get(figure).copied()).collect();
        let seed = seed.derive(&format!("statistics/{name}/{figure}"));
        (figure.clone(), statistic(&values, seed))
    });
    RepeatsReport {
        runs: runs.len() as u64,
        passed: count(Verdict::Pass),
        inconclusive: count(Verdict::Inconclusive),
        failed: count(Verdict::Fail),
        left_out,
        statistics: statistics.collect(),
        experiment: name,
    }
}

/// What was seen of one run. A check's own figures stand behind its name: `breaker(inference): opened_ms`.
#[allow(clippy::cast_precision_loss)]
fn figures_of(run: &ExperimentReport) -> BTreeMap<String, f64> {
    let phases = run.recovery_ms.named().into_iter();
    let phases = phases.map(|(name, ms)| (format!("recovery_{name}_ms"), ms.map(|ms| ms as f64)));
    let count = |value: Option<u64>| value.map(|value| value as f64);
    let failed = run.windows.fault.errors + run.windows.recovery.errors;
    let of_all = [
        ("lost_writes", count(writes(run, |totals| totals.lost))),
        ("duplicated_writes", count(writes(run, |totals| totals.duplicated))),
        ("failed_requests", Some(failed as f64)),
        ("user_minutes_lost", run.impact.as_ref().map(|impact| impact.user_minutes_lost)),
        ("goodput_share_lost", run.impact.as_ref().map(|impact| impact.goodput.share)),
    ];
    let of_all = of_all.into_iter().map(|(name, value)| (name.to_owned(), value));
    let of_checks = run.findings.iter().flat_map(|finding| {
        finding.figures.iter().map(|(name, value)| (format!("{}: {name}", finding.check), Some(*value)))
    });
    phases.chain(of_all).chain(of_checks).filter_map(|(name, value)| Some((name, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{failing_report, report};
    use super::repeats;
    use crate::model::{ExperimentReport, Finding, RunOutcome, Seed, Verdict};

    fn run(repeat: u32, client_ms: Option<u64>) -> ExperimentReport {
        let mut run = report().experiments.remove(0);
        run.repeat = Some(repeat);
        run.recovery_ms.client = client_ms;
        run
    }

    #[test]
    fn an_autoscaler_needs_no_fault_and_anything_else_does() {
        let stepped = |check: &str, repeat| {
            let mut run = run(repeat, None);
            run.faults.clear();
            run.findings.push(Finding::new(check, Verdict::Pass, "").with_figure("out_ms", Some(9.0)));
            run
        };
        for (check, n) in [("scales(auth)", 2), ("latency(fault)", 0)] {
            let [found] = &repeats(Seed(1), &[stepped(check, 1), stepped(check, 2)])[..] else {
                panic!("{check}")
            };
            let figure = found.statistics.get(&format!("{check}: out_ms"));
            assert_eq!(
                (figure.map_or(0, |figure| figure.n), 2 - found.left_out.len()),
                (n, n as usize),
                "{check}"
            );
        }
    }

    #[test]
    fn several_runs_give_statistics_and_one_gives_none() {
        assert!(repeats(Seed(1), &report().experiments).is_empty());
        let mut stopped = run(4, Some(90_000));
        stopped.outcome = RunOutcome::Stopped("deadline".into());
        stopped.verdict = Verdict::Inconclusive;
        let other = failing_report().experiments.remove(1);
        let opened = |mut run: ExperimentReport, ms: Option<f64>| {
            run.findings
                .push(Finding::new("breaker(inference)", Verdict::Pass, "").with_figure("opened_ms", ms));
            run
        };
        let runs = [opened(run(1, Some(1000)), Some(7.0)), other, run(2, Some(3000)), run(3, None), stopped];
        let [found] = &repeats(Seed(1), &runs)[..] else { panic!("one experiment was repeated") };
        assert_eq!((found.runs, found.passed, found.inconclusive, found.failed), (4, 3, 1, 0));
        assert_eq!(found.left_out, ["postgres-primary-loss #4: it did not run to its end"]);
        let client = &found.statistics["recovery_client_ms"];
        assert_eq!(
            (client.n, client.not_seen, client.min, client.median, client.max),
            (3, 1, Some(1000.0), Some(3000.0), None)
        );
        let opened = &found.statistics["breaker(inference): opened_ms"];
        assert_eq!((opened.n, opened.not_seen, opened.min, opened.max), (3, 2, Some(7.0), None));
        assert_eq!(found.statistics["lost_writes"].max, Some(0.0));
        assert_eq!(found.statistics["user_minutes_lost"].median, Some(3.2));
    }
}
