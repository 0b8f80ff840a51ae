//! `pod-kill`
//!
//! **Does**: deletes the pod, pinned by uid; with `graceSeconds: 0` the kubelet kills its containers at once.
//! **Undone by**: its controller; the undo waits until the replacement is Ready.
//! **Evidence**: the uid is gone from the API, and for a primary, what its component says then.
//! **Needs**: `delete` on pods in the namespace.

use rand_chacha::ChaCha8Rng;

use super::{FaultInfo, PlanError, select};
use crate::model::{
    Change, Event, Fact, FaultSpec, Observation, PlannedChange, PodInfo, PodRef, Snapshot, Target, Undo,
};

pub const INFO: FaultInfo = FaultInfo {
    name: "pod-kill",
    level: "pod",
    does: "deletes a pod, pinned by uid; graceSeconds 0 kills at once",
    undone_by: "its controller; waits until the replacement is Ready",
    evidence: "the uid is gone; the component's leader changed or came back under a new uid",
    needs: "delete pods",
};

pub fn changes(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = select::pods(&spec.target, snapshot, random)?;
    targets.into_iter().map(|(pod, target)| change(pod, target, spec.grace_seconds)).collect()
}

fn change(pod: &PodInfo, target: Target, grace_seconds: u32) -> Result<PlannedChange, PlanError> {
    let Some(controller) = pod.controller.clone() else {
        return Err(PlanError::NoController { object: target.object });
    };
    let pod = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
    Ok(PlannedChange {
        target,
        change: Change::DeletePod { pod: pod.clone(), grace_seconds },
        undo: Undo::AwaitReplaced { pod, controller },
    })
}

pub fn evidence(change: &PlannedChange, events: &[Event]) -> Vec<(u64, String)> {
    let Change::DeletePod { pod, .. } = &change.change else { return Vec::new() };
    events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::Observed(Observation::PodGone { name, uid, .. }) if *uid == pod.uid => {
                Some((event.at_ms, format!("pod {name} (uid {uid}) is gone")))
            }
            Fact::Observed(Observation::Pod { name, uid, namespace, .. })
                if *name == pod.name && *namespace == pod.namespace && *uid != pod.uid =>
            {
                Some((event.at_ms, format!("pod {name} was replaced: uid {} → {uid}", pod.uid)))
            }
            _ => None,
        })
        .take(1)
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::{Component, FaultKind, Role};

    fn spec(yaml_role: Option<Role>, of_key: Option<&str>) -> FaultSpec {
        let mut target = target(Component::Redis);
        target.role = yaml_role;
        target.of_key = of_key.map(str::to_owned);
        FaultSpec {
            kind: FaultKind::PodKill,
            target,
            at_seconds: 0,
            hold_seconds: 0,
            grace_seconds: 0,
            process: None,
        }
    }

    #[test]
    fn the_primary_of_a_key_is_the_one_that_holds_its_slot() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // foo is in slot 12182, which redis-2 holds.
        let planned =
            changes(&spec(Some(Role::Primary), Some("foo")), &redis_snapshot(), &mut random).unwrap();
        assert_eq!(planned[0].target.object, "pod/ai-platform/redis-2");
        assert_eq!(planned[0].target.role, Some(Role::Primary));
        let replica =
            changes(&spec(Some(Role::Replica), Some("foo")), &redis_snapshot(), &mut random).unwrap();
        assert_eq!(replica[0].target.object, "pod/ai-platform/redis-5");
    }

    #[test]
    fn the_same_seed_picks_the_same_target_whatever_the_order_of_the_snapshot() {
        let mut reversed = redis_snapshot();
        reversed.pods.reverse();
        for seed in 0..20 {
            let pick = |snapshot: &Snapshot| {
                changes(&spec(None, None), snapshot, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
            };
            assert_eq!(pick(&redis_snapshot()), pick(&reversed));
        }
    }

    #[test]
    fn a_selector_that_matches_nothing_is_an_error() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut none = redis_snapshot();
        none.roles.clear();
        let error = changes(&spec(Some(Role::Primary), None), &none, &mut random).unwrap_err();
        assert_eq!(error.to_string(), "faults[0].target matches nothing: component redis, role primary");
    }

    #[test]
    fn a_pod_that_nobody_would_replace_is_refused() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut bare = redis_snapshot();
        bare.pods.iter_mut().for_each(|pod| pod.controller = None);
        let error = changes(&spec(None, None), &bare, &mut random).unwrap_err();
        assert!(matches!(error, PlanError::NoController { .. }));
    }

    #[test]
    fn only_the_death_of_this_uid_is_evidence() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let planned =
            changes(&spec(Some(Role::Primary), Some("foo")), &redis_snapshot(), &mut random).unwrap();
        let gone = |uid: &str| Event {
            at_ms: 5,
            fact: Fact::Observed(Observation::PodGone {
                namespace: "ai-platform".into(),
                name: "redis-2".into(),
                uid: uid.into(),
                component: None,
            }),
        };
        assert!(evidence(&planned[0], &[]).is_empty());
        assert!(evidence(&planned[0], &[gone("another")]).is_empty());
        assert_eq!(evidence(&planned[0], &[gone("uid-redis-2")]).len(), 1);
    }
}
