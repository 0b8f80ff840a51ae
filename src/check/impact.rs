//! What the faults cost the users, from the first injection until the load ended. Figures, not judgements.
//!
//! Time is cut into whole seconds. Requests belong to the second in which their user wanted them, answers to the
//! second in which they came. A second in which the generator was the limit or failed on its own, or in which nobody
//! wanted anything, says nothing and is set aside.
//!
//! - *User-minutes lost*: in each second the share of its requests that were not ok, times the experiment's users; the sum in
//!   minutes. A user who wants something in that second meets a failure with that probability, whoever it is: users
//!   outnumber the requests of a second, since they think between them.
//! - *Goodput dip*: seconds with fewer successful answers than the mean of the baseline's own seconds less two of their
//!   standard deviations; the area between that mean and the answers of those seconds. Without the band every wobble below
//!   the mean would count and none above it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ErrorClass, GoodputDip, Impact, Limited, LoadSpec, OperationOutcome, Timeline, Window};

/// Whole seconds that a baseline needs to have a mean and a spread.
const BASELINE_SECONDS_MIN: usize = 3;

/// Absent when nothing was injected, or the baseline has fewer than three whole seconds that say something.
#[must_use]
pub fn impact(load: &LoadSpec, timeline: &Timeline) -> Option<Impact> {
    let injection_ms = timeline.injection_ms()?;
    let after = Window { start_ms: injection_ms, end_ms: timeline.windows.recovery.end_ms };
    let limited = Limited::of(timeline);
    let baseline: Vec<f64> =
        seconds(timeline, timeline.windows.baseline, &limited).iter().filter_map(Second::answers).collect();
    let seconds = seconds(timeline, after, &limited);
    if baseline.len() < BASELINE_SECONDS_MIN || seconds.is_empty() {
        return None;
    }
    let told = || seconds.iter().filter(|second| second.answers().is_some());
    let user_seconds: f64 = told().map(|second| second.share_bad() * f64::from(load.users)).sum();
    let answers: Vec<f64> = told().filter_map(Second::answers).collect();
    Some(Impact {
        user_minutes_lost: round(user_seconds / 60.0),
        failed_requests: told().map(|second| second.bad).sum(),
        goodput: dip(&baseline, &answers),
        seconds: seconds.len() as u64,
        seconds_set_aside: (seconds.len() - answers.len()) as u64,
    })
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    wanted: u64,
    bad: u64,
    answered: u64,
    limited: bool,
}

impl Second {
    /// Successful answers that came in it; absent when it says nothing.
    #[allow(clippy::cast_precision_loss)]
    fn answers(&self) -> Option<f64> {
        (self.wanted > 0 && !self.limited).then_some(self.answered as f64)
    }

    #[allow(clippy::cast_precision_loss)]
    fn share_bad(&self) -> f64 {
        if self.wanted == 0 { 0.0 } else { self.bad as f64 / self.wanted as f64 }
    }
}

/// The whole seconds of a window; what is left at its end is too short to compare.
fn seconds(timeline: &Timeline, window: Window, limited: &Limited) -> Vec<Second> {
    let count = window.end_ms.saturating_sub(window.start_ms) / 1000;
    let mut seconds: BTreeMap<u64, Second> = (0..count).map(|at| (at, Second::default())).collect();
    let mut own = BTreeSet::new();
    let at = |us: u64| (us / 1000).checked_sub(window.start_ms).map(|ms| ms / 1000);
    for operation in &timeline.operations {
        if operation.error.is_some_and(ErrorClass::is_generators_own) {
            own.extend(at(operation.intended_us));
            continue;
        }
        let ok = operation.outcome == OperationOutcome::Ok;
        if let Some(second) = at(operation.intended_us).and_then(|at| seconds.get_mut(&at)) {
            second.wanted += 1;
            second.bad += u64::from(!ok);
        }
        if let Some(second) = at(operation.done_us).and_then(|at| seconds.get_mut(&at)) {
            second.answered += u64::from(ok);
        }
    }
    for (at, second) in &mut seconds {
        let start_ms = window.start_ms + at * 1000;
        let whole = Window { start_ms, end_ms: start_ms + 1000 };
        // The generator's seconds need not begin with ours. What was late in a part of one is missing in all of it.
        second.limited = own.contains(at) || limited.within(whole).next().is_some();
    }
    seconds.into_values().collect()
}

