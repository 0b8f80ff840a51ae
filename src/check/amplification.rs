//! `amplification`: a component that fails is not asked more for failing.
//!
//! Definition: requests that reached the component, by the counters of its callers' proxies (retries included), for each
//! request of users (of `step`, or all); in the window at most `maxRatio` times what it was in the baseline. Requests that a proxy
//! refused, or had no host for, reached nobody and are not counted. Inconclusive: fewer than [`REQUESTS_MIN`] requests of
//! users or calls in the baseline or the window, or a window in which the proxies were not read all the time.

use crate::model::{CheckSpec, ErrorClass, Finding, Timeline, Verdict, Window};

use super::calls::Calls;
use super::degraded::is_of;
use super::looks::Looks;
use super::text::{bound, finding, inconclusive};

const REQUESTS_MIN: u64 = 20;

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let (Some(window), Some(component), Some(max)) = (spec.window, spec.component, bound(spec.max_ratio))
    else {
        return inconclusive(spec, "window, component and maxRatio are needed");
    };
    if timeline.faults.is_empty() {
        return inconclusive(spec, "no fault was injected");
    }
    let calls = Calls::of(timeline, component);
    let looks = Looks::of(timeline, &format!("breaker {component}"));
    let mut ratios = Vec::with_capacity(2);
    let mut evidence = Vec::with_capacity(2);
    for (name, window) in
        [("baseline", timeline.windows.baseline), (window.as_str(), timeline.windows.get(window))]
    {
        if !looks.whole(window.start_ms, window.end_ms) {
            return inconclusive(
                spec,
                format!("the callers of {component} were not read all through the {name}"),
            );
        }
        let (asked, again) = calls.asked(window);
        let wanted = wanted(timeline, window, spec.step.as_deref());
        for (count, what) in [(wanted, "requests of users"), (asked, "calls of the component")] {
            if count < REQUESTS_MIN {
                return inconclusive(
                    spec,
                    format!("{count} {what} in the {name}, a judgement needs {REQUESTS_MIN}"),
                );
            }
        }
        #[allow(clippy::cast_precision_loss)]
        let ratio = asked as f64 / wanted as f64;
        evidence.push(format!(
            "{name}: {asked} calls, {again} of them retries of the mesh, for {wanted} requests of users"
        ));
        ratios.push(ratio);
    }
    let [before, during] = ratios[..] else { return inconclusive(spec, "a window is missing") };
    let grown = during / before;
    let verdict = if grown <= max { Verdict::Pass } else { Verdict::Fail };
    let reason = format!(
        "{component} was asked {during:.2} times for each request of users, {grown:.2} times the baseline's {before:.2}; at \
         most {max} times are allowed"
    );
    finding(spec, verdict, reason).with_evidence(evidence)
}

/// Requests of users that left the generator.
fn wanted(timeline: &Timeline, window: Window, step: Option<&str>) -> u64 {
    let all = timeline.operations_in(window).filter(|one| step.is_none_or(|step| is_of(one, step)));
    all.filter(|one| !one.error.is_some_and(ErrorClass::is_generators_own)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{BreakerCounts, CheckKind, CheckSpec, Component, Observation, WindowName};

    fn spec() -> CheckSpec {
        CheckSpec {
            window: Some(WindowName::Fault),
            component: Some(Component::Inference),
            max_ratio: Some(1.5),
            ..CheckSpec::new(CheckKind::Amplification)
        }
    }

    /// 50 calls a second, in the fault window so many.
    fn called(in_fault: u64) -> Build {
        let mut build = Build::steady().beats("breaker inference", 0, 40_000);
        let mut counts = BreakerCounts::default();
        for second in 0..40 {
            counts.requests += if (12..24).contains(&second) { in_fault } else { 50 };
            let caller = "decision-1".to_owned();
            build = build.see(
                second * 1000 + 900,
                Observation::Breaker { component: Component::Inference, caller, counts },
            );
        }
        build
    }

    #[test]
    fn calls_for_each_request_of_users_against_the_baseline() {
        let unread = called(50).no_beats("breaker inference", 13_000, 20_000);
        verdicts(
            &spec(),
            [
                ("as before", called(50), Pass),
                ("a few retries", called(60), Pass),
                ("three times as many", called(150), Fail),
                ("it is away, and nobody reaches it", called(0), Inconclusive),
                ("no users", called(50).silence(12_000, 24_000), Inconclusive),
                ("half unread", unread, Inconclusive),
                ("unread", Build::steady(), Inconclusive),
                ("no fault", called(50).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let of_none = CheckSpec { step: Some("nothing".into()), ..spec() };
        verdicts(&of_none, [("no such step", called(50), Inconclusive)]);
        verdicts(&CheckSpec { max_ratio: None, ..spec() }, [("no bound", called(50), Inconclusive)]);
    }
}
