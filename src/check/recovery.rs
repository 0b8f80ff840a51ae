//! The phases of a recovery, in ms from the first injection. Each says when it *ended*; they overlap.
//!
//! | phase | ends with | does not apply when |
//! |---|---|---|
//! | detect | the first sign that the cluster noticed: a hit pod terminating, gone, not Ready or under a new uid; a hit node not Ready; a hit leadership empty or another's; a hit pod dropped from a service | never |
//! | elect | for each leadership that a hit pod held: another leader, or the same pod again under a higher epoch or, once it is Ready under a new uid; the last of them | no leader was hit |
//! | route | see [`super::route`] | no service had a hit pod behind it |
//! | client | see [`super::client`], the proven reading | never |
//! | redundancy | see [`super::redundancy`], the last of the hit components whose members are counted | no member of a counted component was hit |
//! | total | the last of those that apply | one that applies was not seen |
//!
//! A phase that applies and was not seen is null, and so is the total: an unseen end is no end.

use crate::model::{Component, Observation, RecoveryPhases, Timeline};

use super::client::client;
use super::hit::{Hit, HitLeader, HitPod};
use super::redundancy::{Restored, restored};
use super::route::route;
use super::text::bound_ms;

/// How long client success must hold when the check does not say.
pub const STABLE_FOR_SECONDS: f64 = 3.0;

/// One phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    NotApplicable,
    NotSeen,
    /// ms from injection.
    At(u64),
}

impl Stage {
    /// Both: the later one; unseen wins.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotApplicable, stage) | (stage, Self::NotApplicable) => stage,
            (Self::NotSeen, _) | (_, Self::NotSeen) => Self::NotSeen,
            (Self::At(a), Self::At(b)) => Self::At(a.max(b)),
        }
    }

    fn ms(self) -> Option<u64> {
        match self {
            Self::At(ms) => Some(ms),
            Self::NotApplicable | Self::NotSeen => None,
        }
    }

    fn seen(ms: Option<u64>) -> Self {
        ms.map_or(Self::NotSeen, Self::At)
    }
}

/// The phases of the recovery from all faults of the timeline; all absent when there was none.
#[must_use]
pub fn phases(timeline: &Timeline, stable_for_seconds: f64) -> RecoveryPhases {
    let Some(hit) = Hit::of(timeline) else { return RecoveryPhases::default() };
    let since = |at_ms: u64| at_ms.saturating_sub(hit.injection_ms);
    let detect = Stage::seen(detect(timeline, &hit).map(since));
    let elect = elect(timeline, &hit);
    let route = route(timeline, &hit);
    let client = Stage::seen(client(timeline, hit.injection_ms, bound_ms(stable_for_seconds)).proven_ms);
    let redundancy = redundancy(timeline, &hit);
    RecoveryPhases {
        detect: detect.ms(),
        elect: elect.ms(),
        route: route.ms(),
        client: client.ms(),
        redundancy: redundancy.ms(),
        total: detect.and(elect).and(route).and(client).and(redundancy).ms(),
    }
}

fn detect(timeline: &Timeline, hit: &Hit) -> Option<u64> {
    let mut behind: Vec<(&String, &Vec<String>)> = Vec::new();
    for (at_ms, observation) in timeline.observations(0) {
        let after = at_ms >= hit.injection_ms;
        if after && is_sign(observation, hit) {
            return Some(at_ms);
        }
        if let Observation::Endpoints { service, pods } = observation {
            let earlier = behind.iter().find(|(of, _)| *of == service).map(|(_, pods)| *pods);
            let dropped = |pod: &&String| hit.pod_named(pod).is_some() && !pods.contains(pod);
            if after && earlier.is_some_and(|earlier| earlier.iter().any(|pod| dropped(&pod))) {
                return Some(at_ms);
            }
            behind.retain(|(of, _)| *of != service);
            behind.push((service, pods));
        }
    }
    None
}

