//! The steady state as a gate: no steady baseline, no injection.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Component, Experiment, Finding, Observation, Timeline, Verdict, Window};

const ERROR_PERCENT_MAX: f64 = 1.0;

/// Whether the stack is steady enough to be broken. Passes only when, in the window:
/// the load reached its floor and the generator was not its own limit (see [`crate::model::Samples::unusable`]),
/// at most 1 % of the requests were not ok in the worst reading, every probe that ever looked has looked (and at least one),
/// every counted component had all of its members throughout, every component that a fault will hit is counted,
/// no node is not Ready and no leadership is empty at its end. Never a fail: nothing was broken yet.
#[must_use]
pub fn baseline(experiment: &Experiment, timeline: &Timeline, window: Window) -> Finding {
    let samples = timeline.samples(window);
    let percent = samples.all.error_share() * 100.0;
    let mut problems: Vec<String> = samples.unusable(experiment.load.requests_min).into_iter().collect();
    if percent > ERROR_PERCENT_MAX {
        problems.push(format!(
            "{percent:.2} % of requests were not ok ({} of {}), at most {ERROR_PERCENT_MAX} % are steady",
            samples.all.errors, samples.all.requests
        ));
    }
    problems.extend(silent_probes(timeline, window));
    problems.extend(members_missing(experiment, timeline, window));
    problems.extend(not_ready_at_end(timeline, window));
    match problems.first() {
        None => Finding::new(
            "steady-state",
            Verdict::Pass,
            format!("{} requests, {percent:.2} % not ok, every member there", samples.all.requests),
        ),
        Some(first) => Finding::new("steady-state", Verdict::Inconclusive, format!("not steady: {first}"))
            .with_evidence(problems.clone()),
    }
}

/// Probes that have looked at any time but not in the window; or the lack of any.
pub(super) fn silent_probes(timeline: &Timeline, window: Window) -> Vec<String> {
    let beats = timeline.observations(0).filter_map(|(at_ms, observation)| match observation {
        Observation::Heartbeat { probe } if at_ms < window.end_ms => Some((at_ms, probe)),
        _ => None,
    });
    let (mut known, mut looked) = (BTreeSet::new(), BTreeSet::new());
    for (at_ms, probe) in beats {
        known.insert(probe);
        if window.contains_ms(at_ms) {
            looked.insert(probe);
        }
    }
    if known.is_empty() {
        return vec!["no probe looked at the stack".to_owned()];
    }
    known.difference(&looked).map(|probe| format!("probe {probe} was silent")).collect()
}

/// What was counted of one component so far.
#[derive(Default)]
struct Members {
    have: u32,
    want: u32,
    /// As many as were wanted when all of them were there last.
    complete: Option<u32>,
    lacked: bool,
}

impl Members {
    /// A member that an autoscaler adds is not missed before it was there once; one that went is.
    fn count(&mut self, have: u32, want: u32, in_window: bool) {
        let lacks = have < self.complete.map_or(want, |complete| complete.min(want));
        self.lacked = lacks || self.lacked && in_window;
        (self.have, self.want) = (have, want);
        if have >= want {
            self.complete = Some(want);
        }
    }
}

fn members_missing(experiment: &Experiment, timeline: &Timeline, window: Window) -> Vec<String> {
    let mut counts: BTreeMap<Component, Members> = BTreeMap::new();
    for (at_ms, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < window.end_ms) {
        if let Observation::Redundancy { component, have, want } = observation {
            counts.entry(*component).or_default().count(*have, *want, at_ms >= window.start_ms);
        }
    }
    let mut problems = Vec::new();
    for (component, Members { have, want, lacked, .. }) in &counts {
        if have != want || *want == 0 {
            problems.push(format!("{component} has {have} of {want} members in sync"));
        } else if *lacked {
            problems.push(format!("{component} lacked a member for a while"));
        }
    }
    let hit: BTreeSet<Component> =
        experiment.faults.iter().filter_map(|fault| fault.target.component).collect();
    let uncounted = hit.into_iter().filter(|component| !counts.contains_key(component));
    problems.extend(uncounted.map(|component| format!("nobody counted the members of {component}")));
    problems
}

