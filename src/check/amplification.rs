//! `amplification`: a component is not asked more for failing, and not more than its share.
//!
//! Definition: requests that reached the component, by the counters of its callers' proxies (retries included) or, where callers
//! have none, by its own; for each request of users (of `step`, or all). In the window at most `maxRatio` times what it was in the
//! baseline, and at most `maxPerRequest`. Requests that a proxy refused, or had no host for, reached nobody and are not counted.
//! Inconclusive: fewer than [`REQUESTS_MIN`] requests of users in the baseline or the window; fewer calls than that where two
//! ratios are compared, none where one is bounded (a counter that stands still may be dead); or a window in which the
//! counters were not read all the time.

use crate::model::{CheckSpec, Component, ErrorClass, Finding, Timeline, Verdict, Window};

use super::calls::Calls;
use super::degraded::is_of;
use super::looks::Looks;
use super::text::{bound, finding, inconclusive};

const REQUESTS_MIN: u64 = 20;

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let bounds = (bound(spec.max_ratio), bound(spec.max_per_request));
    let (Some(window), Some(component)) = (spec.window, spec.component) else {
        return inconclusive(spec, "window and component are needed");
    };
    if bounds == (None, None) {
        return inconclusive(spec, "maxRatio or maxPerRequest is needed");
    }
    if timeline.faults.is_empty() {
        return inconclusive(spec, "no fault was injected");
    }
    let step = spec.step.as_deref();
    let calls_min = if bounds.0.is_some() { REQUESTS_MIN } else { 1 };
    let name = window.as_str();
    let counters = Counters::of(timeline, component);
    let during = match counters.asked((name, timeline.windows.get(window)), step, calls_min) {
        Ok(during) => during,
        Err(why) => return inconclusive(spec, why),
    };
    let mut parts = Vec::with_capacity(2);
    let mut ratio = None;
    let mut evidence = vec![during.text(name)];
    if let Some(max) = bounds.0 {
        let before = match counters.asked(("baseline", timeline.windows.baseline), step, calls_min) {
            Ok(before) => before,
            Err(why) => return inconclusive(spec, why),
        };
        evidence.insert(0, before.text("baseline"));
        let grown = during.each() / before.each();
        ratio = Some(grown);
        let text =
            format!("{grown:.2} times the baseline's {:.2}; at most {max} times are allowed", before.each());
        parts.push((grown <= max, text));
    }
    if let Some(max) = bounds.1 {
        parts.push((during.each() <= max, format!("at most {max} times are allowed")));
    }
    let verdict = if parts.iter().all(|(kept, _)| *kept) { Verdict::Pass } else { Verdict::Fail };
    let texts: Vec<&str> = parts.iter().map(|(_, text)| text.as_str()).collect();
    let reason = format!(
        "{component} was asked {:.3} times for each request of users ({} for {}), {}",
        during.each(),
        during.calls,
        during.wanted,
        texts.join(", and ")
    );
    finding(spec, verdict, reason)
        .with_evidence(evidence)
        .with_figure("calls_per_request", Some(during.each()))
        .with_figure("ratio_to_baseline", ratio)
}

/// Who counts what reaches a component, and what was counted.
struct Counters<'a> {
    timeline: &'a Timeline,
    who: String,
    looks: Looks,
    calls: Calls<'a>,
}

impl<'a> Counters<'a> {
    fn of(timeline: &'a Timeline, component: Component) -> Self {
        let (probe, who) = if component.counts_itself() {
            (format!("served {component}"), format!("the counters of {component}"))
        } else {
            (format!("breaker {component}"), format!("the callers of {component}"))
        };
        let (looks, calls) = (Looks::of(timeline, &probe), Calls::of(timeline, component));
        Self { timeline, who, looks, calls }
    }

