//! Whether a stop condition is broken, from the events since the fault window began. Pure, and no judgement of the stack:
//! it only says that it was hurt enough.

use std::collections::BTreeMap;

use crate::model::{Component, Event, Fact, LoadSecond, Observation, StopCondition, StopKind};

/// The first condition that is broken now, and how. `events` begin with the fault window, at `from_ms`.
#[must_use]
pub fn broken(conditions: &[StopCondition], events: &[Event], from_ms: u64) -> Option<String> {
    conditions.iter().enumerate().find_map(|(i, condition)| {
        let why = match condition.check {
            StopKind::ErrorRate => error_rate(condition, events, from_ms),
            StopKind::Latency => latency(condition, events, from_ms),
            StopKind::LostLeader => lost_leader(condition, events),
        };
        why.map(|why| format!("stopWhen[{i}] ({}): {why}", condition.describe()))
    })
}

fn error_rate(condition: &StopCondition, events: &[Event], from_ms: u64) -> Option<String> {
    let max = condition.max_percent?;
    let share = |second: &LoadSecond| {
        let bad = second.failed + second.indeterminate;
        bad as f64 * 100.0 / (bad + second.ok) as f64
    };
    let least = in_a_row(condition.for_seconds, events, from_ms, |second| {
        Some(share(second)).filter(|share| *share > max)
    })?;
    Some(format!("in each of {} s at least {least:.1} % of the requests were not ok", condition.for_seconds))
}

fn latency(condition: &StopCondition, events: &[Event], from_ms: u64) -> Option<String> {
    let (quantile, max) = (condition.quantile?, condition.max_ms?);
    let least = in_a_row(condition.for_seconds, events, from_ms, |second| {
        let us = if quantile < 0.9 { second.p50_us } else { second.p99_us };
        Some(us as f64 / 1000.0).filter(|ms| *ms > max)
    })?;
    Some(format!("in each of {} s the quantile was at least {least:.0} ms", condition.for_seconds))
}

/// The mildest of the last `wanted` seconds when all of them are broken. A second in which the generator was short, or in
/// which nothing was answered, says nothing: it is not counted, and does not end the row.
fn in_a_row(
    wanted: u32,
    events: &[Event],
    from_ms: u64,
    broken: impl Fn(&LoadSecond) -> Option<f64>,
) -> Option<f64> {
    let seconds = events.iter().rev().filter_map(|event| match &event.fact {
        Fact::Load(second) => Some(second),
        _ => None,
    });
    let tells = |second: &&LoadSecond| {
        !second.generator_limited && second.ok + second.failed + second.indeterminate > 0
    };
    let mut counted = 0;
    let mut least = f64::INFINITY;
    for second in seconds.take_while(|second| second.at_ms >= from_ms).filter(tells) {
        least = least.min(broken(second)?);
        counted += 1;
        if counted == wanted {
            return Some(least);
        }
    }
    None
}

