//! `scales`: an autoscaler answers a step of the load with more replicas, and takes them away again.
//!
//! Definition: after the load stepped up, more replicas are wanted *and ready* than before, within `outWithinSeconds`; after it
//! stepped down, no more are wanted than before the step, until the end, within `inWithinSeconds`. The wish turns once, from up to
//! down; each further turn is a flap, of which at most `maxFlaps` (0 when absent) are allowed. Inconclusive: there was no step; the
//! autoscaler was at its maximum or still moving before it; nobody looked, or the run ended before the bound.

use crate::model::{CheckSpec, Component, Finding, Observation, Timeline, Verdict};

use super::looks::Looks;
use super::text::{Part, bound, bound_ms, inconclusive, of_parts, seconds, texts};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let bounds = (bound(spec.out_within_seconds), bound(spec.in_within_seconds));
    let (Some(component), (Some(out), Some(back))) = (spec.component, bounds) else {
        return inconclusive(spec, "component, outWithinSeconds and inWithinSeconds are needed");
    };
    let Some((up_ms, Some(down_ms))) = timeline.load_step() else {
        return inconclusive(spec, "the load did not step up and down");
    };
    let looks = Looks::of(timeline, &format!("scale {component}"));
    if let Some(why) = looks.missing(timeline, &format!("the autoscaler of {component}")) {
        return inconclusive(spec, why);
    }
    let scales = scales(timeline, component);
    let Some(before) = scales.iter().rev().find(|scale| scale.at_ms <= up_ms).copied() else {
        return inconclusive(spec, format!("no autoscaler of {component} was seen before the step"));
    };
    if let Some(why) = before.unfit(&scales, timeline.windows.baseline.start_ms, up_ms) {
        return inconclusive(spec, why);
    }
    let after: Vec<Scale> = scales.iter().filter(|scale| scale.at_ms > up_ms).copied().collect();
    let mut parts = vec![("out_ms", grown(&after, before, &looks, (up_ms, out)))];
    if parts[0].1.verdict == Verdict::Pass {
        parts.push(("in_ms", shrunk(&after, before, &looks, (down_ms, back))));
        parts.push(("flaps", flaps(&after, before, spec.max_flaps.unwrap_or(0))));
    }
    let turns = scales.iter().map(|scale| {
        format!(
            "{} ms: {} wanted, {} ready, at most {}",
            scale.at_ms, scale.desired, scale.ready, scale.maximum
        )
    });
    of_parts(spec, component.as_str(), &parts).with_evidence(texts(&parts).into_iter().chain(turns))
}

#[derive(Debug, Clone, Copy)]
struct Scale {
    at_ms: u64,
    desired: u32,
    ready: u32,
    maximum: u32,
}

fn scales(timeline: &Timeline, of: Component) -> Vec<Scale> {
    let seen = timeline.observations(0).filter_map(|(at_ms, seen)| match seen {
        Observation::Scale { component, desired, ready, maximum, .. } if *component == of => {
            Some(Scale { at_ms, desired: *desired, ready: *ready, maximum: *maximum })
        }
        _ => None,
    });
    seen.collect()
}

impl Scale {
    /// Why a step from here would show nothing.
    fn unfit(self, all: &[Scale], from_ms: u64, up_ms: u64) -> Option<String> {
        let Self { desired, ready, maximum, .. } = self;
        if desired >= maximum {
            return Some(format!(
                "{desired} replicas were wanted before the step, and no more than {maximum} may be"
            ));
        }
        if ready < desired {
            return Some(format!("{ready} of {desired} replicas were ready before the step"));
        }
        let moved = all.windows(2).find(|pair| {
            pair[0].desired != pair[1].desired && pair[1].at_ms >= from_ms && pair[1].at_ms <= up_ms
        })?;
        Some(format!(
            "it was still moving before the step: {} → {} replicas",
            moved[0].desired, moved[1].desired
        ))
    }
}

fn grown(after: &[Scale], before: Scale, looks: &Looks, (up_ms, max): (u64, f64)) -> Part {
    let by_ms = up_ms.saturating_add(bound_ms(max));
    let bounds = format!("at most {max} s are allowed");
    let more = after.iter().find(|scale| scale.desired > before.desired && scale.ready > before.ready);
    match more {
        Some(scale) => {
            let after_ms = scale.at_ms - up_ms;
            let (from, to, took) = (before.ready, scale.ready, seconds(after_ms));
            let text = format!("grew from {from} to {to} ready replicas {took} after the step, {bounds}");
            Part::measured(looks.kept(scale.at_ms, by_ms), after_ms, text)
        }
        None if looks.whole(up_ms, by_ms) => {
            let wished = after.iter().map(|scale| scale.desired).max().unwrap_or(before.desired);
            let text =
                format!("did not grow: {} were ready, at most {wished} wanted, {bounds}", before.ready);
            Part::new(Verdict::Fail, text)
        }
        None => Part::new(
            Verdict::Inconclusive,
            format!("was not seen to grow, but nobody looked all the time for {max} s"),
        ),
    }
}

