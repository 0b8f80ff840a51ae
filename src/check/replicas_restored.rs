//! `replicas-restored`: every member of the component was back and in sync in time, and stayed.
//!
//! Judges `component`, or every component that a fault hit. Definition and evidence as in
//! [`super::redundancy`], from the first injection. Fail: members are still missing at the end of the
//! timeline, or came back too late. Inconclusive: nobody counted, or nobody noticed the loss: a probe that did not see a
//! member go cannot testify that it came back, unless a pod under a new uid does.

use crate::model::{CheckSpec, Component, Finding, Timeline, Verdict};

use super::hit::Hit;
use super::redundancy::{Restored, restored};
use super::text::{bound, bound_ms, finding, inconclusive, seconds};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let Some(max_seconds) = bound(spec.max_seconds) else {
        return inconclusive(spec, "maxSeconds is needed");
    };
    let Some(hit) = Hit::of(timeline) else {
        return inconclusive(spec, "no fault was injected");
    };
    let components: Vec<Component> = match spec.component {
        Some(component) => vec![component],
        None => hit.components.iter().copied().collect(),
    };
    let judged: Vec<(Verdict, String)> =
        components.iter().map(|component| one(timeline, &hit, *component, max_seconds)).collect();
    let verdict = Verdict::worst(judged.iter().map(|(verdict, _)| *verdict));
    let reasons: Vec<&str> =
        judged.iter().filter(|(of, _)| *of == verdict).map(|(_, reason)| reason.as_str()).collect();
    let reason = if reasons.is_empty() {
        "no component is named, and none is known to have been hit".to_owned()
    } else {
        reasons.join("; ")
    };
    let complete = components.iter().filter_map(|component| match restored(timeline, &hit, *component) {
        Restored::At(at_ms) => Some(format!("{component}: complete at_ms {at_ms} of timeline.jsonl")),
        _ => None,
    });
    let reasons = judged.iter().map(|(_, reason)| reason.clone());
    finding(spec, verdict, reason).with_evidence(reasons.chain(complete))
}

fn one(timeline: &Timeline, hit: &Hit, component: Component, max_seconds: f64) -> (Verdict, String) {
    match restored(timeline, hit, component) {
        Restored::NotObserved => {
            (Verdict::Inconclusive, format!("nobody counted the members of {component} before and after"))
        }
        Restored::LossNotSeen => (
            Verdict::Inconclusive,
            format!("no member of {component} was seen to go, so none was seen to come back"),
        ),
        Restored::StillLower { have, want } => {
            (Verdict::Fail, format!("{component} still has {have} of {want} members in sync at the end"))
        }
        Restored::At(at_ms) => {
            let after_ms = at_ms.saturating_sub(hit.injection_ms);
            let verdict = if after_ms <= bound_ms(max_seconds) { Verdict::Pass } else { Verdict::Fail };
            let after = seconds(after_ms);
            (
                verdict,
                format!(
                    "{component} was complete {after} after injection, at most {max_seconds} s are allowed"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, Component};

    fn spec() -> CheckSpec {
        CheckSpec { max_seconds: Some(10.0), ..CheckSpec::new(CheckKind::ReplicasRestored) }
    }

    /// A steady stack whose count of PostgreSQL's members only shows what is added.
    fn counts(counts: &[(u64, u32)]) -> Build {
        counts
            .iter()
            .fold(Build::stack_that_notices_nothing(), |build, (at_ms, have)| build.members(*at_ms, *have))
    }

    #[test]
    fn judges_when_every_member_was_back() {
        verdicts(
            &spec(),
            [
                ("back after 6 s", counts(&[(12_300, 2), (18_000, 3)]), Pass),
                ("back after 11 s", counts(&[(12_300, 2), (23_000, 3)]), Fail),
                ("never back", counts(&[(12_300, 2)]), Fail),
                ("gone again at the end", counts(&[(12_300, 2), (18_000, 3), (39_000, 2)]), Fail),
                (
                    "back, gone, back late",
                    counts(&[(12_300, 2), (14_000, 3), (20_000, 2), (30_000, 3)]),
                    Fail,
                ),
                ("nobody noticed", counts(&[]), Inconclusive),
                ("not counted", Build::stack_that_notices_nothing().no_members(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
                ("a fast replacement under a new uid", counts(&[]).replaced(13_400), Pass),
                ("a slow one", counts(&[]).replaced(23_400), Fail),
                (
                    "a replacement that nobody looked after",
                    counts(&[]).replaced(13_400).probes_until(13_400),
                    Inconclusive,
                ),
                ("no fault", counts(&[(12_300, 2), (18_000, 3)]).no_faults(), Inconclusive),
            ],
        );
    }

    #[test]
    fn fewer_wanted_than_before_is_not_restored() {
        let build = Build::stack_that_notices_nothing().members_of(12_300, 2, 2);
        let counted = |counts: &[(u64, u32, u32)]| {
            let quiet = Build::stack_that_notices_nothing();
            counts.iter().fold(quiet, |build, (at_ms, have, want)| build.members_of(*at_ms, *have, *want))
        };
        let replaced = || Build::stack_that_notices_nothing().replaced(13_400);
        verdicts(
            &spec(),
            [
                ("scaled down", build, Fail),
                ("scaled down after a loss", counted(&[(12_300, 2, 3), (14_000, 2, 2)]), Fail),
                (
                    "complete, then scaled down",
                    counted(&[(12_300, 2, 3), (14_000, 3, 3), (30_000, 2, 2)]),
                    Pass,
                ),
                (
                    "complete, scaled down, lost one",
                    counted(&[(12_300, 2, 3), (14_000, 3, 3), (30_000, 2, 2), (31_000, 1, 2)]),
                    Fail,
                ),
                ("replaced, then scaled down", replaced().members_of(30_000, 2, 2), Pass),
                ("scaled down, then replaced", replaced().members_of(12_600, 2, 2), Fail),
            ],
        );
    }

    #[test]
    fn a_component_that_no_fault_hit_proves_nothing() {
        let spec = CheckSpec { component: Some(Component::Redis), ..spec() };
        verdicts(&spec, [("redis", Build::steady().redis_members(), Inconclusive)]);
    }
}
