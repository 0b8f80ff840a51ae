//! From what was judged to `report.json`.

use crate::model::{
    Experiment, ExperimentReport, FaultRecord, FaultReport, Finding, Impact, Quantile, RecoveryPhases,
    Report, RunId, RunOutcome, Samples, Seed, Timeline, Verdict, Window, WindowReport, WindowReports,
};

use super::repeats::repeats;
use super::scrub::scrub;

/// What the judging of one experiment gave, and how its run went.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub findings: Vec<Finding>,
    pub phases: RecoveryPhases,
    pub resolution_ms: Option<u64>,
    pub impact: Option<Impact>,
    pub outcome: RunOutcome,
    /// What was left behind after the revert, or could not be shown to be gone. Whoever cannot finish the
    /// scan says so here: empty means proven clean.
    pub residue: Vec<String>,
}

/// The report of one experiment. Its verdict is the worst of its findings; a run that did not complete never
/// passes, and says so in a finding of its own. Free text is scrubbed of what looks like a secret.
#[must_use]
pub fn experiment(
    experiment: &Experiment,
    seed: Seed,
    timeline: &Timeline,
    judged: Judged,
) -> ExperimentReport {
    named(&experiment.name, experiment.proves.clone(), seed, timeline, judged)
}

/// The report of an experiment of another tool: it proves no claim of ours.
#[must_use]
pub fn script(name: &str, seed: Seed, timeline: &Timeline, judged: Judged) -> ExperimentReport {
    named(name, Vec::new(), seed, timeline, judged)
}

fn named(
    name: &str,
    proves: Vec<String>,
    seed: Seed,
    timeline: &Timeline,
    judged: Judged,
) -> ExperimentReport {
    let Judged { mut findings, phases, resolution_ms, impact, outcome, residue } = judged;
    match &outcome {
        RunOutcome::Completed => {}
        RunOutcome::Stopped(reason) => {
            findings.push(Finding::new(
                "run",
                Verdict::Inconclusive,
                format!("the run was stopped: {reason}"),
            ));
        }
        RunOutcome::Broken(reason) => {
            findings.push(Finding::new("run", Verdict::Inconclusive, format!("the run broke: {reason}")));
        }
    }
    let window = |window: Window| window_report(&timeline.samples(window));
    let verdict = Verdict::worst(findings.iter().map(|finding| finding.verdict));
    ExperimentReport {
        proves,
        findings: findings.into_iter().map(scrub_finding).collect(),
        faults: timeline.faults.iter().flat_map(fault_reports).collect(),
        windows: WindowReports {
            baseline: window(timeline.windows.baseline),
            fault: window(timeline.windows.fault),
            recovery: window(timeline.windows.recovery),
        },
        recovery_ms: phases,
        ledger: timeline.ledger.clone(),
        residue: residue.iter().map(|line| scrub(line)).collect(),
        resolution_ms,
        impact,
        ..ExperimentReport::new(name, verdict, scrub_outcome(outcome), seed)
    }
}

/// An experiment with the control that was run beside it, and what that says.
#[must_use]
pub fn with_control(
    experiment: ExperimentReport,
    control: ExperimentReport,
    says: Finding,
) -> ExperimentReport {
    let mut findings = experiment.findings;
    findings.push(scrub_finding(says));
    ExperimentReport {
        verdict: Verdict::worst(findings.iter().map(|finding| finding.verdict)).max(experiment.verdict),
        findings,
        control: Some(Box::new(control)),
        ..experiment
    }
}

/// The report of a whole run: the worst verdict, and the outcome that went worst. Without an experiment it is
/// inconclusive.
#[must_use]
pub fn run(
    run: RunId,
    seed: Seed,
    cluster: String,
    started_at: String,
    experiments: Vec<ExperimentReport>,
) -> Report {
    Report {
        run,
        verdict: Verdict::worst(experiments.iter().map(|experiment| experiment.verdict)),
        outcome: worst_outcome(&experiments),
        seed,
        cluster,
        mettle_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        repeats: repeats(seed, &experiments),
        experiments,
        not_run_here: Vec::new(),
    }
}

/// Broken before interrupted before stopped before completed; of equals the first.
fn worst_outcome(experiments: &[ExperimentReport]) -> RunOutcome {
    let rank = |outcome: &RunOutcome| match outcome {
        RunOutcome::Completed => 0,
        RunOutcome::Stopped(_) => 1 + u8::from(outcome.is_interrupted()),
        RunOutcome::Broken(_) => 3,
    };
    let outcomes = experiments.iter().map(|experiment| &experiment.outcome);
    // `max_by_key` gives the last of equals, so it is asked from the back.
    outcomes.rev().max_by_key(|outcome| rank(outcome)).cloned().unwrap_or(RunOutcome::Completed)
}

