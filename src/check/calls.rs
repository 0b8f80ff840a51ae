//! What was counted of the calls to one component, by its callers' proxies or by itself, as one story.

use std::collections::BTreeMap;

use crate::model::{BreakerCounts, BreakerRule, Component, Observation, Timeline, Window};

/// One look at one caller. Counts that grew are of the time since the look before at the same caller; a caller's first
/// look tells nothing of what went before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment<'a> {
    pub at_ms: u64,
    pub caller: &'a str,
    /// Hosts left out now, by all callers together.
    pub ejected: u64,
    /// Requests under way from this caller.
    pub active: u64,
    pub hosts: u64,
    pub overflows: u64,
    pub errors: u64,
    pub requests: u64,
    pub retries: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Calls<'a> {
    pub moments: Vec<Moment<'a>>,
    pub rules: Vec<(u64, BreakerRule)>,
}

impl<'a> Calls<'a> {
    pub fn of(timeline: &'a Timeline, component: Component) -> Self {
        let mut calls = Self::default();
        let mut known: BTreeMap<&str, BreakerCounts> = BTreeMap::new();
        for (at_ms, seen) in timeline.observations(0) {
            let (who, counts) = match seen {
                Observation::Breaker { component: of, caller, counts } if *of == component => {
                    (caller, *counts)
                }
                Observation::Served { component: of, pod, requests } if *of == component => {
                    (pod, BreakerCounts { requests: *requests, ..BreakerCounts::default() })
                }
                Observation::BreakerRule { component: of, rule } if *of == component => {
                    calls.rules.push((at_ms, *rule));
                    continue;
                }
                _ => continue,
            };
            let before = known.insert(who, counts);
            let ejected = known.values().map(|counts| counts.ejected).sum();
            calls.moments.push(moment(at_ms, who, before, counts, ejected));
        }
        calls
    }

    pub fn within(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Moment<'a>> {
        self.moments.iter().filter(move |moment| moment.at_ms > from_ms && moment.at_ms <= to_ms)
    }

    /// Requests that the component was asked, retries included, and the retries alone.
    pub fn asked(&self, window: Window) -> (u64, u64) {
        let within = self.within(window.start_ms, window.end_ms);
        within.fold((0, 0), |(all, again), moment| (all + moment.requests, again + moment.retries))
    }

    /// The rule that held at a moment.
    pub fn rule_at(&self, at_ms: u64) -> Option<BreakerRule> {
        self.rules.iter().rev().find(|(since_ms, _)| *since_ms <= at_ms).map(|(_, rule)| *rule)
    }

    /// Most errors of one caller in a span.
    pub fn errors_of_one(&self, from_ms: u64, to_ms: u64) -> u64 {
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        for moment in self.within(from_ms, to_ms) {
            *errors.entry(moment.caller).or_default() += moment.errors;
        }
        errors.into_values().max().unwrap_or(0)
    }
}

fn moment(
    at_ms: u64,
    caller: &str,
    before: Option<BreakerCounts>,
    now: BreakerCounts,
    ejected: u64,
) -> Moment<'_> {
    let grown = |of: fn(&BreakerCounts) -> u64| match before {
        None => 0,
        // A proxy that began anew counts from 0.
        Some(before) if now.requests < before.requests => of(&now),
        Some(before) => of(&now).saturating_sub(of(&before)),
    };
    Moment {
        at_ms,
        caller,
        ejected,
        active: now.active,
        hosts: now.hosts,
        overflows: grown(|counts| counts.overflows),
        errors: grown(|counts| counts.errors),
        requests: grown(|counts| counts.requests),
        retries: grown(|counts| counts.retries),
    }
}

/// The proof that a failing host can be left out, or what must be changed so that it can.
pub(super) fn can_eject(component: Component, rule: BreakerRule, hosts: u64) -> Result<String, String> {
    let percent = rule.ejection_percent_max;
    if rule.errors_in_a_row == 0 {
        return Err(format!(
            "the breaker of {component} cannot open: its DestinationRule has no outlierDetection with \
             consecutive5xxErrors above 0"
        ));
    }
    if hosts == 0 {
        return Err(format!("no caller knew a host of {component} before the injection"));
    }
    if u64::from(percent) * hosts < 100 {
        return Err(format!(
            "the breaker of {component} cannot open: {percent} % of {hosts} hosts are less than one; set \
             outlierDetection.maxEjectionPercent to {} or more",
            100_u64.div_ceil(hosts)
        ));
    }
    Ok(format!(
        "it can open: {} errors in a row, looked at every {} ms, leave a host out for {} ms; at most {percent} % of \
         {hosts} hosts",
        rule.errors_in_a_row, rule.interval_ms, rule.ejection_ms
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Event, Fact};

    fn timeline(looks: &[(u64, &str, u64)]) -> Timeline {
        let events = looks.iter().map(|(at_ms, caller, requests)| Event {
            at_ms: *at_ms,
            fact: Fact::Observed(Observation::Breaker {
                component: Component::Inference,
                caller: (*caller).to_owned(),
                counts: BreakerCounts { requests: *requests, ..BreakerCounts::default() },
            }),
        });
        Timeline { events: events.collect(), ..Timeline::default() }
    }

    #[test]
    fn counters_are_differences_for_each_caller_and_a_restart_begins_anew() {
        let timeline = timeline(&[(1, "a", 100), (2, "b", 7), (3, "a", 110), (4, "a", 4), (5, "b", 9)]);
        let calls = Calls::of(&timeline, Component::Inference);
        let grown: Vec<u64> = calls.moments.iter().map(|moment| moment.requests).collect();
        assert_eq!(grown, [0, 0, 10, 4, 2]);
        assert_eq!(calls.asked(Window { start_ms: 2, end_ms: 4 }).0, 14);
        assert!(Calls::of(&timeline, Component::Decision).moments.is_empty());
    }

    proptest! {
        /// However often somebody looks, what grew in all is what the counter grew by.
        #[test]
        fn looks_add_up(steps in prop::collection::vec(0_u64..1000, 1..50)) {
            let mut count = 5;
            let looks: Vec<(u64, &str, u64)> = steps.iter().zip(1..).map(|(step, at)| {
                count += step;
                (at, "a", count)
            }).collect();
            let timeline = timeline(&looks);
            let calls = Calls::of(&timeline, Component::Inference);
            let all = calls.asked(Window { start_ms: 0, end_ms: 1000 }).0;
            prop_assert_eq!(all, steps.iter().skip(1).sum::<u64>());
        }
    }
}