    /// Why there is nothing to judge, when there is not.
    fn asked(
        &self,
        (name, window): (&str, Window),
        step: Option<&str>,
        calls_min: u64,
    ) -> Result<Asked, String> {
        if !self.looks.whole(window.start_ms, window.end_ms) {
            return Err(format!("{} were not read all through the {name}", self.who));
        }
        let (calls, retries) = self.calls.asked(window);
        let wanted = wanted(self.timeline, window, step);
        for (count, min, what) in
            [(wanted, REQUESTS_MIN, "requests of users"), (calls, calls_min, "calls of the component")]
        {
            if count < min {
                return Err(format!("{count} {what} in the {name}, a judgement needs {min}"));
            }
        }
        Ok(Asked { calls, retries, wanted })
    }
}

/// What reached a component in one window.
struct Asked {
    calls: u64,
    retries: u64,
    /// Requests of users, never 0.
    wanted: u64,
}

impl Asked {
    #[allow(clippy::cast_precision_loss)]
    fn each(&self) -> f64 {
        self.calls as f64 / self.wanted as f64
    }

    fn text(&self, name: &str) -> String {
        let Self { calls, retries, wanted } = self;
        format!(
            "{name}: {calls} calls, {retries} of them retries of the mesh, for {wanted} requests of users"
        )
    }
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

    /// So many calls a second, in the fault window so many, each second told by one observation of the count.
    fn counted(probe: &str, calls: u64, in_fault: u64, told: impl Fn(u64) -> Observation) -> Build {
        let mut build = Build::steady().beats(probe, 0, 40_000);
        let mut requests = 0;
        for second in 0..40 {
            requests += if (12..24).contains(&second) { in_fault } else { calls };
            build = build.see(second * 1000 + 900, told(requests));
        }
        build
    }

    /// 50 calls a second, in the fault window so many.
    fn called(in_fault: u64) -> Build {
        counted("breaker inference", 50, in_fault, |requests| Observation::Breaker {
            component: Component::Inference,
            caller: "decision-1".to_owned(),
            counts: BreakerCounts { requests, ..BreakerCounts::default() },
        })
    }

    /// 5 pages fetched from the origin a second, in the fault window so many.
    fn fetched(in_fault: u64) -> Build {
        counted("served frontend", 5, in_fault, |requests| Observation::Served {
            component: Component::Frontend,
            pod: "frontend-1".to_owned(),
            requests,
        })
    }

    #[test]
    fn its_calls_and_their_ratio_are_figures() {
        let figures = |in_fault, spec: &CheckSpec| {
            let figures = called(in_fault).judge(spec).figures;
            figures
                .into_iter()
                .map(|(name, value)| format!("{name} {value:.1}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        // Not 3.0: nobody looked before the baseline began, so that a tenth of its calls is not known.
        assert_eq!(figures(150, &spec()), "calls_per_request 1.5, ratio_to_baseline 3.3");
        let bound = CheckSpec { max_ratio: None, max_per_request: Some(4.0), ..spec() };
        assert_eq!(figures(150, &bound), "calls_per_request 1.5");
        assert_eq!(figures(0, &spec()), "", "nothing to compare");
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
        let both = CheckSpec { max_per_request: Some(0.6), ..spec() };
        verdicts(&both, [("one bound is broken", called(80), Fail), ("neither is", called(60), Pass)]);
    }

    #[test]
    fn an_origin_counts_for_itself_and_is_asked_for_its_share_only() {
        let spec = CheckSpec {
            component: Some(Component::Frontend),
            max_ratio: None,
            max_per_request: Some(0.1),
            ..spec()
        };
        verdicts(
            &spec,
            [
                ("its share", fetched(5), Pass),
                ("every request", fetched(120), Fail),
                ("a counter that stands still", fetched(0), Inconclusive),
                ("half unread", fetched(5).no_beats("served frontend", 13_000, 20_000), Inconclusive),
                ("no users", fetched(5).silence(12_000, 24_000), Inconclusive),
                ("unread", Build::steady(), Inconclusive),
                ("no fault", fetched(5).no_faults(), Inconclusive),
            ],
        );
    }
}
