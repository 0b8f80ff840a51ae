//! What every judgement stands on: the faults bit, the load went on, the probes looked.

use crate::model::{Experiment, FaultRecord, Finding, Timeline, Verdict, WindowName};

use super::gate::silent_probes;

/// What is missing; empty when the timeline carries a judgement.
///
/// - `fault-evidence`: fewer faults were injected than asked for, or one has no target, was not seen
///   to bite at or after its injection with at least one line of evidence, or was not seen to be reverted.
/// - `load-floor(window)`: baseline, fault or recovery does not carry a judgement
///   (see [`crate::model::Samples::unusable`]).
/// - `probe-heartbeat`: a probe that looked before was silent for the whole recovery, or none ever looked.
#[must_use]
pub fn evidence(experiment: &Experiment, timeline: &Timeline) -> Vec<Finding> {
    let missing = |check: &str, reason: String| Finding::new(check, Verdict::Inconclusive, reason);
    let mut findings = Vec::new();
    let (asked, injected) = (experiment.faults.len(), timeline.faults.len());
    if injected == 0 || injected < asked {
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