fn is_sign(observation: &Observation, hit: &Hit) -> bool {
    let hit_pod = |namespace: &String, name: &String| {
        hit.pods.iter().find(|pod| (&pod.name.0, &pod.name.1) == (namespace, name))
    };
    match observation {
        Observation::Pod { namespace, name, uid, ready, terminating, .. } => hit_pod(namespace, name)
            .is_some_and(|pod: &HitPod| {
                *terminating || !*ready || pod.uid.as_ref().is_some_and(|before| before != uid)
            }),
        Observation::PodGone { namespace, name, .. } | Observation::Restarted { namespace, name, .. } => {
            hit_pod(namespace, name).is_some()
        }
        Observation::Node { name, ready } => !*ready && hit.nodes.contains(name),
        Observation::Leader { component, scope, leader, .. } => hit.leaders.iter().any(|held| {
            (held.component, &held.scope) == (*component, scope) && leader.as_ref() != Some(&held.leader)
        }),
        Observation::Endpoints { .. }
        | Observation::Member { .. }
        | Observation::Redundancy { .. }
        | Observation::Writers { .. }
        | Observation::Archive { .. }
        | Observation::Alert { .. }
        | Observation::Breaker { .. }
        | Observation::BreakerRule { .. }
        | Observation::Served { .. }
        | Observation::Scale { .. }
        | Observation::Refusal { .. }
        | Observation::Agent { .. }
        | Observation::Heartbeat { .. } => false,
    }
}

fn elect(timeline: &Timeline, hit: &Hit) -> Stage {
    let unknown = if hit.leader_unknown { Stage::NotSeen } else { Stage::NotApplicable };
    hit.leaders.iter().fold(unknown, |stage, held| {
        let at_ms = elected_ms(timeline, hit, held);
        stage.and(Stage::seen(at_ms.map(|at_ms| at_ms.saturating_sub(hit.injection_ms))))
    })
}

fn elected_ms(timeline: &Timeline, hit: &Hit, held: &HitLeader) -> Option<u64> {
    let pod = hit.pod_named(&held.leader);
    let another_uid_ms = pod.and_then(|pod| new_uid_ready_ms(timeline, pod));
    let mut leads_ms = Some(held.injected_ms);
    for (at_ms, observation) in timeline.observations(held.injected_ms) {
        // The same pod came back while it was still, or again, the leader.
        if let (Some(back_ms), Some(leads_ms)) = (another_uid_ms, leads_ms)
            && at_ms > back_ms
        {
            return Some(back_ms.max(leads_ms));
        }
        let Observation::Leader { component, scope, leader, epoch } = observation else { continue };
        if (*component, scope) != (held.component, &held.scope) {
            continue;
        }
        match leader {
            None => leads_ms = None,
            Some(leader) if *leader != held.leader => return Some(at_ms),
            Some(_) if matches!((held.epoch, epoch), (Some(old), Some(new)) if *new > old) => {
                return Some(at_ms);
            }
            Some(_) => leads_ms = Some(at_ms),
        }
    }
    another_uid_ms.zip(leads_ms).map(|(back_ms, leads_ms)| back_ms.max(leads_ms))
}

/// Ready again, and under another uid: the process that led before is certainly gone.
fn new_uid_ready_ms(timeline: &Timeline, pod: &HitPod) -> Option<u64> {
    let before = pod.uid.as_ref()?;
    timeline.observations(pod.injected_ms).find_map(|(at_ms, observation)| match observation {
        Observation::Pod { namespace, name, uid, ready: true, terminating: false, .. }
            if (namespace, name) == (&pod.name.0, &pod.name.1) && uid != before =>
        {
            Some(at_ms)
        }
        _ => None,
    })
}

fn redundancy(timeline: &Timeline, hit: &Hit) -> Stage {
    let counted = |component: &Component| {
        timeline.observations(0).any(|(_, observation)| {
            matches!(observation, Observation::Redundancy { component: of, .. } if of == component)
        })
    };
    hit.components.iter().copied().filter(counted).fold(Stage::NotApplicable, |stage, component| {
        let one = match restored(timeline, hit, component) {
            Restored::At(at_ms) => Stage::At(at_ms.saturating_sub(hit.injection_ms)),
            Restored::NotObserved | Restored::StillLower { .. } | Restored::LossNotSeen => Stage::NotSeen,
        };
        stage.and(one)
    })
}

