//! `alert-fires`: the fault raised this alert, somebody was told, and it is over after the recovery.
//!
//! Definition: the alert *fires* when Prometheus says so of any of its label sets, and *reaches people* when Alertmanager has
//! it; both must be within `maxSeconds` of the first injection. It is *over* when neither has any of it, until the end of the
//! timeline; that must be within `resolvedMaxSeconds` of the last revert. With `component` only label sets with this `app`
//! count. Inconclusive: it fired, or its condition held, at the injection already, so that the fault did not cause it;
//! Prometheus knows no such alert; a server was not asked, or the run ended, before the bound.

use std::collections::BTreeMap;

use crate::model::{AlertState, CheckSpec, Component, Finding, Observation, Timeline, Verdict};

use super::looks::Looks;
use super::text::{Part, bound, bound_ms, inconclusive, of_parts, seconds, texts};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let bounds = (bound(spec.max_seconds), bound(spec.resolved_max_seconds));
    let (Some(alert), (Some(max), Some(resolved_max))) = (&spec.alert, bounds) else {
        return inconclusive(spec, "alert, maxSeconds and resolvedMaxSeconds are needed");
    };
    let Some(injection_ms) = timeline.injection_ms() else {
        return inconclusive(spec, "no fault was injected");
    };
    let told = |by, probe| Told::of(timeline, spec, alert, by, probe, injection_ms);
    let rule = told(Component::Prometheus, PROMETHEUS);
    let people = told(Component::Alertmanager, ALERTMANAGER);
    if let Some(why) = rule.unusable(timeline).or_else(|| people.unusable(timeline)) {
        return inconclusive(spec, why);
    }
    let by_ms = injection_ms.saturating_add(bound_ms(max));
    let mut parts = vec![("fired_ms", rule.fires("fired", by_ms, max))];
    if rule.fired_ms().is_some() {
        parts.push(("notified_ms", people.fires("reached Alertmanager", by_ms, max)));
        parts.push(("resolved_ms", over(timeline, &rule, &people, resolved_max)));
    }
    let baseline = rule.spans.iter().filter(|span| span.0 < injection_ms);
    let earlier = baseline.map(|(from_ms, to_ms)| {
        let to = to_ms.map_or_else(|| "the end".to_owned(), |ms| format!("{ms} ms"));
        format!("it also fired before the injection, from {from_ms} ms to {to}: that is not counted")
    });
    of_parts(spec, alert, &parts).with_evidence(texts(&parts).into_iter().chain(earlier))
}

/// Names of the probes' heartbeats.
const PROMETHEUS: &str = "alerts";
const ALERTMANAGER: &str = "alertmanager";

/// What one server said of the alert.
struct Told {
    by: Component,
    looks: Looks,
    injection_ms: u64,
    /// Every change of the worst state of all label sets.
    states: Vec<(u64, AlertState)>,
    /// When it fired: from, and to when it was over.
    spans: Vec<(u64, Option<u64>)>,
}

impl Told {
    fn of(
        timeline: &Timeline,
        spec: &CheckSpec,
        alert: &str,
        by: Component,
        probe: &str,
        injection_ms: u64,
    ) -> Self {
        let mut sets: BTreeMap<&BTreeMap<String, String>, AlertState> = BTreeMap::new();
        let mut told = Self {
            by,
            looks: Looks::of(timeline, probe),
            injection_ms,
            states: Vec::new(),
            spans: Vec::new(),
        };
        for (at_ms, seen) in timeline.observations(0) {
            let Observation::Alert { by: from, alert: name, labels, state } = seen else { continue };
            let app = labels.get("app").map(String::as_str);
            // That there is such an alert at all is said without labels.
            let meant = spec.component.is_none_or(|component| app == Some(component.as_str()));
            if *from != by || name != alert || !(meant || labels.is_empty()) {
                continue;
            }
            sets.insert(labels, *state);
            told.change(at_ms, sets.values().max().copied().unwrap_or(AlertState::Inactive));
        }
        told
    }

    fn change(&mut self, at_ms: u64, state: AlertState) {
        let before = self.states.last().map(|(_, state)| *state);
        if before == Some(state) {
            return;
        }
        self.states.push((at_ms, state));
        if state == AlertState::Firing {
            self.spans.push((at_ms, None));
        } else if before == Some(AlertState::Firing)
            && let Some(span) = self.spans.last_mut()
        {
            span.1 = Some(at_ms);
        }
    }