fn not_ready_at_end(timeline: &Timeline, window: Window) -> Vec<String> {
    let mut nodes = BTreeMap::new();
    let mut leaders = BTreeMap::new();
    for (_, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < window.end_ms) {
        match observation {
            Observation::Node { name, ready } => {
                nodes.insert(name, *ready);
            }
            Observation::Leader { component, scope, leader, .. } => {
                leaders.insert((component, scope), leader.is_some());
            }
            _ => {}
        }
    }
    let nodes = nodes.into_iter().filter(|(_, ready)| !ready);
    let nodes = nodes.map(|(name, _)| format!("node {name} is not ready"));
    let leaders = leaders.into_iter().filter(|(_, led)| !led);
    nodes.chain(leaders.map(|((component, scope), _)| format!("{component} {scope} has no leader"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, experiment};
    use crate::model::ErrorClass::ServerStatus;
    use crate::model::Verdict::{Inconclusive, Pass};
    use crate::model::{Component, Observation, Window};

    #[test]
    fn only_a_steady_baseline_opens_the_gate() {
        let steady = Build::steady;
        let quarters = |count: u64| {
            (0..count).fold(steady(), |build, at| build.limited(at * 1000 + 500, at * 1000 + 750))
        };
        let no_leader = Observation::Leader {
            component: Component::Postgres,
            scope: "postgres".into(),
            leader: None,
            epoch: None,
        };
        let partitions = |first: Option<&str>, second: Option<&str>| {
            let led = [("decisions/0", first), ("decisions/1", second)].into_iter();
            led.fold(steady(), |build, (scope, leader)| {
                let (component, leader) = (Component::Kafka, leader.map(str::to_owned));
                build.see(5_000, Observation::Leader { component, scope: scope.into(), leader, epoch: None })
            })
        };
        for (name, build, verdict) in [
            ("steady", steady(), Pass),
            ("half a per cent of errors", steady().errors(1_000, 1_050, ServerStatus), Pass),
            ("2 % of errors", steady().errors(1_000, 1_300, ServerStatus), Inconclusive),
            (
                "errors, blamed on the generator",
                steady().errors(1_000, 1_300, ServerStatus).limited(1_000, 2_000),
                Inconclusive,
            ),
            ("no load", steady().silence(0, 12_000), Inconclusive),
            ("the generator was the limit", steady().limited(0, 3_000), Inconclusive),
            ("it was for a quarter of each of five seconds", quarters(5), Pass),
            ("it was for a quarter of each second", quarters(12), Inconclusive),
            ("no probe", steady().probes_until(0), Inconclusive),
            ("a member is missing", steady().members(2_000, 2), Inconclusive),
            ("a member was missing", steady().members(2_000, 2).members(3_000, 3), Inconclusive),
            ("one that is added comes", steady().members_of(2_000, 3, 4).members_of(6_000, 4, 4), Pass),
            ("one that is added does not come", steady().members_of(2_000, 3, 4), Inconclusive),
            (
                "one goes while one is added",
                steady().members_of(2_000, 2, 4).members_of(6_000, 4, 4),
                Inconclusive,
            ),
            ("one is taken away", steady().members_of(2_000, 3, 2).members_of(6_000, 2, 2), Pass),
            ("the target is not counted", steady().no_members(), Inconclusive),
            ("a node is down", steady().node_ready(5_000, false), Inconclusive),
            ("a node was down", steady().node_ready(5_000, false).node_ready(6_000, true), Pass),
            ("no leader", steady().see(5_000, no_leader), Inconclusive),
            ("one of many partitions without a leader", partitions(Some("kafka-1"), None), Inconclusive),
            ("every partition with one", partitions(Some("kafka-1"), Some("kafka-0")), Pass),
            ("nothing at all", Build::empty(), Inconclusive),
        ] {
            let timeline = build.timeline();
            let finding = super::baseline(&experiment(), &timeline, timeline.windows.baseline);
            assert_eq!(finding.verdict, verdict, "{name}: {}", finding.reason);
        }
    }

    #[test]
    fn what_lacks_a_member_when_the_baseline_begins_is_not_steady() {
        let timeline = Build::steady().members(2_000, 2).members(4_000, 3).timeline();
        for (start_ms, verdict) in [(0, Inconclusive), (3_000, Inconclusive), (4_001, Pass)] {
            let window = Window { start_ms, ..timeline.windows.baseline };
            let finding = super::baseline(&experiment(), &timeline, window);
            assert_eq!(finding.verdict, verdict, "from {start_ms} ms: {}", finding.reason);
        }
    }
}
