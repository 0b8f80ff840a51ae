use std::collections::BTreeMap;

use rand::SeedableRng;

use super::*;
use crate::fault::testing::{redis_snapshot, target};

/// Three brokers: the first leads decisions/0 and follows decisions/1, the third is not in sync with decisions/0.
fn brokers() -> Snapshot {
    let mut snapshot = redis_snapshot();
    snapshot.pods.truncate(3);
    snapshot.roles.truncate(3);
    for pod in &mut snapshot.pods {
        pod.component = Some(Component::Kafka);
    }
    let roles: [(&[&str], &[&str]); 3] = [
        (&["decisions/0", "controller"], &["decisions/1"]),
        (&["decisions/1"], &["decisions/0", "controller"]),
        (&[], &["decisions/1", "controller"]),
    ];
    for (fact, (leads, follows)) in snapshot.roles.iter_mut().zip(roles) {
        fact.component = Component::Kafka;
        fact.role = Role::Any;
        fact.leads = leads.iter().map(|name| (*name).to_owned()).collect();
        fact.follows = follows.iter().map(|name| (*name).to_owned()).collect();
    }
    snapshot
}

#[test]
fn a_leader_is_found_by_what_it_leads() {
    let snapshot = brokers();
    let names = |of: &str, role| {
        let spec = TargetSpec { leader_of: Some(of.to_owned()), role, ..target(Component::Kafka) };
        let found = matching(&spec, &snapshot).map_err(|error| error.to_string())?;
        Ok::<_, String>(found.into_iter().map(|(pod, _)| pod.name.as_str()).collect::<Vec<_>>())
    };
    assert_eq!(names("decisions/0", None), Ok(vec!["redis-0"]));
    assert_eq!(names("decisions/1", Some(Role::Primary)), Ok(vec!["redis-1"]));
    assert_eq!(names("decisions/0", Some(Role::Replica)), Ok(vec!["redis-1"]));
    assert_eq!(names("decisions/1", Some(Role::Any)), Ok(vec!["redis-0", "redis-1", "redis-2"]));
    assert_eq!(names("controller", Some(Role::Replica)), Ok(vec!["redis-1", "redis-2"]));
    let unknown = names("decisons/0", None).unwrap_err();
    assert!(unknown.ends_with(
        "in decisons/0; nobody leads or follows decisons/0; there are controller, decisions/0, decisions/1"
    ), "{unknown}");
    let mut silent = brokers();
    silent.roles.clear();
    let spec = TargetSpec { leader_of: Some("decisions/0".to_owned()), ..target(Component::Kafka) };
    let error = matching(&spec, &silent).unwrap_err().to_string();
    assert!(error.ends_with("no member of kafka says what it leads"), "{error}");
}

#[test]
fn a_target_says_what_it_led_when_it_was_chosen() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let spec = TargetSpec { leader_of: Some("decisions/0".to_owned()), ..target(Component::Kafka) };
    let snapshot = brokers();
    let (_, target) = pods(&spec, &snapshot, &mut random).unwrap().remove(0);
    assert_eq!(target.role, Some(Role::Primary));
    assert_eq!(target.because, "leads decisions/0, as the servers say: CLUSTER NODES; 1 of 1");
}

#[test]
fn no_selector_reaches_what_is_protected() {
    let labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "redis".to_owned())]);
    let spec = TargetSpec { labels, count: 5, ..TargetSpec::default() };
    let mut snapshot = redis_snapshot();
    snapshot.pods[0].namespace = "kube-system".into();
    let drawn = |snapshot: &Snapshot, count| {
        let spec = TargetSpec { count, ..spec.clone() };
        pods(&spec, snapshot, &mut ChaCha8Rng::seed_from_u64(1))
            .map(|drawn| drawn.into_iter().map(|(pod, _)| pod.name.clone()).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    };
    assert_eq!(drawn(&snapshot, 5).unwrap(), ["redis-1", "redis-2", "redis-3", "redis-4", "redis-5"]);
    insta::assert_snapshot!(drawn(&snapshot, 6).unwrap_err(),
        @"faults[0].target wants 6, and only 5 match: app.kubernetes.io/name=redis");
    let mark = |pod: &mut PodInfo| drop(pod.labels.insert("mettle.dev/protected".into(), "true".into()));
    snapshot.pods.iter_mut().for_each(mark);
    insta::assert_snapshot!(drawn(&snapshot, 1).unwrap_err(),
        @"faults[0].target matches only what is protected: app.kubernetes.io/name=redis");
    snapshot.workloads[0].labels.insert("mettle.dev/protected".into(), "true".into());
    let none = workloads(&spec, &snapshot, &mut ChaCha8Rng::seed_from_u64(1)).unwrap_err();
    assert!(matches!(none, PlanError::Protected { .. }), "{none}");
}

#[test]
fn one_that_is_not_ready_is_hit_only_when_there_are_not_enough_others() {
    let mut snapshot = redis_snapshot();
    snapshot.pods[1].ready = false;
    snapshot.pods[4].ready = false;
    let drawn = |count, seed| {
        let spec = TargetSpec { count, ..target(Component::Redis) };
        let drawn = pods(&spec, &snapshot, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        drawn.into_iter().map(|(pod, _)| pod.name.clone()).collect::<Vec<_>>()
    };
    for seed in 0..20 {
        assert_eq!(drawn(4, seed), ["redis-0", "redis-2", "redis-3", "redis-5"]);
    }
    assert_eq!(drawn(6, 0).len(), 6);
}