/// One report a target; a fault without a target is still shown.
fn fault_reports(fault: &FaultRecord) -> Vec<FaultReport> {
    let report = |target: &str, role: Option<String>, because: &str| FaultReport {
        kind: fault.kind.as_str().to_owned(),
        target: target.to_owned(),
        role,
        because: scrub(because),
        injected_ms: fault.injected_ms,
        effective_ms: fault.effective_ms,
        reverted_ms: fault.reverted_ms,
        evidence: fault.evidence.iter().map(|line| scrub(line)).collect(),
    };
    if fault.targets.is_empty() {
        return vec![report("nothing", None, "no target was resolved")];
    }
    let targets = fault.targets.iter();
    targets
        .map(|target| {
            report(&target.object, target.role.map(|role| role.as_str().to_owned()), &target.because)
        })
        .collect()
}

fn window_report(samples: &Samples) -> WindowReport {
    let quantile_ms = |q| match samples.counted.latencies.quantile(q) {
        Quantile::NoSamples => None,
        Quantile::Us(us) | Quantile::Unanswered(us) => Some(round_ms(us)),
    };
    WindowReport {
        start_ms: samples.window.start_ms,
        end_ms: samples.window.end_ms,
        requests: samples.counted.requests,
        errors: samples.counted.errors,
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        generator_limited_seconds: samples.limited_seconds,
    }
}

#[allow(clippy::cast_precision_loss)]
fn round_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn scrub_finding(finding: Finding) -> Finding {
    Finding {
        reason: scrub(&finding.reason),
        evidence: finding.evidence.iter().map(|line| scrub(line)).collect(),
        ..finding
    }
}

fn scrub_outcome(outcome: RunOutcome) -> RunOutcome {
    match outcome {
        RunOutcome::Completed => RunOutcome::Completed,
        RunOutcome::Stopped(reason) => RunOutcome::Stopped(scrub(&reason)),
        RunOutcome::Broken(reason) => RunOutcome::Broken(scrub(&reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{experiment as sample_experiment, judged, timeline};
    use super::{Judged, experiment, run};
    use crate::model::{Finding, RunId, RunOutcome, Seed, Verdict};

    fn report(judged: Judged) -> crate::model::ExperimentReport {
        experiment(&sample_experiment(), Seed(7), &timeline(), judged)
    }

    #[test]
    fn a_run_that_did_not_complete_never_passes() {
        let pass = || Judged { findings: vec![Finding::new("x", Verdict::Pass, "held")], ..judged() };
        let fail = || Judged { findings: vec![Finding::new("x", Verdict::Fail, "lost")], ..judged() };
        for (judged, verdict) in [
            (pass(), Verdict::Pass),
            (Judged { outcome: RunOutcome::interrupted("SIGINT"), ..pass() }, Verdict::Inconclusive),
            (Judged { outcome: RunOutcome::Broken("the load died".into()), ..pass() }, Verdict::Inconclusive),
            (Judged { outcome: RunOutcome::Stopped("deadline".into()), ..fail() }, Verdict::Fail),
            (Judged { findings: Vec::new(), ..judged() }, Verdict::Inconclusive),
        ] {
            assert_eq!(report(judged.clone()).verdict, verdict, "{judged:?}");
        }
    }

    #[test]
    fn the_worst_experiment_speaks_for_the_run() {
        let with = |outcome| report(Judged { outcome, ..judged() });
        let stopped = || RunOutcome::Stopped("deadline".into());
        let interrupted = || RunOutcome::interrupted("SIGTERM");
        let broken = || RunOutcome::Broken("the load died".into());
        for (outcomes, worst) in [
            (vec![], RunOutcome::Completed),
            (vec![RunOutcome::Completed, stopped()], stopped()),
            (vec![stopped(), interrupted()], interrupted()),
            (vec![interrupted(), broken(), RunOutcome::Broken("later".into())], broken()),
        ] {
            let experiments = outcomes.into_iter().map(with).collect();
            let report = run(RunId("r".into()), Seed(7), "local/mettle".into(), String::new(), experiments);
            assert_eq!(report.outcome, worst);
        }
        let nothing = run(RunId("r".into()), Seed(7), "local/mettle".into(), String::new(), Vec::new());
        assert_eq!(nothing.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn secrets_stay_out() {
        let secret = "failed to read postgres://app:hunter2@pg/app";
        let finding = Finding::new("x", Verdict::Fail, secret).with_evidence([secret.to_owned()]);
        let judged = Judged {
            findings: vec![finding],
            outcome: RunOutcome::Broken(secret.into()),
            residue: vec![secret.into()],
            ..judged()
        };
        let text = format!("{:?}", report(judged));
        assert!(!text.contains("hunter2") && text.contains("postgres://***@pg/app"), "{text}");
    }
}