/// By the probe's own word, and only as far as it has looked: one that hangs proves nothing.
fn lost_leader(condition: &StopCondition, events: &[Event]) -> Option<String> {
    let wanted: Component = condition.component?;
    let mut without: BTreeMap<&str, u64> = BTreeMap::new();
    let mut looked_ms = 0;
    for event in events {
        match &event.fact {
            Fact::Observed(Observation::Leader { component, scope, leader, .. }) if *component == wanted => {
                if leader.is_some() {
                    without.remove(scope.as_str());
                } else {
                    without.entry(scope).or_insert(event.at_ms);
                }
            }
            Fact::Observed(Observation::Heartbeat { probe }) if *probe == wanted.as_str() => {
                looked_ms = event.at_ms;
            }
            _ => {}
        }
    }
    let longest = without.into_iter().min_by_key(|(_, since_ms)| *since_ms);
    let (scope, since_ms) = longest?;
    let lost_ms = looked_ms.saturating_sub(since_ms);
    let long = lost_ms >= u64::from(condition.for_seconds) * 1000;
    long.then(|| format!("{wanted} {scope} has had no leader for {:.1} s", lost_ms as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_MS: u64 = 10_000;

    fn condition(yaml: &str) -> StopCondition {
        let one: StopCondition = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
        assert_eq!(one.problem(), None);
        one
    }

    /// A letter a second: `.` good, `x` all failed, `h` half failed, `s` slow, `l` all failed with a generator that is
    /// short, `-` nothing answered.
    fn seconds(letters: &str) -> Vec<Event> {
        let second = |(i, letter): (usize, char)| {
            let at_ms = FROM_MS + i as u64 * 1000;
            let (ok, failed, p99_us) = match letter {
                'x' | 'l' => (0, 50, 20_000),
                'h' => (25, 25, 20_000),
                's' => (50, 0, 3_000_000),
                '-' => (0, 0, 0),
                _ => (50, 0, 20_000),
            };
            let second = LoadSecond {
                at_ms,
                ok,
                failed,
                p50_us: p99_us / 2,
                p99_us,
                generator_limited: letter == 'l',
                ..LoadSecond::default()
            };
            Event { at_ms: at_ms + 1000, fact: Fact::Load(second) }
        };
        letters.chars().enumerate().map(second).collect()
    }

    #[test]
    fn seconds_of_the_load() {
        let errors = condition("{check: error-rate, maxPercent: 50, forSeconds: 3}");
        let slow = condition("{check: latency, quantile: 0.99, maxMs: 2000, forSeconds: 3}");
        let median = condition("{check: latency, quantile: 0.5, maxMs: 1400, forSeconds: 2}");
        for (letters, condition, wanted) in [
            ("", &errors, false),
            ("......", &errors, false),
            ("..xx", &errors, false),
            ("..xxx", &errors, true),
            ("xxx.", &errors, false),
            ("xx.xx", &errors, false),
            ("hhhhh", &errors, false),
            ("lllll", &errors, false),
            ("-----", &errors, false),
            ("xlx-x", &errors, true),
            ("xlxlllll", &errors, false),
            ("sssss", &errors, false),
            ("..sss", &slow, true),
            ("..ss", &slow, false),
            ("xxxxx", &slow, false),
            ("ss", &median, true),
            ("s.", &median, false),
        ] {
            let said = broken(std::slice::from_ref(condition), &seconds(letters), FROM_MS);
            assert_eq!(said.is_some(), wanted, "{letters}: {said:?}");
        }
        // What was before the fault window is not counted.
        assert_eq!(broken(std::slice::from_ref(&errors), &seconds("xxx"), FROM_MS + 1), None);
        let said = broken(&[slow, errors], &seconds("..xxx"), FROM_MS).unwrap();
        insta::assert_snapshot!(said, @"stopWhen[1] (error-rate above 50 % for 3 s): in each of 3 s at least 100.0 % of the requests were not ok");
    }

    #[test]
    fn a_leader_is_lost_as_far_as_its_probe_has_looked() {
        let leader = |at_ms, scope: &str, leader: Option<&str>| {
            let (component, leader) = (Component::Postgres, leader.map(str::to_owned));
            let seen = Observation::Leader { component, scope: scope.to_owned(), leader, epoch: None };
            Event { at_ms, fact: Fact::Observed(seen) }
        };
        let beat = |at_ms, probe: &str| {
            let seen = Observation::Heartbeat { probe: probe.to_owned() };
            Event { at_ms, fact: Fact::Observed(seen) }
        };
        let lost = condition("{check: lost-leader, component: postgres, forSeconds: 5}");
        let said = |events: &[Event]| broken(std::slice::from_ref(&lost), events, 0);
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[leader(1000, "a", None), beat(5900, "postgres")]), None, "not long enough");
        assert_eq!(said(&[leader(1000, "a", None), beat(9000, "redis")]), None, "another probe");
        assert_eq!(
            said(&[leader(1000, "a", None), leader(9000, "a", Some("p-1")), beat(9000, "postgres")]),
            None
        );
        let told = said(&[leader(1000, "a", None), leader(2000, "b", Some("p-1")), beat(6200, "postgres")]);
        insta::assert_snapshot!(told.unwrap(), @"stopWhen[0] (lost-leader of postgres for 5 s): postgres a has had no leader for 5.2 s");
    }
}
