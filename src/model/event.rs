//! Typed facts, in order, on one monotonic clock. Every reporter reads the same ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Component, Target, Window};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Prepare,
    Warm,
    Baseline,
    Gate,
    Fault,
    Revert,
    Recovery,
    Drain,
    Judge,
}

/// One second of the load, as its process saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSecond {
    /// Start of the second, ms on the run's clock. Under a name of its own in files: the event around it has an `at_ms`, too.
    #[serde(rename = "second_ms")]
    pub at_ms: u64,
    /// Requests that users wanted to make in it.
    pub intended: u64,
    /// Done in it, as are the next ones. The generator's own failures are in none of them.
    pub ok: u64,
    pub failed: u64,
    pub indeterminate: u64,
    /// From the intended time.
    pub p50_us: u64,
    pub p99_us: u64,
    /// Lanes busy at its end.
    pub busy_lanes: u64,
    /// The generator was out of lanes, sockets, ports or CPU: not the stack's fault.
    pub generator_limited: bool,
    /// From the first to the last moment of it at which it was; absent: all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<Window>,
}

impl LoadSecond {
    /// When the generator was the limit in it; none when it was not.
    #[must_use]
    pub fn limited_span(&self) -> Option<Window> {
        let whole = Window { start_ms: self.at_ms, end_ms: self.at_ms.saturating_add(1000) };
        self.generator_limited.then(|| self.limited.unwrap_or(whole))
    }
}

/// How far an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// There is such an alert, and it does not fire: not yet, or no more.
    Inactive,
    /// Its condition holds, but not for long enough yet.
    Pending,
    Firing,
}

/// What a caller's proxy has counted of one service that it calls. Counters are of the proxy's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerCounts {
    /// Hosts that are left out now.
    pub ejected: u64,
    /// How often one was.
    pub ejections: u64,
    /// Requests and connections refused because the pool was full.
    pub overflows: u64,
    pub retries: u64,
    /// Answers of 500 and above.
    pub errors: u64,
    pub requests: u64,
    /// Requests under way now.
    pub active: u64,
    /// Hosts that the proxy knows.
    pub hosts: u64,
}

/// When a breaker may open, by the mesh's own rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRule {
    /// Errors in a row until a host is left out; 0: never.
    pub errors_in_a_row: u32,
    pub interval_ms: u64,
    pub ejection_ms: u64,
    pub ejection_percent_max: u32,
    /// Of the pool; absent: as good as none.
    pub connections_max: Option<u32>,
    pub pending_max: Option<u32>,
}

/// What a probe or a watch saw. Only changes are recorded, and a heartbeat of each probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "kebab-case")]
pub enum Observation {
    Pod {
        namespace: String,
        name: String,
        uid: String,
        node: Option<String>,
        component: Option<Component>,
        ready: bool,
        terminating: bool,
    },
    /// The kubelet started a container of the pod again.
    Restarted {
        namespace: String,
        name: String,
        uid: String,
        container: String,
        /// In all.
        restarts: i32,
    },
    PodGone {
        namespace: String,
        name: String,
        uid: String,
        component: Option<Component>,
    },
    Node {
        name: String,
        ready: bool,
    },
    /// Names of the pods behind a service that take traffic.
    Endpoints {
        service: String,
        pods: Vec<String>,
    },
    /// Who leads. `scope` is the cluster's name, the shard `slot:N` in Redis, `topic/partition` or
    /// `controller` in Kafka, a queue in RabbitMQ; `epoch` the timeline, configuration epoch or term.
    Leader {
        component: Component,
        scope: String,
        leader: Option<String>,
        epoch: Option<u64>,
    },
    /// A member's own word: does it answer, is it fully in sync.
    Member {
        component: Component,
        pod: String,
        answers: bool,
        in_sync: bool,
    },
    /// How many members are serving and in sync, of how many.
    Redundancy {
        component: Component,
        have: u32,
        want: u32,
    },
    /// Members that themselves say that they take writes of one scope: changes, and every look at which they are more than
    /// one.
    Writers {
        component: Component,
        scope: String,
        pods: Vec<String>,
    },
    /// What the member that takes writes says of its archive: changes. Without `pod`: it could not be asked, or none or several
    /// take writes.
    Archive {
        component: Component,
        pod: Option<String>,
        /// Files that it gave to the archive, in all; counted anew when the server lost its statistics.
        archived: u64,
        /// Files that wait.
        waiting: u64,
        /// The first of them by name.
        first: Option<String>,
    },
    /// An alert by the word of Prometheus, which evaluates it, or of Alertmanager, which tells people.
    Alert {
        by: Component,
        alert: String,
        /// Beside its name; bounded.
        labels: BTreeMap<String, String>,
        state: AlertState,
    },
    /// What one proxy counted of the calls to a component.
    Breaker {
        component: Component,
        caller: String,
        counts: BreakerCounts,
    },
    BreakerRule {
        component: Component,
        rule: BreakerRule,
    },
    /// What a pod of a component itself counted of the requests that it was asked; probes are not among them.
    Served {
        component: Component,
        pod: String,
        requests: u64,
    },
    /// An autoscaler's wish, and how many replicas serve.
    Scale {
        component: Component,
        desired: u32,
        ready: u32,
        /// 0 in timelines that were written before it was read.
        #[serde(default)]
        minimum: u32,
        maximum: u32,
    },
    /// One try of what must be refused. Each is recorded, not only changes.
    Refusal {
        /// Who tries what.
        what: String,
        refused: bool,
        /// The same target answered, at the same time, whom it must answer.
        alive: bool,
        /// In the tried one's own words.
        word: String,
    },
    /// An agent's word from inside a pod.
    Agent {
        agent: String,
        text: String,
    },
    /// The probe looked, whatever it saw. Absence of these makes judgements inconclusive.
    Heartbeat {
        probe: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Fact {
    PhaseStarted {
        phase: Phase,
    },
    Load(LoadSecond),
    Observed(Observation),
    FaultInjected {
        fault: usize,
        kind: String,
        target: Target,
    },
    FaultEffective {
        fault: usize,
        evidence: Vec<String>,
    },
    FaultReverted {
        fault: usize,
    },
    /// The load has so many users from now on.
    LoadStepped {
        users: u32,
        up: bool,
    },
    ChangeIntended {
        sequence: u64,
        text: String,
    },
    ChangeApplied {
        sequence: u64,
    },
    ChangeReverted {
        sequence: u64,
        text: String,
    },
    Stop {
        reason: String,
    },
    Note {
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// On the run's monotonic clock, which starts at 0 with the experiment.
    pub at_ms: u64,
    #[serde(flatten)]
    pub fact: Fact,
}

#[cfg(test)]
mod tests {
    use super::{Event, Fact, LoadSecond, Observation, Phase};

    /// What is in the timeline's file is what was recorded, the two times of a load's second included.
    #[test]
    fn every_kind_of_event_is_read_back() {
        let second =
            LoadSecond { at_ms: 3000, intended: 7, generator_limited: true, ..LoadSecond::default() };
        for fact in [
            Fact::PhaseStarted { phase: Phase::Judge },
            Fact::Load(second),
            Fact::Observed(Observation::Heartbeat { probe: "stack".into() }),
            Fact::Observed(Observation::Node { name: "n1".into(), ready: false }),
            Fact::FaultReverted { fault: 1 },
            Fact::Note { text: "x".into() },
        ] {
            let event = Event { at_ms: 4001, fact };
            let line = serde_json::to_string(&event).expect("JSON");
            assert_eq!(serde_json::from_str::<Event>(&line).expect(&line), event);
        }
    }
}