#[cfg(test)]
mod tests {
    use super::super::judge_all;
    use super::super::testing::{Build, endpoints, experiment, leader, pod};
    use super::{STABLE_FOR_SECONDS, phases};
    use crate::model::ErrorClass::ServerStatus;
    use crate::model::{Component, FaultKind, Observation, RecoveryPhases, Role, Target, Timeline, Verdict};

    /// detect, elect, route, client, redundancy, total.
    fn ms(build: Build) -> [Option<u64>; 6] {
        let RecoveryPhases { detect, elect, route, client, redundancy, total } =
            phases(&build.timeline(), STABLE_FOR_SECONDS);
        [detect, elect, route, client, redundancy, total]
    }

    #[test]
    fn a_failover_is_split_into_its_phases() {
        let errors = Build::steady().errors(12_100, 15_200, ServerStatus);
        assert_eq!(ms(errors), [200, 2000, 3000, 3191, 6000, 6000].map(Some));
        assert_eq!(ms(Build::steady())[3], Some(0));
    }

    #[test]
    fn an_unseen_end_is_no_end() {
        let never_elected = Build::stack_that_notices_nothing().see(12_400, leader(None, 1));
        assert_eq!(ms(never_elected), [Some(400), None, None, Some(0), None, None]);
        let still_failing = Build::steady().errors(12_000, 40_000, ServerStatus);
        assert_eq!(ms(still_failing), [Some(200), Some(2000), Some(3000), None, Some(6000), None]);
        assert_eq!(phases(&Timeline::default(), 3.0), RecoveryPhases::default());
        assert_eq!(ms(Build::steady().no_faults()), [None; 6]);
    }

    #[test]
    fn the_same_primary_can_come_back() {
        let quiet = Build::stack_that_notices_nothing;
        let back = |at_ms| quiet().see(at_ms, pod("postgres-0", "b", true));
        // It keeps its leadership and its endpoint: both count from when it is Ready under its new uid.
        assert_eq!(ms(back(13_000)), [1000, 1000, 1000, 0, 1000, 1000].map(Some));
        // It lost the leadership in between, and got it back later.
        let lost = back(13_000).see(12_400, leader(None, 1)).see(14_500, leader(Some("postgres-0"), 1));
        assert_eq!(ms(lost)[1], Some(2500));
        // A higher epoch is an election by itself.
        assert_eq!(ms(quiet().see(13_100, leader(Some("postgres-0"), 2)))[1], Some(1100));
        // The same uid and epoch prove nothing.
        assert_eq!(ms(quiet().see(13_100, leader(Some("postgres-0"), 1)))[1], None);
    }

    #[test]
    fn a_route_counts_once_it_stays_good() {
        let quiet = Build::stack_that_notices_nothing;
        let flaps = quiet()
            .see(13_000, endpoints(&["postgres-1"]))
            .see(14_000, endpoints(&["postgres-0"]))
            .see(16_000, endpoints(&["postgres-2"]));
        assert_eq!(ms(flaps)[2], Some(4000));
        assert_eq!(ms(quiet().see(13_000, endpoints(&[])))[2], None);
        let dead_among_them = quiet().see(13_000, endpoints(&["postgres-0", "postgres-1"]));
        assert_eq!(ms(dead_among_them)[2], None);
    }

    #[test]
    fn a_replica_has_no_election() {
        let target = Target {
            object: "pod/shop/postgres-1".into(),
            node: None,
            component: Some(Component::Postgres),
            role: Some(Role::Replica),
            because: "patroni: replica".into(),
        };
        let build = Build::stack_that_notices_nothing()
            .fault(|fault| fault.targets = vec![target.clone()])
            .members(12_500, 2)
            .see(14_000, pod("postgres-1", "new", true))
            .members(15_000, 3);
        assert_eq!(ms(build), [Some(2000), None, None, Some(0), Some(3000), Some(3000)]);
    }