    fn unusable(&self, timeline: &Timeline) -> Option<String> {
        let by = self.by;
        if let Some(why) = self.looks.missing(timeline, by.as_str()) {
            return Some(why);
        }
        let at_injection = self.states.iter().rev().find(|(at_ms, _)| *at_ms <= self.injection_ms);
        match at_injection {
            None => Some(format!("{by} knew no such alert before the injection")),
            Some((_, AlertState::Inactive)) => None,
            Some((since_ms, state)) => {
                let word = if *state == AlertState::Firing { "fired" } else { "was about to fire" };
                Some(format!(
                    "it {word} by {by} at the injection, since {since_ms} ms: the fault did not cause it"
                ))
            }
        }
    }

    /// First after the injection.
    fn fired_ms(&self) -> Option<u64> {
        self.spans.iter().map(|(from_ms, _)| *from_ms).find(|from_ms| *from_ms > self.injection_ms)
    }

    fn fires(&self, word: &str, by_ms: u64, max: f64) -> Part {
        let bounds = format!("at most {max} s are allowed");
        match self.fired_ms() {
            Some(at_ms) => {
                let after_ms = at_ms.saturating_sub(self.injection_ms);
                let text = format!("{word} {} after injection, {bounds}", seconds(after_ms));
                Part::measured(self.looks.kept(at_ms, by_ms), after_ms, text)
            }
            None if self.looks.whole(self.injection_ms, by_ms) => {
                Part::new(Verdict::Fail, format!("never {word}, {bounds}"))
            }
            None => {
                let why = format!("was not seen to have {word}, but {} was not asked all the time", self.by);
                Part::new(Verdict::Inconclusive, format!("{why} until {max} s after injection"))
            }
        }
    }

    fn last_over_ms(&self) -> Option<Option<u64>> {
        self.spans.last().map(|(_, to_ms)| *to_ms)
    }
}

