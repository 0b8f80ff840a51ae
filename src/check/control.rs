//! A control: the same seed, load and windows without a fault. What it shows is noise, so an experiment whose control
//! shows its effect says nothing about the fault.

use crate::model::{
    CheckKind, CheckSpec, Experiment, ExperimentReport, FaultRecord, Finding, RecoveryPhases, RunOutcome,
    Timeline, Verdict, WindowName,
};

use super::gate::silent_probes;
use super::{judge, phases, stable_for_seconds};

/// The checks over a timeline without faults, as if one had been injected when its fault window began. Whether replicas
/// came back is not asked, since none was taken away; nor whether an alert fired, a breaker opened or an answer lacked
/// something, since nothing was to bring that about.
///
/// The timeline is left as it was.
#[must_use]
pub fn judge_control(experiment: &Experiment, timeline: &mut Timeline) -> (Vec<Finding>, RecoveryPhases) {
    let Some(first) = experiment.faults.first() else {
        let why = "the experiment has no fault that a control could leave out";
        return (vec![Finding::new("control", Verdict::Inconclusive, why)], RecoveryPhases::default());
    };
    let nothing = FaultRecord {
        kind: first.kind,
        targets: Vec::new(),
        injected_ms: timeline.windows.fault.start_ms,
        effective_ms: None,
        reverted_ms: None,
        evidence: Vec::new(),
    };
    let before = std::mem::replace(&mut timeline.faults, vec![nothing]);
    let mut findings = Vec::new();
    for name in WindowName::ALL {
        let samples = timeline.samples(timeline.windows.get(name));
        if let Some(why) = samples.unusable(experiment.load.requests_min) {
            let check = format!("load-floor({})", name.as_str());
            findings.push(Finding::new(check, Verdict::Inconclusive, why));
        }
    }
    let silent = silent_probes(timeline, timeline.windows.recovery);
    if !silent.is_empty() {
        let why = format!("in the recovery: {}", silent.join(", "));
        findings.push(Finding::new("probe-heartbeat", Verdict::Inconclusive, why));
    }
    let asked = experiment.expect.iter().filter(|spec| is_asked(spec));
    findings.extend(asked.map(|spec| judge(spec, &experiment.load, timeline)));
    let client = phases(timeline, stable_for_seconds(experiment)).client;
    timeline.faults = before;
    (findings, RecoveryPhases { client, ..RecoveryPhases::default() })
}

/// Whether a check has an answer where nothing was hit: not when it asks for what only the fault brings about, nor when
/// it judges the components that were hit.
fn is_asked(spec: &CheckSpec) -> bool {
    match spec.check {
        CheckKind::ReplicasRestored
        | CheckKind::AlertFires
        | CheckKind::ArchiveCurrent
        | CheckKind::Breaker
        | CheckKind::Degraded => false,
        CheckKind::SingleWriter => spec.component.is_some(),
        CheckKind::ErrorRate
        | CheckKind::Latency
        | CheckKind::RecoveryTime
        | CheckKind::LostWrites
        | CheckKind::DuplicatedWrites
        | CheckKind::StaleReads
        | CheckKind::DirtyReads
        | CheckKind::ReorderedWrites
        | CheckKind::Amplification
        | CheckKind::StaysClosed
        | CheckKind::Scales => true,
    }
}

/// What the control says about its experiment. Never a fail: noise is not the stack's doing, it only hides it.
///
/// Pass: the control ran to its end, everything that it was asked held, and its clients saw no more errors than in its
/// baseline. Inconclusive otherwise.
#[must_use]
pub fn against_control(control: &ExperimentReport) -> Finding {
    let inconclusive = |reason: String| Finding::new("control", Verdict::Inconclusive, reason);
    if control.outcome != RunOutcome::Completed {
        return inconclusive(
            "the control did not run to its end, so effect and noise cannot be told apart".into(),
        );
    }
    let of = |verdict| {
        let found = control.findings.iter().filter(move |finding| finding.verdict == verdict);
        found.map(|finding| format!("{}: {}", finding.check, finding.reason))
    };
    let (shown, unclear): (Vec<_>, Vec<_>) =
        (of(Verdict::Fail).collect(), of(Verdict::Inconclusive).collect());
    if let Some(first) = shown.first() {
        return inconclusive(format!("without a fault the same is seen: {first}")).with_evidence(shown);
    }
    if let Some(first) = unclear.first() {
        return inconclusive(format!("the control carries no judgement: {first}")).with_evidence(unclear);
    }
    match control.recovery_ms.client {
        Some(0) if control.findings.is_empty() => inconclusive("nothing was judged in the control".into()),
        Some(0) => Finding::new(
            "control",
            Verdict::Pass,
            format!("without a fault {} checks hold and clients see no errors", control.findings.len()),
        ),
        Some(ms) => inconclusive(format!(
            "without a fault clients met errors until {ms} ms after the fault window began: a recovery time is not told from them"
        )),
        None => inconclusive("without a fault clients were not shown to be served".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, experiment};
    use super::{against_control, judge_control};
    use crate::model::ErrorClass::ServerStatus;
    use crate::model::Verdict::{self, Inconclusive, Pass};
    use crate::model::{ExperimentReport, RunOutcome, Seed};

    /// Nothing is hit: no probe sees anything.
    fn quiet() -> Build {
        Build::stack_that_notices_nothing().no_faults()
    }

    fn control(build: Build) -> ExperimentReport {
        let mut timeline = build.timeline();
        let before = timeline.clone();
        let (findings, phases) = judge_control(&experiment(), &mut timeline);
        assert_eq!(timeline, before);
        let verdict = Verdict::worst(findings.iter().map(|finding| finding.verdict));
        let report = ExperimentReport::new("control", verdict, RunOutcome::Completed, Seed(1));
        ExperimentReport { findings, recovery_ms: phases, ..report }
    }

    #[test]
    fn only_a_quiet_control_lets_an_effect_be_told_from_noise() {
        for (name, build, verdict, says) in [
            ("quiet", quiet(), Pass, "5 checks hold"),
            (
                "errors of the same size",
                quiet().errors(12_000, 18_000, ServerStatus),
                Inconclusive,
                "the same is seen: error-rate",
            ),
            (
                "slow all the same",
                quiet().slow(24_000, 30_000, 300),
                Inconclusive,
                "the same is seen: latency",
            ),
            // Within every bound, and yet clients did not see what they see in steady state.
            (
                "a few errors",
                quiet().errors(12_500, 12_900, ServerStatus),
                Inconclusive,
                "met errors until 891 ms",
            ),
            ("no load", quiet().silence(12_000, 40_000), Inconclusive, "no judgement: load-floor(fault)"),
            ("a silent probe", quiet().probes_until(20_000), Inconclusive, "no judgement: probe-heartbeat"),
            ("nothing at all", Build::empty(), Inconclusive, "no judgement"),
        ] {
            let finding = against_control(&control(build));
            assert_eq!(finding.verdict, verdict, "{name}: {}", finding.reason);
            assert!(finding.reason.contains(says), "{name}: {}", finding.reason);
        }
    }

    #[test]
    fn a_control_that_ended_early_says_nothing() {
        let stopped =
            ExperimentReport { outcome: RunOutcome::Stopped("deadline".into()), ..control(quiet()) };
        assert_eq!(against_control(&stopped).verdict, Inconclusive);
        let unjudged = ExperimentReport { findings: Vec::new(), ..control(quiet()) };
        assert_eq!(against_control(&unjudged).verdict, Inconclusive);
    }
}