    #[test]
    fn a_lost_node_takes_its_pods_and_leaders_with_it() {
        let target = Target {
            object: "node/node-1".into(),
            node: Some("node-1".into()),
            component: None,
            role: None,
            because: "named".into(),
        };
        let build = Build::steady().node_ready(12_100, false).fault(|fault| {
            fault.kind = FaultKind::NodeKill;
            fault.targets = vec![target.clone()];
        });
        assert_eq!(ms(build.clone()), [Some(100), Some(2000), None, Some(0), Some(6000), None]);
        // The route is good only when it points to a pod that was not on the node.
        let elsewhere = build.see(20_000, endpoints(&["postgres-9"]));
        assert_eq!(ms(elsewhere)[2], Some(8000));
    }

    #[test]
    fn a_paused_primary_serves_again_when_it_is_released() {
        let build = Build::stack_that_notices_nothing()
            .fault(|fault| fault.kind = FaultKind::ProcessPause)
            .see(13_500, leader(Some("postgres-2"), 2))
            .members(12_400, 2)
            .members(26_000, 3);
        // Its service kept pointing to it until it was continued at 24 s.
        assert_eq!(ms(build), [1500, 1500, 12_000, 0, 14_000, 14_000].map(Some));
    }

    #[test]
    fn a_primary_whose_leadership_nobody_observed_was_not_seen_replaced() {
        let mut timeline = Build::steady().timeline();
        timeline
            .events
            .retain(|event| !matches!(event.fact, crate::model::Fact::Observed(Observation::Leader { .. })));
        let phases = phases(&timeline, STABLE_FOR_SECONDS);
        assert_eq!((phases.elect, phases.total), (None, None));
    }

    #[test]
    fn of_many_leaderships_the_last_one_ends_the_election() {
        let word = |scope: &str, leader: Option<&str>, epoch| Observation::Leader {
            component: Component::Kafka,
            scope: scope.into(),
            leader: leader.map(str::to_owned),
            epoch,
        };
        let target = Target {
            object: "pod/shop/kafka-1".into(),
            node: None,
            component: Some(Component::Kafka),
            role: Some(Role::Primary),
            because: "leads decisions/0".into(),
        };
        let led = || {
            let build =
                Build::stack_that_notices_nothing().fault(|fault| fault.targets = vec![target.clone()]);
            ["decisions/0", "decisions/1", "controller"]
                .iter()
                .fold(build, |build, scope| build.see(0, word(scope, Some("kafka-1"), Some(4))))
                .see(0, word("decisions/2", Some("kafka-0"), Some(4)))
                // Its epoch rises because a follower left: nobody was elected there, and nobody had to be.
                .see(12_100, word("decisions/2", Some("kafka-0"), Some(5)))
                .see(12_600, word("decisions/0", None, None))
                .see(13_000, word("decisions/0", Some("kafka-2"), Some(5)))
                .see(14_000, word("decisions/1", Some("kafka-0"), Some(5)))
        };
        assert_eq!(ms(led())[..2], [Some(600), None], "the controller was not seen replaced");
        let whole = led().see(15_500, word("controller", Some("kafka-0"), None));
        assert_eq!(ms(whole)[..2], [Some(600), Some(3500)]);
    }

    #[test]
    fn a_good_run_passes_every_check_with_nothing_missing() {
        let (findings, phases) = judge_all(&experiment(), &Build::steady().timeline());
        assert_eq!(findings.len(), experiment().expect.len(), "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Pass), "{findings:#?}");
        assert_eq!(phases.total, Some(6000));
    }

    #[test]
    fn an_experiment_without_a_check_proves_nothing() {
        let mut experiment = experiment();
        experiment.expect.clear();
        let (findings, _) = judge_all(&experiment, &Build::steady().timeline());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings.first().map(|finding| finding.verdict), Some(Verdict::Inconclusive));
    }
}