/// Both must have let go of it.
fn over(timeline: &Timeline, rule: &Told, people: &Told, max: f64) -> Part {
    let Some(reverted_ms) = timeline.reverted_ms() else {
        return Part::new(Verdict::Inconclusive, "nothing shows that the fault was reverted");
    };
    let by_ms = reverted_ms.saturating_add(bound_ms(max));
    let bounds = format!("at most {max} s are allowed");
    let mut last: Option<(u64, &Told)> = None;
    for told in [rule, people] {
        match told.last_over_ms() {
            Some(None) if told.looks.last_ms().is_some_and(|last| last >= by_ms) => {
                return Part::new(Verdict::Fail, format!("still fired by {} at the end, {bounds}", told.by));
            }
            Some(None) => {
                let text = format!("still fired by {} when the run ended, {max} s were not over", told.by);
                return Part::new(Verdict::Inconclusive, text);
            }
            Some(Some(at_ms)) if last.is_none_or(|(latest_ms, _)| latest_ms < at_ms) => {
                last = Some((at_ms, told));
            }
            _ => {}
        }
    }
    let Some((at_ms, told)) = last else {
        return Part::new(Verdict::Inconclusive, "was never over");
    };
    let after_ms = at_ms.saturating_sub(reverted_ms);
    let text = format!("was over {} after the revert, {bounds}", seconds(after_ms));
    Part::measured(told.looks.kept(at_ms, by_ms), after_ms, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::AlertState::{Firing, Inactive, Pending};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{AlertState, CheckKind, CheckSpec, Component, Observation};

    fn spec() -> CheckSpec {
        CheckSpec {
            alert: Some("PostgresMemberDown".into()),
            max_seconds: Some(10.0),
            resolved_max_seconds: Some(8.0),
            ..CheckSpec::new(CheckKind::AlertFires)
        }
    }

    fn says(build: Build, at_ms: u64, by: Component, app: Option<&str>, state: AlertState) -> Build {
        let labels = app.map(|app| ("app".to_owned(), app.to_owned())).into_iter().collect();
        build.see(at_ms, Observation::Alert { by, alert: "PostgresMemberDown".into(), labels, state })
    }

    fn both(build: Build, at_ms: u64, state: AlertState) -> Build {
        let build = says(build, at_ms, Component::Prometheus, Some("postgres"), state);
        // Alertmanager never hears of what is only pending.
        if state == Pending {
            build
        } else {
            says(build, at_ms + 400, Component::Alertmanager, Some("postgres"), state)
        }
    }

    /// Watched, known, and silent.
    fn known() -> Build {
        let build = Build::steady().beats("alerts", 0, 40_000).beats("alertmanager", 0, 40_000);
        let build = says(build, 100, Component::Prometheus, None, Inactive);
        says(build, 100, Component::Alertmanager, None, Inactive)
    }

    fn story(fires_ms: u64, over_ms: u64) -> Build {
        let build = both(known(), fires_ms.saturating_sub(3_000), Pending);
        both(both(build, fires_ms, Firing), over_ms, Inactive)
    }

    #[test]
    fn it_fires_after_the_injection_and_is_over_after_the_revert() {
        let unheard = || {
            let build = says(known(), 16_000, Component::Prometheus, Some("postgres"), Firing);
            says(build, 26_000, Component::Prometheus, Some("postgres"), Inactive)
        };
        verdicts(
            &spec(),
            [
                ("it fires and resolves", story(16_000, 26_000), Pass),
                ("over before the revert", story(16_000, 20_000), Pass),
                ("too late", story(22_600, 26_000), Fail),
                ("never", known(), Fail),
                ("pending only", both(known(), 14_000, Pending), Fail),
                ("nobody was told", unheard(), Fail),
                ("over too late", story(16_000, 33_000), Fail),
                ("never over", both(known(), 16_000, Firing), Fail),
                ("again at the end", both(story(16_000, 26_000), 30_000, Firing), Fail),
                ("fired and over before the fault", both(story(4_000, 6_000), 15_000, Pending), Fail),
                ("fired at the injection", story(10_000, 26_000), Inconclusive),
                ("pending at the injection", story(14_000, 26_000), Inconclusive),
                ("not reverted", story(16_000, 26_000).fault(|fault| fault.reverted_ms = None), Inconclusive),
                ("no fault", story(16_000, 26_000).no_faults(), Inconclusive),
                (
                    "an unknown alert",
                    Build::steady().beats("alerts", 0, 40_000).beats("alertmanager", 0, 40_000),
                    Inconclusive,
                ),
                ("nobody looked", Build::steady(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }

    #[test]
    fn its_times_are_figures() {
        let figures = |build: Build| format!("{:?}", build.judge(&spec()).figures);
        let whole = r#"{"fired_ms": 4000.0, "notified_ms": 4400.0, "resolved_ms": 2400.0}"#;
        assert_eq!(figures(story(16_000, 26_000)), whole);
        assert_eq!(figures(both(known(), 16_000, Firing)), r#"{"fired_ms": 4000.0, "notified_ms": 4400.0}"#);
        assert_eq!(figures(known()), "{}");
    }

    #[test]
    fn a_run_that_ends_or_a_server_that_is_away_too_early_proves_nothing() {
        let cut = |build: Build| build.no_beats("alerts", 20_000, 25_000).no_beats("alerts", 13_000, 19_000);
        verdicts(&spec(), [("not asked while it should have fired", cut(known()), Inconclusive)]);
        let longer = CheckSpec { max_seconds: Some(60.0), ..spec() };
        verdicts(&longer, [("the run is shorter than the bound", known(), Inconclusive)]);
        let patient = CheckSpec { resolved_max_seconds: Some(60.0), ..spec() };
        verdicts(&patient, [("not over yet", both(known(), 16_000, Firing), Inconclusive)]);
    }

    #[test]
    fn only_the_component_that_was_named_counts() {
        let of = |component| CheckSpec { component: Some(component), ..spec() };
        verdicts(&of(Component::Postgres), [("its own", story(16_000, 26_000), Pass)]);
        verdicts(&of(Component::Redis), [("another's", story(16_000, 26_000), Fail)]);
        let without = CheckSpec { alert: None, ..spec() };
        verdicts(&without, [("no name", story(16_000, 26_000), Inconclusive)]);
    }
}