#[allow(clippy::cast_precision_loss)]
fn dip(baseline: &[f64], answers: &[f64]) -> GoodputDip {
    let mean = baseline.iter().sum::<f64>() / baseline.len() as f64;
    let squares: f64 = baseline.iter().map(|one| (one - mean).powi(2)).sum();
    let deviation = (squares / (baseline.len() - 1) as f64).sqrt();
    let below: Vec<f64> =
        answers.iter().filter(|one| **one < mean - 2.0 * deviation).map(|one| mean - one).collect();
    let missing: f64 = below.iter().sum();
    let expected = mean * answers.len() as f64;
    let share = |part: f64, whole: f64| if whole > 0.0 { round(part / whole) } else { 0.0 };
    GoodputDip {
        baseline_per_second: round(mean),
        seconds_below: below.len() as u64,
        missing_answers: round(missing),
        share: share(missing, expected),
        deepest_share: share(below.iter().copied().fold(0.0, f64::max), mean),
    }
}

/// Four places: what is behind them is no figure of ours.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use super::impact;
    use crate::model::ErrorClass::{NotSent, ServerStatus};
    use crate::model::LoadSpec;

    /// 120 users; 100 requests/s, of 28 s after the injection.
    #[test]
    fn what_an_outage_costs() {
        let quiet = Build::stack_that_notices_nothing;
        let half = |build: Build| build.errors(13_000, 13_500, ServerStatus);
        for (name, build, minutes, failed, missing, share, deepest, aside) in [
            ("nothing", quiet(), 0.0, 0, 0.0, 0.0, 0.0, 0),
            // 3 s of 120 users.
            ("3 s of errors", quiet().errors(13_000, 16_000, ServerStatus), 6.0, 300, 300.0, 0.107, 1.0, 0),
            ("half a second", half(quiet()), 1.0, 50, 50.0, 0.018, 0.5, 0),
            ("before the injection", quiet().errors(11_000, 12_000, ServerStatus), 0.0, 0, 0.0, 0.0, 0.0, 0),
            ("the generator's own", quiet().errors(13_000, 13_500, NotSent), 0.0, 0, 0.0, 0.0, 0.0, 1),
            // Nobody met an error, and for a second nobody was answered.
            ("late", quiet().slow(13_000, 14_000, 1_010), 0.0, 0, 100.0, 0.036, 1.0, 0),
            ("blamed on the generator", half(quiet()).limited(13_000, 14_000), 0.0, 0, 0.0, 0.0, 0.0, 1),
        ] {
            let found = impact(&LoadSpec::default(), &build.timeline()).expect(name);
            assert_eq!(
                (found.user_minutes_lost, found.failed_requests),
                (minutes, failed),
                "{name}: {found:?}"
            );
            assert_eq!((found.seconds, found.seconds_set_aside), (28, aside), "{name}: {found:?}");
            let dip = &found.goodput;
            // An answer more or less at the edges of a second.
            for (got, want, within) in [
                (dip.missing_answers, missing, 2.5),
                (dip.share, share, 0.001),
                (dip.deepest_share, deepest, 0.02),
            ] {
                assert!((got - want).abs() <= within, "{name}: {got} is not {want}: {found:?}");
            }
        }
    }

    #[test]
    fn silence_is_set_aside_and_nothing_is_no_figure() {
        let silent = Build::stack_that_notices_nothing().silence(20_000, 23_000).timeline();
        let found = impact(&LoadSpec::default(), &silent).expect("a figure");
        assert_eq!((found.seconds_set_aside, found.user_minutes_lost), (3, 0.0));
        for build in [Build::empty(), Build::steady().no_faults(), Build::steady().silence(0, 11_000)] {
            assert_eq!(impact(&LoadSpec::default(), &build.timeline()), None);
        }
    }
}
