//! `error-rate`: the share of requests of one window that are not ok.
//!
//! Definition: (failed + indeterminate) / requests, in percent, of the requests whose *intended* time
//! lies in the window. Judged in both readings of [`crate::model::Samples`]: pass when the worst reading
//! keeps the bound, fail when what is certainly the stack's breaks it, inconclusive between the two,
//! or when the window carries no judgement at all. With `minPercent` the share must also be at least that, in what is certainly the
//! stack's: an abort of a share of the requests is judged by both bounds.

use crate::model::{CheckSpec, Finding, LoadSpec, Tally, Timeline, Verdict};

use super::text::{bound, finding, inconclusive};

pub(super) fn judge(spec: &CheckSpec, load: &LoadSpec, timeline: &Timeline) -> Finding {
    let (Some(window), Some(max_percent)) = (spec.window, bound(spec.max_percent)) else {
        return inconclusive(spec, "window and maxPercent are needed");
    };
    let samples = timeline.samples(timeline.windows.get(window));
    if let Some(why) = samples.unusable(load.requests_min) {
        return inconclusive(spec, why);
    }
    let percent = samples.counted.error_share() * 100.0;
    let worst_percent = samples.all.error_share() * 100.0;
    let figure = describe(&samples.counted);
    if percent > max_percent {
        return finding(spec, Verdict::Fail, format!("{figure}, at most {max_percent} % are allowed"));
    }
    if worst_percent > max_percent {
        return inconclusive(
            spec,
            format!(
                "{figure} without the generator's own limits, but {} with them: at most {max_percent} % are allowed",
                describe(&samples.all)
            ),
        );
    }
    let Some(min_percent) = bound(spec.min_percent) else {
        return finding(spec, Verdict::Pass, format!("{figure}, at most {max_percent} % are allowed"));
    };
    let verdict = if percent < min_percent { Verdict::Fail } else { Verdict::Pass };
    finding(spec, verdict, format!("{figure}, {min_percent} to {max_percent} % are wanted"))
}

fn describe(tally: &Tally) -> String {
    format!(
        "{:.2} % of requests were not ok ({} of {})",
        tally.error_share() * 100.0,
        tally.errors,
        tally.requests
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::ErrorClass::{NotSent, ServerStatus, Timeout};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, WindowName};

    fn spec() -> CheckSpec {
        CheckSpec {
            window: Some(WindowName::Fault),
            max_percent: Some(5.0),
            ..CheckSpec::new(CheckKind::ErrorRate)
        }
    }

    #[test]
    fn judges_the_share_that_is_not_ok() {
        verdicts(
            &spec(),
            [
                ("no error", Build::steady(), Pass),
                ("0.4 s of 12 s", Build::steady().errors(13_000, 13_400, ServerStatus), Pass),
                ("2 s of 12 s", Build::steady().errors(13_000, 15_000, ServerStatus), Fail),
                ("indeterminate counts too", Build::steady().errors(13_000, 15_000, Timeout), Fail),
                ("errors in another window", Build::steady().errors(30_000, 34_000, ServerStatus), Pass),
                ("nothing at all", Build::empty(), Inconclusive),
                ("load stopped", Build::steady().silence(12_000, 24_000), Inconclusive),
                ("under the floor", Build::steady().silence(12_500, 24_000), Inconclusive),
                ("generator says nothing", Build::steady().no_load_seconds(), Inconclusive),
            ],
        );
    }

    #[test]
    fn never_charges_the_generator_and_never_hides_behind_it() {
        let errors = || Build::steady().errors(13_000, 15_000, ServerStatus);
        verdicts(
            &spec(),
            [
                ("errors only in limited seconds", errors().limited(13_000, 15_000), Inconclusive),
                ("limited seconds without errors", Build::steady().limited(13_000, 15_000), Pass),
                ("limited too long", Build::steady().limited(13_000, 17_000), Inconclusive),
                ("few were never sent", Build::steady().errors(13_000, 13_300, NotSent), Pass),
                ("many were never sent", Build::steady().errors(13_000, 14_500, NotSent), Inconclusive),
                ("half were never sent", Build::steady().errors(13_000, 19_000, NotSent), Inconclusive),
            ],
        );
    }

    #[test]
    fn a_share_that_was_asked_for_lies_between_two_bounds() {
        let spec = CheckSpec { min_percent: Some(10.0), max_percent: Some(30.0), ..spec() };
        let errors = |to| Build::steady().errors(13_000, to, ServerStatus);
        verdicts(
            &spec,
            [
                ("2 s of 12 s", errors(15_000), Pass),
                ("half a second", errors(13_500), Fail),
                ("none", Build::steady(), Fail),
                ("half of it", errors(19_000), Fail),
                ("the generator's own", Build::steady().errors(13_000, 13_500, NotSent), Fail),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }

    #[test]
    fn a_check_without_its_fields_is_inconclusive() {
        for spec in [
            CheckSpec { window: None, ..spec() },
            CheckSpec { max_percent: None, ..spec() },
            CheckSpec { max_percent: Some(f64::NAN), ..spec() },
        ] {
            verdicts(&spec, [("steady", Build::steady(), Inconclusive)]);
        }
    }
}
