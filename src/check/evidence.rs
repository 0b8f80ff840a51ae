//! What every judgement stands on: the faults bit, the load went on, the probes looked.

use crate::model::{Experiment, FaultRecord, Finding, LoadStep, Timeline, Verdict, WindowName};

use super::gate::silent_probes;

/// What is missing; empty when the timeline carries a judgement.
///
/// - `fault-evidence`: fewer faults were injected than asked for, or one has no target, was not seen
///   to bite at or after its injection with at least one line of evidence, or was not seen to be reverted.
/// - `load-step`: the load was not seen to step up and down, or users did not want that much more meanwhile.
/// - `load-floor(window)`: baseline, fault or recovery does not carry a judgement
///   (see [`crate::model::Samples::unusable`]).
/// - `probe-heartbeat`: a probe that looked before was silent for the whole recovery, or none ever looked.
#[must_use]
pub fn evidence(experiment: &Experiment, timeline: &Timeline) -> Vec<Finding> {
    let missing = |check: &str, reason: String| Finding::new(check, Verdict::Inconclusive, reason);
    let mut findings = Vec::new();
    let (asked, injected) = (experiment.faults.len(), timeline.faults.len());
    let step = experiment.load.step;
    if let Some(why) = step.and_then(|step| not_stepped(experiment.load.users, step, timeline)) {
        findings.push(missing("load-step", why));
    }
    if (injected == 0 && step.is_none()) || injected < asked {
        findings.push(missing("fault-evidence", format!("{injected} of {asked} faults were injected")));
    }
    for (index, fault) in timeline.faults.iter().enumerate() {
        if let Some(why) = without_evidence(fault) {
            let kind = fault.kind.as_str();
            findings.push(missing("fault-evidence", format!("fault {index} ({kind}): {why}")));
        }
    }
    for name in WindowName::ALL {
        let samples = timeline.samples(timeline.windows.get(name));
        if let Some(why) = samples.unusable(experiment.load.requests_min) {
            findings.push(missing(&format!("load-floor({})", name.as_str()), why));
        }
    }
    let silent = silent_probes(timeline, timeline.windows.recovery);
    if !silent.is_empty() {
        findings.push(missing("probe-heartbeat", format!("in the recovery: {}", silent.join(", "))));
    }
    findings
}

/// Of the growth that was asked for, so much must be seen.
const GROWTH_SHARE_MIN: f64 = 0.7;

/// Why the load's step carries no judgement. Users come with their next intention, so its first seconds do not count.
#[allow(clippy::cast_precision_loss)]
fn not_stepped(users: u32, step: LoadStep, timeline: &Timeline) -> Option<String> {
    let Some((up_ms, Some(down_ms))) = timeline.load_step() else {
        return Some("the load did not step up and down".to_owned());
    };
    let mean = |from_ms: u64, to_ms: u64| {
        let seconds = timeline.load_seconds().filter(|one| one.at_ms >= from_ms && one.at_ms + 1000 <= to_ms);
        let wanted: Vec<u64> = seconds.map(|second| second.intended).collect();
        (wanted.len() >= 3).then(|| wanted.iter().sum::<u64>() as f64 / wanted.len() as f64)
    };
    let baseline = timeline.windows.baseline;
    let (Some(before), Some(during)) =
        (mean(baseline.start_ms, baseline.end_ms), mean(up_ms + 2000, down_ms))
    else {
        return Some("the generator said too little of its seconds to see the step".to_owned());
    };
    let asked = f64::from(step.users) / f64::from(users.max(1));
    let wanted = before * (1.0 + GROWTH_SHARE_MIN * (asked - 1.0));
    (during < wanted).then(|| {
        format!("users wanted {during:.0} requests a second in the step, {before:.0} before it: too little for {asked:.1} times the users")
    })
}

fn without_evidence(fault: &FaultRecord) -> Option<&'static str> {
    match fault.effective_ms {
        _ if fault.targets.is_empty() => Some("it hit nothing"),
        None => Some("nothing shows that it bit"),
        Some(effective_ms) if effective_ms < fault.injected_ms => {
            Some("what should show that it bit was seen before it was injected")
        }
        Some(_) if fault.reverted_ms.is_none() => Some("nothing shows that it was reverted"),
        Some(_) if fault.evidence.is_empty() => Some("it is said to have bitten, but nothing shows it"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, experiment};
    use crate::model::LoadStep;

    #[test]
    fn a_step_of_the_load_must_be_seen() {
        let mut experiment = experiment();
        experiment.faults.clear();
        experiment.load.step = Some(LoadStep { users: 240, at_seconds: 0, hold_seconds: 12 });
        let missing = |build: Build| {
            let findings = super::evidence(&experiment, &build.timeline());
            findings.into_iter().map(|finding| finding.check).collect::<Vec<_>>()
        };
        let stepped = || Build::steady().no_faults().stepped(12_000, 24_000);
        assert_eq!(missing(stepped().wanted(12_000, 24_000, 195)), [""; 0]);
        assert_eq!(missing(stepped().wanted(12_000, 24_000, 130)), ["load-step"]);
        assert_eq!(missing(Build::steady().no_faults()), ["load-step"]);
        assert_eq!(missing(stepped().wanted(12_000, 24_000, 195).no_load_seconds())[0], "load-step");
    }

    #[test]
    fn names_what_is_missing() {
        let steady = Build::steady;
        for (name, build, missing) in [
            ("nothing is missing", steady(), &[][..]),
            ("no fault", steady().no_faults(), &["fault-evidence"]),
            ("it did not bite", steady().fault(|fault| fault.effective_ms = None), &["fault-evidence"]),
            ("it bit too early", steady().fault(|fault| fault.effective_ms = Some(1)), &["fault-evidence"]),
            (
                "without a word of evidence",
                steady().fault(|fault| fault.evidence.clear()),
                &["fault-evidence"],
            ),
            ("not reverted", steady().fault(|fault| fault.reverted_ms = None), &["fault-evidence"]),
            ("no target", steady().fault(|fault| fault.targets.clear()), &["fault-evidence"]),
            (
                "load stopped at injection",
                steady().silence(12_000, 40_000),
                &["load-floor(fault)", "load-floor(recovery)"],
            ),
            ("load began late", steady().silence(0, 12_000), &["load-floor(baseline)"]),
            ("the probe died", steady().probes_until(20_000), &["probe-heartbeat"]),
            (
                "nothing at all",
                Build::empty(),
                &[
                    "fault-evidence",
                    "load-floor(baseline)",
                    "load-floor(fault)",
                    "load-floor(recovery)",
                    "probe-heartbeat",
                ],
            ),
        ] {
            let findings = super::evidence(&experiment(), &build.timeline());
            let checks: Vec<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
            assert_eq!(checks, missing, "{name}: {findings:?}");
        }
    }
}
