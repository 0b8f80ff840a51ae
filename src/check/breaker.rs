//! `breaker`: the calls to a component are cut off while it fails, and come back when it is whole again.
//!
//! Definition, by the callers' proxies. By `ejection` the breaker is *open* while any of them leaves a host out; by `overflow`
//! while any of them refuses what its pool does not take. It must open within `opensWithinSeconds` of the first injection and
//! be closed for good within `closesWithinSeconds` of the last revert, and requests must go through it afterwards: that first
//! traffic is the only half-open state there is.
//!
//! Before anything is judged it is proven that the breaker *can* open: that the mesh's rule, and the number of hosts, allow it.
//! Inconclusive: it cannot; it was open before; too few errors, or requests, were seen to open anything; nobody looked. A breaker
//! that did not open fails only when one caller alone saw [`PROOF`] times as many errors as it takes in a row (the fault must
//! make a host fail altogether), or had more requests under way than the pool takes.

use crate::model::{CheckSpec, Component, Finding, Timeline, TripsBy, Verdict};

use super::calls::{Calls, Moment, can_eject};
use super::looks::Looks;
use super::text::{Part, bound, bound_ms, inconclusive, of_parts, seconds, texts};

/// Errors in a row are not counted by a proxy in a way that can be read: so many times as many are proof enough.
const PROOF: u64 = 3;
/// From the rule in the API to the proxies that follow it.
const PROPAGATION_MS: u64 = 5_000;

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let bounds = (bound(spec.opens_within_seconds), bound(spec.closes_within_seconds));
    let (Some(component), (Some(opens), Some(closes))) = (spec.component, bounds) else {
        return inconclusive(spec, "component, opensWithinSeconds and closesWithinSeconds are needed");
    };
    let Some(injection_ms) = timeline.injection_ms() else {
        return inconclusive(spec, "no fault was injected");
    };
    let story = Story {
        by: spec.by.unwrap_or_default(),
        component,
        calls: Calls::of(timeline, component),
        looks: Looks::of(timeline, &format!("breaker {component}")),
        injection_ms,
        fault_end_ms: timeline.windows.fault.end_ms,
    };
    if let Some(why) = story.looks.missing(timeline, &format!("the callers of {component}")) {
        return inconclusive(spec, why);
    }
    let can = match story.can_open() {
        Ok(can) => can,
        Err(why) => return inconclusive(spec, why),
    };
    if let Some(moment) = story.open().find(|moment| moment.at_ms <= injection_ms) {
        let why =
            format!("it was open before the injection, at {} ms: the fault did not open it", moment.at_ms);
        return inconclusive(spec, why);
    }
    let mut parts = vec![("opened_ms", story.opened(opens))];
    if parts[0].1.figure.is_some() {
        parts.push(("closed_ms", story.closed(timeline, closes)));
    }
    let evidence = [can].into_iter().chain(texts(&parts)).chain(story.turns());
    of_parts(spec, &format!("the breaker of {component}"), &parts).with_evidence(evidence)
}

struct Story<'a> {
    by: TripsBy,
    component: Component,
    calls: Calls<'a>,
    looks: Looks,
    injection_ms: u64,
    fault_end_ms: u64,
}

