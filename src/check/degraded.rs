//! `degraded`: while a dependency is away its feature is missing from the answers, and the answers are there.
//!
//! Definition: of the requests of `step` whose intended time lies in the window, at least `minPercent` were ok *and* said of
//! themselves that they were given with less (the scenario's `degraded`). Of the baseline's at most [`BASELINE_PERCENT_MAX`] %
//! did: a mark that is always there says nothing. Judged in both readings of [`crate::model::Samples`]: pass in the worst, fail when
//! what is certainly the stack's is below. Inconclusive: fewer than [`REQUESTS_MIN`] requests of the step in either window, or
//! a baseline that was degraded itself.

use crate::model::{CheckSpec, Finding, Limited, Operation, OperationOutcome, Timeline, Verdict, Window};

use super::text::{bound, finding, inconclusive};

const REQUESTS_MIN: u64 = 20;
const BASELINE_PERCENT_MAX: f64 = 5.0;

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let (Some(window), Some(step), Some(min_percent)) = (spec.window, &spec.step, bound(spec.min_percent))
    else {
        return inconclusive(spec, "window, step and minPercent are needed");
    };
    if timeline.faults.is_empty() {
        return inconclusive(spec, "no fault was injected");
    }
    let before = Tally::of(timeline, timeline.windows.baseline, step);
    let during = Tally::of(timeline, timeline.windows.get(window), step);
    for (name, tally) in [("baseline", &before), (window.as_str(), &during)] {
        if tally.counted < REQUESTS_MIN {
            let why = format!(
                "{} requests of {step} count in the {name}, a judgement needs {REQUESTS_MIN}",
                tally.counted
            );
            return inconclusive(spec, why);
        }
    }
    let evidence =
        [format!("in the baseline {}", before.text(step)), format!("in the window {}", during.text(step))];
    if before.percent() > BASELINE_PERCENT_MAX {
        let why = format!(
            "{:.1} % of the answers to {step} were degraded before the fault, at most {BASELINE_PERCENT_MAX} % may be",
            before.percent()
        );
        return inconclusive(spec, why).with_evidence(evidence);
    }
    let reason = format!("{}, at least {min_percent} % are wanted", during.text(step));
    let verdict = if during.worst_percent() >= min_percent {
        Verdict::Pass
    } else if during.percent() < min_percent {
        Verdict::Fail
    } else {
        let why =
            format!("{reason}, but only {:.1} % with the generator's own failures", during.worst_percent());
        return inconclusive(spec, why).with_evidence(evidence);
    };
    finding(spec, verdict, reason).with_evidence(evidence)
}

/// Whether an operation is of this step, `journey.step` or `step`.
pub(super) fn is_of(operation: &Operation, step: &str) -> bool {
    let whole = operation.step.as_str();
    whole == step || whole.rsplit_once('.').is_some_and(|(_, name)| name == step)
}

/// Requests of one step in one window.
#[derive(Debug, Default)]
struct Tally {
    /// Without those of generator-limited seconds and the generator's own failures.
    counted: u64,
    degraded: u64,
    failed: u64,
    all: u64,
    all_degraded: u64,
}

impl Tally {
    fn of(timeline: &Timeline, window: Window, step: &str) -> Self {
        let limited = Limited::of(timeline);
        let mut tally = Self::default();
        for operation in timeline.operations_in(window).filter(|operation| is_of(operation, step)) {
            let ok = operation.outcome == OperationOutcome::Ok;
            let degraded = u64::from(ok && operation.degraded);
            tally.all += 1;
            tally.all_degraded += degraded;
            let own = operation.error.is_some_and(crate::model::ErrorClass::is_generators_own);
            if !own && !limited.concerns(operation) {
                tally.counted += 1;
                tally.degraded += degraded;
                tally.failed += u64::from(!ok);
            }
        }
        tally
    }

    fn percent(&self) -> f64 {
        share(self.degraded, self.counted)
    }

    fn worst_percent(&self) -> f64 {
        share(self.all_degraded, self.all).min(self.percent())
    }

    fn text(&self, step: &str) -> String {
        let Self { counted, degraded, failed, .. } = self;
        format!(
            "{:.1} % of the requests of {step} were answered with less ({degraded} of {counted}, {failed} failed)",
            self.percent()
        )
    }
}

#[allow(clippy::cast_precision_loss)]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::ErrorClass::{NotSent, ServerStatus};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, WindowName};

    fn spec() -> CheckSpec {
        CheckSpec {
            window: Some(WindowName::Fault),
            step: Some("step".into()),
            min_percent: Some(80.0),
            ..CheckSpec::new(CheckKind::Degraded)
        }
    }

    #[test]
    fn answers_are_there_and_say_that_they_are_less() {
        let less = |from, to| Build::steady().degraded(from, to);
        verdicts(
            &spec(),
            [
                ("all of the window", less(12_000, 24_000), Pass),
                ("a second late", less(13_000, 24_000), Pass),
                ("half of it", less(18_000, 24_000), Fail),
                ("nobody says so", Build::steady(), Fail),
                ("errors are no answers", less(12_000, 24_000).errors(12_000, 16_000, ServerStatus), Fail),
                ("degraded all the time", less(0, 40_000), Inconclusive),
                ("few in the baseline", less(11_800, 24_000), Pass),
                ("no requests", less(12_000, 24_000).silence(12_000, 24_000), Inconclusive),
                ("no baseline", less(12_000, 24_000).silence(0, 12_000), Inconclusive),
                ("never sent", less(12_000, 24_000).errors(12_000, 15_000, NotSent), Inconclusive),
                ("no fault", less(12_000, 24_000).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }

    #[test]
    fn a_step_is_named_whole_or_by_its_own_name() {
        let less = || Build::steady().degraded(12_000, 24_000);
        let named = |step: &str| CheckSpec { step: Some(step.into()), ..spec() };
        verdicts(&named("shop.step"), [("whole", less(), Pass)]);
        verdicts(&named("tep"), [("a part of a name", less(), Inconclusive)]);
        verdicts(&CheckSpec { min_percent: None, ..spec() }, [("no bound", less(), Inconclusive)]);
    }
}