fn shrunk(after: &[Scale], before: Scale, looks: &Looks, (down_ms, max): (u64, f64)) -> Part {
    let by_ms = down_ms.saturating_add(bound_ms(max));
    let bounds = format!("at most {max} s are allowed");
    let last_high = after.iter().rposition(|scale| scale.desired > before.desired);
    let low = last_high.and_then(|last| after.get(last + 1));
    match low {
        Some(scale) => {
            let after_ms = scale.at_ms.saturating_sub(down_ms);
            let text =
                format!("wanted {} again {} after the step, {bounds}", scale.desired, seconds(after_ms));
            Part::measured(looks.kept(scale.at_ms, by_ms), after_ms, text)
        }
        None if looks.last_ms().is_some_and(|last_ms| last_ms >= by_ms) => {
            let wished = after.last().map_or(0, |scale| scale.desired);
            let text =
                format!("still wanted {wished} at the end, {} before the step, {bounds}", before.desired);
            Part::new(Verdict::Fail, text)
        }
        None => Part::new(
            Verdict::Inconclusive,
            format!("still wanted more when the run ended, {max} s were not over"),
        ),
    }
}

/// Turns of the wish beyond the one from up to down.
fn flaps(after: &[Scale], before: Scale, max: u32) -> Part {
    let mut wishes = vec![before.desired];
    wishes.extend(after.iter().map(|scale| scale.desired));
    wishes.dedup();
    let ups: Vec<bool> = wishes.windows(2).map(|pair| pair[1] > pair[0]).collect();
    let turns = ups.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    let flaps = turns.saturating_sub(1);
    let verdict = if flaps > u64::from(max) { Verdict::Fail } else { Verdict::Pass };
    Part::measured(verdict, flaps, format!("flapped {flaps} times, at most {max} are allowed"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, Component, Observation};

    fn spec() -> CheckSpec {
        CheckSpec {
            component: Some(Component::Edge),
            out_within_seconds: Some(8.0),
            in_within_seconds: Some(10.0),
            ..CheckSpec::new(CheckKind::Scales)
        }
    }

    #[test]
    fn its_times_and_flaps_are_figures() {
        let figures = |moves: &[(u64, u32, u32)]| format!("{:?}", story(moves).judge(&spec()).figures);
        let grown = [(15_000, 4, 2), (18_000, 4, 4)];
        let back = [grown.as_slice(), &[(30_000, 2, 4)]].concat();
        assert_eq!(figures(&back), r#"{"flaps": 0.0, "in_ms": 6000.0, "out_ms": 6000.0}"#);
        assert_eq!(figures(&grown), r#"{"flaps": 0.0, "out_ms": 6000.0}"#, "never in");
        assert_eq!(figures(&[]), "{}", "never out");
    }

    /// The step is from 12 to 24 s; (at, wanted, ready).
    fn story(moves: &[(u64, u32, u32)]) -> Build {
        let build = Build::steady().no_faults().stepped(12_000, 24_000).beats("scale edge", 0, 40_000);
        let build = scale(build, 100, 2, 2);
        moves.iter().fold(build, |build, (at_ms, desired, ready)| scale(build, *at_ms, *desired, *ready))
    }

    fn scale(build: Build, at_ms: u64, desired: u32, ready: u32) -> Build {
        build.see(
            at_ms,
            Observation::Scale { component: Component::Edge, desired, ready, minimum: 2, maximum: 4 },
        )
    }

    #[test]
    fn it_grows_for_the_step_and_shrinks_after_it() {
        let good = [(15_000, 4, 2), (18_000, 4, 4), (30_000, 2, 4), (31_000, 2, 2)];
        verdicts(
            &spec(),
            [
                ("out and in", story(&good), Pass),
                (
                    "in two steps",
                    story(&[(14_000, 3, 3), (17_000, 4, 4), (28_000, 3, 3), (30_000, 2, 2)]),
                    Pass,
                ),
                ("only wished for", story(&[(15_000, 4, 2), (30_000, 2, 2)]), Fail),
                ("never", story(&[]), Fail),
                ("ready too late", story(&[(15_000, 4, 2), (22_000, 4, 4), (30_000, 2, 2)]), Fail),
                ("in too late", story(&[(15_000, 4, 4), (36_000, 2, 2)]), Fail),
                ("never in", story(&[(15_000, 4, 4)]), Fail),
                ("it flaps", story(&[(15_000, 4, 4), (19_000, 2, 2), (21_000, 4, 4), (30_000, 2, 2)]), Fail),
                ("at its maximum before", story(&[(200, 4, 4)]), Inconclusive),
                (
                    "still moving before",
                    story(&[(9_000, 3, 3), (15_000, 4, 4), (30_000, 3, 3)]),
                    Inconclusive,
                ),
                ("no step", scale(Build::steady().beats("scale edge", 0, 40_000), 100, 2, 2), Inconclusive),
                ("nobody looked", story(&good).no_beats("scale edge", 0, 40_000), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let patient = CheckSpec { in_within_seconds: Some(60.0), ..spec() };
        verdicts(&patient, [("the run ends before", story(&[(15_000, 4, 4)]), Inconclusive)]);
        let lenient = CheckSpec { max_flaps: Some(2), ..spec() };
        let flapping = story(&[(15_000, 4, 4), (19_000, 2, 2), (21_000, 4, 4), (30_000, 2, 2)]);
        verdicts(&lenient, [("two flaps", flapping, Pass)]);
    }
}