impl Story<'_> {
    fn is_open(&self, moment: &Moment) -> bool {
        match self.by {
            TripsBy::Ejection => moment.ejected > 0,
            TripsBy::Overflow => moment.overflows > 0,
        }
    }

    fn open(&self) -> impl Iterator<Item = &Moment<'_>> {
        self.calls.moments.iter().filter(|moment| self.is_open(moment))
    }

    /// The proof that it can open, or what must be changed so that it can.
    fn can_open(&self) -> Result<String, String> {
        let component = self.component;
        match self.by {
            TripsBy::Ejection => {
                let rule = self.calls.rule_at(self.injection_ms);
                let rule = rule.ok_or_else(|| format!("no DestinationRule of {component} was seen"))?;
                let before = self.calls.within(0, self.injection_ms);
                can_eject(component, rule, before.map(|moment| moment.hosts).max().unwrap_or(0))
            }
            TripsBy::Overflow => {
                let rule = self.calls.rule_at(self.fault_end_ms);
                let rule = rule.ok_or_else(|| format!("no DestinationRule of {component} was seen"))?;
                let (connections, pending) = (rule.connections_max, rule.pending_max);
                if connections.is_none() && pending.is_none() {
                    return Err(format!(
                        "the pool of {component} has no bound: set connectionPool.tcp.maxConnections or \
                         http.http1MaxPendingRequests of its DestinationRule"
                    ));
                }
                let number =
                    |bound: Option<u32>| bound.map_or("any number".to_owned(), |max| max.to_string());
                Ok(format!(
                    "it can open: the pool takes {} connections and {} waiting requests of each caller",
                    number(connections),
                    number(pending)
                ))
            }
        }
    }

    fn opened(&self, opens: f64) -> Part {
        let by_ms = self.injection_ms.saturating_add(bound_ms(opens));
        let bounds = format!("at most {opens} s are allowed");
        if let Some(first) = self.open().find(|moment| moment.at_ms > self.injection_ms) {
            let after_ms = first.at_ms.saturating_sub(self.injection_ms);
            let what = match self.by {
                TripsBy::Ejection => format!("{} of {} hosts left out", first.ejected, first.hosts),
                TripsBy::Overflow => format!("{} requests refused", first.overflows),
            };
            let (after, by) = (seconds(after_ms), &first.caller);
            let text = format!("opened {after} after injection ({what} by {by}), {bounds}");
            return Part::measured(self.looks.kept(first.at_ms, by_ms), after_ms, text);
        }
        let (verdict, text) = match self.should_have_opened(by_ms) {
            Err(why) => (Verdict::Inconclusive, format!("was not seen to open, but {why}")),
            Ok(_) if !self.looks.whole(self.injection_ms, by_ms) => (
                Verdict::Inconclusive,
                format!(
                    "was not seen to open, but nobody looked all the time until {opens} s after injection"
                ),
            ),
            Ok(why) => (Verdict::Fail, format!("never opened although {why}, {bounds}")),
        };
        Part::new(verdict, text)
    }

    /// What should have opened it, or why nothing should have.
    fn should_have_opened(&self, by_ms: u64) -> Result<String, String> {
        let asked: u64 = self.calls.within(self.injection_ms, by_ms).map(|moment| moment.requests).sum();
        let component = self.component;
        if asked == 0 {
            return Err(format!("{component} was not called either"));
        }
        let Some(rule) = self.calls.rule_at(self.fault_end_ms) else {
            return Err("its rule is gone".to_owned());
        };
        match self.by {
            TripsBy::Ejection => {
                let errors = self.calls.errors_of_one(self.injection_ms, by_ms);
                let enough = u64::from(rule.errors_in_a_row) * PROOF;
                if errors < enough {
                    return Err(format!(
                        "no caller saw more than {errors} errors of {component}; {enough} are proof, {} in a row \
                         open it",
                        rule.errors_in_a_row
                    ));
                }
                Ok(format!("one caller alone saw {errors} errors of {component}"))
            }
            TripsBy::Overflow => {
                let tiny_ms = self.calls.rules.last().map_or(self.injection_ms, |(at_ms, _)| *at_ms);
                let from_ms = tiny_ms.max(self.injection_ms) + PROPAGATION_MS;
                let most = self.calls.within(from_ms, self.fault_end_ms).map(|moment| moment.active).max();
                let takes = u64::from(rule.connections_max.unwrap_or(u32::MAX));
                match most {
                    Some(most) if most > takes => Ok(format!(
                        "{most} requests were under way from one caller, and its pool takes {takes}"
                    )),
                    _ => Err("nothing shows that more was wanted at once than the pool takes".to_owned()),
                }
            }
        }
    }

    fn closed(&self, timeline: &Timeline, closes: f64) -> Part {
        let Some(reverted_ms) = timeline.reverted_ms() else {
            return Part::new(Verdict::Inconclusive, "opened, but nothing shows that the fault was reverted");
        };
        let by_ms = reverted_ms.saturating_add(bound_ms(closes));
        let bounds = format!("at most {closes} s are allowed");
        let moments = &self.calls.moments;
        let Some(last) = moments.iter().rposition(|moment| self.is_open(moment)) else {
            return Part::new(Verdict::Inconclusive, "was not seen open");
        };
        // Who refuses at one look may have stopped at once; who is left out is so until a look says otherwise.
        let over_ms = match self.by {
            TripsBy::Ejection => moments.get(last + 1).map(|moment| moment.at_ms),
            TripsBy::Overflow => Some(moments[last].at_ms),
        };
        let Some(over_ms) = over_ms else {
            let late = self.looks.last_ms().is_some_and(|last_ms| last_ms >= by_ms);
            return if late {
                Part::new(Verdict::Fail, format!("was still open at the end, {bounds}"))
            } else {
                let why = format!("was still open when the run ended, {closes} s were not over");
                Part::new(Verdict::Inconclusive, why)
            };
        };
        let after_ms = over_ms.saturating_sub(reverted_ms);
        let text = format!("closed {} after the revert, {bounds}", seconds(after_ms));
        let kept = self.looks.kept(over_ms, by_ms);
        if kept != Verdict::Pass {
            return Part::measured(kept, after_ms, text);
        }
        let from_ms = over_ms.max(reverted_ms);
        let through: u64 = moments.iter().filter(|one| one.at_ms > from_ms).map(|one| one.requests).sum();
        if through == 0 {
            return Part::new(Verdict::Inconclusive, "closed, but no request went through it afterwards");
        }
        Part::measured(kept, after_ms, format!("{text}; {through} requests went through it since"))
    }

    /// Closed → open → closed, as often as it was.
    fn turns(&self) -> Vec<String> {
        let mut turns = Vec::new();
        let mut open = false;
        for moment in &self.calls.moments {
            if self.is_open(moment) != open {
                open = !open;
                let word = if open { "open" } else { "closed" };
                turns.push(format!(
                    "{} ms: {word} ({}, {} left out)",
                    moment.at_ms, moment.caller, moment.ejected
                ));
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{BreakerCounts, BreakerRule, CheckKind, CheckSpec, Component, Observation, TripsBy};

    fn spec() -> CheckSpec {
        CheckSpec {
            component: Some(Component::Inference),
            opens_within_seconds: Some(6.0),
            closes_within_seconds: Some(10.0),
            ..CheckSpec::new(CheckKind::Breaker)
        }
    }

    const RULE: BreakerRule = BreakerRule {
        errors_in_a_row: 5,
        interval_ms: 1000,
        ejection_ms: 5000,
        ejection_percent_max: 100,
        connections_max: Some(1024),
        pending_max: Some(512),
    };

    fn rule(build: Build, at_ms: u64, rule: BreakerRule) -> Build {
        build.see(at_ms, Observation::BreakerRule { component: Component::Inference, rule })
    }

    /// Looked at once a second: ten requests each; `of` says what else a second had.
    fn counted(build: Build, of: impl Fn(u64, &mut BreakerCounts)) -> Build {
        let mut counts = BreakerCounts { hosts: 2, ..BreakerCounts::default() };
        let mut build = build.beats("breaker inference", 0, 40_000);
        for second in 0..40 {
            counts.requests += 10;
            of(second, &mut counts);
            let seen =
                Observation::Breaker { component: Component::Inference, caller: "gateway-1".into(), counts };
            build = build.see(second * 1000 + 400, seen);
        }
        build
    }

    fn with_rule(of: impl Fn(u64, &mut BreakerCounts)) -> Build {
        counted(rule(Build::steady(), 100, RULE), of)
    }

    /// Errors from 13 s on, a host left out in these seconds.
    fn ejected(seconds: std::ops::Range<u64>) -> Build {
        with_rule(move |second, counts| {
            counts.errors += if (13..24).contains(&second) { 5 } else { 0 };
            counts.ejected = u64::from(seconds.contains(&second));
        })
    }

    #[test]
    fn it_opens_and_closes_in_time_and_is_used_again() {
        let silent = |from: u64| {
            with_rule(move |second, counts| {
                counts.ejected = u64::from((15..26).contains(&second));
                counts.requests -= if second >= from { 10 } else { 0 };
            })
        };
        verdicts(
            &spec(),
            [
                ("it opens and closes", ejected(15..26), Pass),
                ("closes before the revert", ejected(15..20), Pass),
                ("opens too late", ejected(21..26), Fail),
                ("closes too late", ejected(15..38), Fail),
                ("stays open", ejected(15..40), Fail),
                ("never opens", ejected(0..0), Fail),
                ("never opens, and nothing failed", with_rule(|_, _| ()), Inconclusive),
                ("was open before", ejected(10..26), Inconclusive),
                ("nobody uses it afterwards", silent(25), Inconclusive),
                ("not reverted", ejected(15..26).fault(|fault| fault.reverted_ms = None), Inconclusive),
                ("nobody looked", Build::steady(), Inconclusive),
                ("no fault", ejected(15..26).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let figures = |build: Build| format!("{:?}", build.judge(&spec()).figures);
        assert_eq!(figures(ejected(15..26)), r#"{"closed_ms": 2400.0, "opened_ms": 3400.0}"#);
        assert_eq!(figures(ejected(15..40)), r#"{"opened_ms": 3400.0}"#, "it never closed");
        assert_eq!(figures(ejected(0..0)), "{}", "it never opened");
        let shorter = CheckSpec { closes_within_seconds: Some(60.0), ..spec() };
        verdicts(&shorter, [("the run ends while it is open", ejected(15..40), Inconclusive)]);
    }

    #[test]
    fn a_breaker_that_cannot_open_is_not_judged_and_the_number_is_named() {
        let ruled = |change: fn(&mut BreakerRule)| {
            let mut other = RULE;
            change(&mut other);
            counted(rule(Build::steady(), 100, other), |_, counts| counts.errors += 5)
        };
        verdicts(
            &spec(),
            [
                ("10 % of two", ruled(|rule| rule.ejection_percent_max = 10), Inconclusive),
                ("no outlier detection", ruled(|rule| rule.errors_in_a_row = 0), Inconclusive),
                ("no rule", counted(Build::steady(), |_, _| ()), Inconclusive),
            ],
        );
        let finding = ruled(|rule| rule.ejection_percent_max = 10).judge(&spec());
        assert!(
            finding.reason.ends_with("set outlierDetection.maxEjectionPercent to 50 or more"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_pool_that_is_full_refuses_and_takes_again() {
        let spec = CheckSpec { by: Some(TripsBy::Overflow), ..spec() };
        let tiny = BreakerRule { connections_max: Some(1), pending_max: Some(1), ..RULE };
        let unbounded = BreakerRule { connections_max: None, pending_max: None, ..RULE };
        let pool = |of: fn(u64, &mut BreakerCounts), tiny| {
            counted(rule(rule(Build::steady(), 100, RULE), 12_500, tiny), of)
        };
        let refused: fn(u64, &mut BreakerCounts) =
            |second, counts| counts.overflows += if (14..25).contains(&second) { 3 } else { 0 };
        verdicts(
            &spec,
            [
                ("it refuses and takes again", pool(refused, tiny), Pass),
                ("the bound does not bind", pool(|_, counts| counts.active = 9, tiny), Fail),
                ("it goes on refusing", pool(|second, counts| counts.overflows += second / 14, tiny), Fail),
                ("too little is wanted", pool(|_, _| (), tiny), Inconclusive),
                ("no bound", pool(refused, unbounded), Inconclusive),
                ("it refused before", pool(|_, counts| counts.overflows += 1, tiny), Inconclusive),
            ],
        );
    }
}
