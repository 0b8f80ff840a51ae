//! Faults that end a pod or its containers: `pod-kill`, `pod-evict`.

use super::{PlanError, select};
use crate::model::{Change, FaultKind, FaultSpec, PlannedChange, PodInfo, PodRef, Snapshot, Target, Undo};
use rand_chacha::ChaCha8Rng;

pub fn changes(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    select::on_pods(spec, snapshot, random, |pod, target| change(spec, pod, target))
}

fn change(spec: &FaultSpec, pod: &PodInfo, target: Target) -> Result<PlannedChange, PlanError> {
    let Some(controller) = pod.controller.clone() else {
        return Err(PlanError::NoController { object: target.object });
    };
    let (pod, grace_seconds) = (reference(pod), spec.grace_seconds);
    let change = match spec.kind {
        FaultKind::PodEvict => Change::EvictPod { pod: pod.clone(), grace_seconds },
        _ => Change::DeletePod { pod: pod.clone(), grace_seconds },
    };
    Ok(PlannedChange { target, change, undo: Undo::AwaitReplaced { pod, controller } })
}

pub fn reference(pod: &PodInfo) -> PodRef {
    PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
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
        FaultSpec::new(FaultKind::PodKill, target)
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
}
