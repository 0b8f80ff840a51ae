//! What the probes and watches of the in-memory cluster tell: changes, and heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mettle::model::{Component, Leadership, Observation};
use mettle::run::Recorder;
use tokio_util::sync::CancellationToken;

use super::cluster::FakeWorld;
use super::state::{NAMESPACE, Pod, State};

const EVERY: Duration = Duration::from_millis(100);

pub async fn observe(world: &FakeWorld, recorder: Recorder, end: CancellationToken) {
    if !world.with(|state| state.behaviour.probes) {
        return;
    }
    let mut told: BTreeMap<String, Observation> = BTreeMap::new();
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    let mut looks = 0_u64;
    loop {
        let (seen, there) = world.with(|state| (look(state), state.pods.clone()));
        let there: BTreeMap<String, Pod> = there.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        for pod in pods.values().filter(|pod| !there.contains_key(&pod.uid)) {
            told.remove(&format!("pod {}", pod.uid));
            Recorder::observe(&recorder, gone(pod));
        }
        pods = there;
        for (key, observation) in seen {
            if told.get(&key) != Some(&observation) {
                told.insert(key, observation.clone());
                Recorder::observe(&recorder, observation);
            }
        }
        if looks.is_multiple_of(10) {
            for probe in ["api", "postgres", "redis", "zookeeper", "kafka", "rabbitmq"] {
                Recorder::observe(&recorder, Observation::Heartbeat { probe: probe.to_owned() });
            }
        }
        looks += 1;
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn gone(pod: &Pod) -> Observation {
    Observation::PodGone {
        namespace: NAMESPACE.to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        component: Some(pod.component),
    }
}

/// Everything that can be seen now, each under a key of its own.
fn look(state: &State) -> Vec<(String, Observation)> {
    let mut seen: Vec<(String, Observation)> =
        state.pods.iter().map(|pod| (format!("pod {}", pod.uid), pod_seen(pod))).collect();
    seen.extend(state.nodes.iter().map(|node| {
        let observation = Observation::Node { name: node.name.clone(), ready: node.ready };
        (format!("node {}", node.name), observation)
    }));
    let backends = state.pods.iter().filter(|pod| pod.component == Component::Backend && pod.ready);
    let mut services =
        vec![("ai-platform-backend".to_owned(), backends.map(|pod| pod.name.clone()).collect())];
    for group in &state.groups {
        let leader = state.leader(group);
        seen.push((
            format!("leader {}", group.scope),
            Observation::Leader {
                component: group.component,
                scope: group.scope.clone(),
                leader: leader.cloned(),
                epoch: leader.map(|_| group.epoch),
            },
        ));
        if group.component.leadership() == Leadership::Whole {
            let writer =
                group.leader.iter().filter(|name| answers(state, name) && state.leader_serves(group));
            let (component, scope) = (group.component, group.scope.clone());
            let pods: Vec<String> = writer.cloned().collect();
            seen.extend((component == Component::Postgres).then(|| archive(state, pods.first())));
            let writers = Observation::Writers { component, scope, pods };
            seen.push((format!("writers {}", group.scope), writers));
        }
        if group.component == Component::Postgres {
            let ready = leader.filter(|name| state.pod(name).is_some_and(|pod| pod.ready));
            services.push(("postgres-primary".to_owned(), ready.into_iter().cloned().collect::<Vec<_>>()));
        }
        for name in &group.members {
            let pod = state.pod(name);
            let observation = Observation::Member {
                component: group.component,
                pod: name.clone(),
                answers: answers(state, name),
                in_sync: pod.is_some_and(|pod| state.in_sync(pod)),
            };
            seen.push((format!("member {name}"), observation));
        }
    }
    seen.extend(services.into_iter().map(|(service, mut pods)| {
        pods.sort();
        (format!("service {service}"), Observation::Endpoints { service, pods })
    }));
    seen.extend(redundancy(state));
    seen.extend(state.behaviour.scaled_until_ms.map(|until_ms| scale(state.now_ms < until_ms)));
    seen
}

/// A file a second, and none waits.
fn archive(state: &State, writer: Option<&String>) -> (String, Observation) {
    let archived = writer.map_or(0, |_| state.now_ms / 1000);
    let (component, pod) = (Component::Postgres, writer.cloned());
    ("archive".to_owned(), Observation::Archive { component, pod, archived, waiting: 0, first: None })
}

fn scale(more: bool) -> (String, Observation) {
    let count = if more { 4 } else { 3 };
    let (component, minimum) = (Component::Backend, 3);
    let scale = Observation::Scale { component, desired: count, ready: count, minimum, maximum: 6 };
    ("scale backend".to_owned(), scale)
}

fn answers(state: &State, name: &str) -> bool {
    state.pod(name).is_some_and(|pod| state.answers(pod))
}

fn pod_seen(pod: &Pod) -> Observation {
    Observation::Pod {
        namespace: NAMESPACE.to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: Some(pod.node.clone()),
        component: Some(pod.component),
        ready: pod.ready,
        terminating: pod.terminating,
    }
}

/// Members of a group count when they are in sync and the group has a leader; pods of a Deployment when ready.
fn redundancy(state: &State) -> Vec<(String, Observation)> {
    let workloads = state.workloads();
    let counts = workloads.iter().filter_map(|workload| {
        let component = workload.component?;
        let mut groups = state.groups.iter().filter(|group| group.component == component).peekable();
        let have = if groups.peek().is_none() {
            u32::try_from(workload.ready).ok()?
        } else {
            let led = groups.filter(|group| state.leader_serves(group));
            let members = led.flat_map(|group| &group.members);
            let in_sync = members.filter(|name| state.pod(name).is_some_and(|pod| state.in_sync(pod)));
            u32::try_from(in_sync.collect::<BTreeSet<_>>().len()).ok()?
        };
        let want = u32::try_from(workload.desired).ok()?;
        Some((format!("count {component}"), Observation::Redundancy { component, have, want }))
    });
    counts.collect()
}
