//! `process-pause`
//!
//! **Does**: stops (SIGSTOP) every process of one name in the container: hung, not dead. Its sockets stay open.
//! **Undone by**: the agent continues what it stopped when it is told to, when it no longer hears from us, or at its
//! own time limit; the undo waits until the agent has ended.
//! **Evidence**: the agent reads state `T` of each process, and the server no longer answers.
//! **Needs**: `patch` on pods/ephemeralcontainers and `create` on pods/attach. No privilege: the agent has the
//! target's own user id.

use rand_chacha::ChaCha8Rng;

use super::{FaultInfo, PlanError, select};
use crate::model::{
    Change, Component, Event, Fact, FaultSpec, Observation, PlannedChange, PodInfo, PodRef, RunId, Snapshot,
    Target, Undo,
};

pub const INFO: FaultInfo = FaultInfo {
    name: "process-pause",
    level: "pod",
    does: "stops every process of one name in a container (SIGSTOP): hung, not dead",
    undone_by: "the agent: when told, when it hears nothing for 5 s, or at its own time limit",
    evidence: "the processes are in state T, and the server does not answer",
    needs: "patch pods/ephemeralcontainers, create pods/attach",
};

/// Longer than any hold: the agent's own limit when everything else fails.
const TTL_MARGIN_SECONDS: u32 = 10;

pub fn changes(
    run: &RunId,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = select::pods(&spec.target, snapshot, random)?;
    targets
        .into_iter()
        .enumerate()
        .map(|(i, (pod, target))| change(&format!("mettle-{run}-{index}-{i}"), spec, pod, target))
        .collect()
}

fn change(agent: &str, spec: &FaultSpec, pod: &PodInfo, target: Target) -> Result<PlannedChange, PlanError> {
    let process = match (&spec.process, pod.component) {
        (Some(process), _) => process.clone(),
        (None, Some(component)) => server_of(component).to_owned(),
        (None, None) => {
            return Err(PlanError::NoContainer { object: target.object, process: "a server".into() });
        }
    };
    // The component's main container bears its name; else the only one there is.
    let named = pod.component.map(|component| component.as_str().to_owned());
    let container = named
        .filter(|name| pod.containers.contains_key(name))
        .or_else(|| (pod.containers.len() == 1).then(|| pod.containers.keys().next().cloned()).flatten());
    let Some(container) = container else {
        return Err(PlanError::NoContainer { object: target.object, process });
    };
    let pod = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
    Ok(PlannedChange {
        target,
        change: Change::PauseProcess {
            pod: pod.clone(),
            container: container.clone(),
            process: process.clone(),
            agent: agent.to_owned(),
            ttl_seconds: spec.hold_seconds + TTL_MARGIN_SECONDS,
        },
        undo: Undo::ResumeProcess { pod, container, process, agent: agent.to_owned() },
    })
}

fn server_of(component: Component) -> &'static str {
    match component {
        Component::Postgres => "postgres",
        Component::Pgbouncer => "pgbouncer",
        Component::Redis => "redis-server",
        Component::Zookeeper | Component::Kafka | Component::Zipkin => "java",
        Component::Rabbitmq => "beam.smp",
        Component::Celery => "celery",
        Component::Gateway => "envoy",
        Component::Edge | Component::EdgeShield => "varnishd",
        Component::Prometheus => "prometheus",
        Component::Alertmanager => "alertmanager",
        Component::Auth
        | Component::Model
        | Component::Inference
        | Component::Decision
        | Component::Backend
        | Component::Frontend => "platform",
    }
}

/// Both halves are needed: stopped processes that nobody misses prove nothing.
pub fn evidence(change: &PlannedChange, events: &[Event]) -> Vec<(u64, String)> {
    let Change::PauseProcess { pod, agent: ours, .. } = &change.change else { return Vec::new() };
    let stopped = events.iter().find_map(|event| match &event.fact {
        Fact::Observed(Observation::Agent { agent, text })
            if agent == ours && text.starts_with("stopped") =>
        {
            Some((event.at_ms, format!("the agent: {text}")))
        }
        _ => None,
    });
    let silent = events.iter().find_map(|event| match &event.fact {
        Fact::Observed(Observation::Member { pod: name, answers: false, .. }) if *name == pod.name => {
            Some((event.at_ms, format!("{name} does not answer")))
        }
        _ => None,
    });
    match (stopped, silent) {
        (Some(stopped), Some(silent)) => vec![stopped, silent],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::FaultKind;

    #[test]
    fn both_the_agents_word_and_a_silent_server_are_needed() {
        let spec = FaultSpec {
            kind: FaultKind::ProcessPause,
            target: target(Component::Redis),
            at_seconds: 0,
            hold_seconds: 5,
            grace_seconds: 0,
            process: None,
        };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let run = RunId("r1".into());
        let planned = changes(&run, 0, &spec, &redis_snapshot(), &mut random).unwrap().remove(0);
        let Change::PauseProcess { pod, process, ttl_seconds, agent, .. } = planned.change.clone() else {
            panic!("another change")
        };
        assert_eq!((process.as_str(), ttl_seconds), ("redis-server", 15));
        let said = Event {
            at_ms: 1,
            fact: Fact::Observed(Observation::Agent { agent, text: "stopped 3 of 3 processes".into() }),
        };
        let silent = Event {
            at_ms: 2,
            fact: Fact::Observed(Observation::Member {
                component: Component::Redis,
                pod: pod.name,
                answers: false,
                in_sync: false,
            }),
        };
        assert!(evidence(&planned, std::slice::from_ref(&said)).is_empty());
        assert!(evidence(&planned, std::slice::from_ref(&silent)).is_empty());
        assert_eq!(evidence(&planned, &[said, silent]).len(), 2);
    }
}
