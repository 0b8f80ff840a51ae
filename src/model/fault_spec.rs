//! What a file says of one fault: which objects, when, how long, how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{Parameters, field_of};
use super::{Component, FaultKind, Leadership, On, Role};

/// Which objects a fault may hit. Exactly one of `component`, `labels`, `node` or `zone` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    #[serde(default)]
    pub component: Option<Component>,
    /// With `component`: its role by the server's own word at injection; any member when absent.
    #[serde(default)]
    pub role: Option<Role>,
    /// With `component: redis`: the role in the shard that holds this key.
    #[serde(default)]
    pub of_key: Option<String>,
    /// With `component: kafka`, a partition `topic/number` or `controller`; with `component: rabbitmq`, a quorum queue: the
    /// role there, `primary` when absent.
    #[serde(default)]
    pub leader_of: Option<String>,
    /// Pods with all of these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A node by name; only for faults on nodes. Otherwise the node that hosts the selected pod.
    #[serde(default)]
    pub node: Option<String>,
    /// Nodes of this zone; only for faults on nodes.
    #[serde(default)]
    pub zone: Option<String>,
    /// How many of those that match, drawn by the seed.
    #[serde(default = "one")]
    pub count: u32,
}

pub(super) fn one() -> u32 {
    1
}

/// The same fault again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repeat {
    /// How often in all, 2 to 16.
    pub times: u32,
    /// From one to the next.
    pub every_seconds: u32,
    /// Each comes up to so much later, drawn by the seed.
    #[serde(default)]
    pub jitter_seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultSpec {
    pub kind: FaultKind,
    /// Not for faults on the cluster itself.
    #[serde(default)]
    pub target: TargetSpec,
    /// After the start of the fault window.
    #[serde(default)]
    pub at_seconds: u32,
    /// How long it is held; for faults that end by themselves it has no effect.
    #[serde(default)]
    pub hold_seconds: u32,
    /// `pod-kill`, `pod-evict`: grace period; 0 kills at once.
    #[serde(default)]
    pub grace_seconds: u32,
    /// Command name of the processes that are hit; the component's server when absent.
    #[serde(default)]
    pub process: Option<String>,
    /// What the kind takes beyond that.
    #[serde(default)]
    pub with: Parameters,
    #[serde(default)]
    pub repeat: Option<Repeat>,
}

const SECONDS_MAX: u32 = 3600;
const TIMES: std::ops::RangeInclusive<u32> = 2..=16;

/// Field and sentence.
pub(super) type Problem = Option<(&'static str, String)>;

impl FaultSpec {
    /// One that says no more than that.
    #[must_use]
    pub fn new(kind: FaultKind, target: TargetSpec) -> Self {
        Self {
            kind,
            target,
            at_seconds: 0,
            hold_seconds: u32::from(kind.shape().held) * 5,
            grace_seconds: 0,
            process: None,
            with: Parameters::default(),
            repeat: None,
        }
    }

    /// The first thing that cannot be meant: field path and sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        self.target_problem().or_else(|| self.time_problem()).or_else(|| self.parameter_problem())
    }

    fn target_problem(&self) -> Problem {
        let (target, kind, on) = (&self.target, self.kind.as_str(), self.kind.shape().on);
        let given = given(target);
        if on == On::Cluster {
            return (given > 0)
                .then(|| ("target", format!("{kind} is on the cluster itself and takes none")));
        }
        if given != 1 {
            return Some(("target", "needs exactly one of component, labels, node, zone".to_owned()));
        }
        let of_node = if target.node.is_some() { Some("target.node") } else { None };
        let of_node = of_node.or(target.zone.is_some().then_some("target.zone"));
        if let Some(field) = of_node.filter(|_| on != On::Nodes) {
            return Some((field, format!("{kind} hits pods, not nodes")));
        }
        if self.kind == FaultKind::ZoneLoss && target.zone.is_none() {
            return Some(("target.zone", "zone-loss needs it".to_owned()));
        }
        target_details(target)
    }

    fn time_problem(&self) -> Problem {
        let (kind, shape) = (self.kind.as_str(), self.kind.shape());
        if self.grace_seconds > 0 && !matches!(self.kind, FaultKind::PodKill | FaultKind::PodEvict) {
            return Some(("graceSeconds", format!("{kind} has no grace period")));
        }
        if !(u32::from(shape.held)..=SECONDS_MAX).contains(&self.hold_seconds) {
            return Some(("holdSeconds", format!("{kind} is held for 1 to 3600 s")));
        }
        if self.at_seconds > SECONDS_MAX {
            return Some(("atSeconds", "must be at most 3600".to_owned()));
        }
        let repeat = self.repeat?;
        if !TIMES.contains(&repeat.times) {
            return Some(("repeat.times", "must be 2 to 16".to_owned()));
        }
        let last = u64::from(repeat.every_seconds) * u64::from(repeat.times) + u64::from(self.at_seconds);
        let short = shape.held && repeat.every_seconds <= self.hold_seconds + repeat.jitter_seconds;
        if repeat.every_seconds == 0 || repeat.jitter_seconds >= repeat.every_seconds || short {
            let message = "must be more than jitterSeconds and holdSeconds together";
            return Some(("repeat.everySeconds", message.to_owned()));
        }
        (last > u64::from(SECONDS_MAX)).then(|| ("repeat", "the last one must come within 3600 s".to_owned()))
    }

    fn parameter_problem(&self) -> Problem {
        let (kind, shape) = (self.kind.as_str(), self.kind.shape());
        if self.process.is_some() && !self.picks_process() {
            return Some(("process", format!("{kind} does not pick a process")));
        }
        let given = self.with.given();
        if let Some(field) = given.iter().find(|field| !shape.takes.contains(field)) {
            return Some((field_of(field), format!("{kind} does not take it")));
        }
        if let Some(field) = shape.needs.iter().find(|field| !given.contains(field)) {
            return Some((field_of(field), format!("{kind} needs it")));
        }
        self.with.problem()
    }

    fn picks_process(&self) -> bool {
        use FaultKind::{DiskFill, MemoryOom, ProcessKill, ProcessPause};
        matches!(self.kind, ProcessPause | ProcessKill | MemoryOom | DiskFill)
    }
}

pub(super) fn given(target: &TargetSpec) -> usize {
    let given =
        [target.component.is_some(), !target.labels.is_empty(), target.node.is_some(), target.zone.is_some()];
    given.into_iter().filter(|given| *given).count()
}

pub(super) fn target_details(target: &TargetSpec) -> Problem {
    if target.role.is_some() && target.component.is_none() {
        return Some(("target.role", "needs component".to_owned()));
    }
    if target.of_key.is_some() && target.component != Some(Component::Redis) {
        return Some(("target.ofKey", "needs component: redis".to_owned()));
    }
    if let Some(problem) = leader_problem(target) {
        return Some(problem);
    }
    (target.count == 0 || target.count > 100).then(|| ("target.count", "must be 1 to 100".to_owned()))
}

/// Where each partition or queue has a leader of its own, a role without one of them says nothing.
fn leader_problem(target: &TargetSpec) -> Problem {
    let parts = target.component.filter(|component| component.leadership() == Leadership::Parts);
    let Some(of) = &target.leader_of else {
        let needs = parts.is_some() && target.role.is_some_and(|role| role != Role::Any);
        let message = "needs leaderOf: each partition or queue has a leader of its own";
        return needs.then(|| ("target.role", message.to_owned()));
    };
    let partition =
        || of.rsplit_once('/').is_some_and(|(topic, n)| !topic.is_empty() && n.parse::<u16>().is_ok());
    let message = match parts {
        None => "needs component: kafka or component: rabbitmq",
        Some(Component::Kafka) if of != "controller" && !partition() => "is topic/partition, or controller",
        Some(_) if of.is_empty() => "names a queue",
        Some(_) => return None,
    };
    Some(("target.leaderOf", message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(yaml: &str) -> String {
        let spec: FaultSpec = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
        spec.problem().map_or_else(|| "none".to_owned(), |(field, message)| format!("{field}: {message}"))
    }

    #[test]
    fn a_kind_takes_what_its_shape_says() {
        for (yaml, expected) in [
            ("{kind: pod-kill, target: {component: redis}}", "none"),
            (
                "{kind: pod-kill, target: {component: redis}, with: {mib: 1}}",
                "with.mib: pod-kill does not take it",
            ),
            (
                "{kind: net-delay, target: {component: redis}, holdSeconds: 5, with: {port: 6379}}",
                "with.delayMs: net-delay needs it",
            ),
            (
                "{kind: net-delay, target: {component: redis}, holdSeconds: 5, with: {port: 6379, delayMs: 100}}",
                "none",
            ),
            (
                "{kind: net-loss, target: {component: redis}, holdSeconds: 5, with: {percent: 0}}",
                "with.percent: must be 1 to 100",
            ),
            (
                "{kind: net-delay, target: {component: redis}, with: {port: 6379, delayMs: 100}}",
                "holdSeconds: net-delay is held for 1 to 3600 s",
            ),
            ("{kind: api-server-pause, holdSeconds: 5}", "none"),
            (
                "{kind: api-server-pause, holdSeconds: 5, target: {component: redis}}",
                "target: api-server-pause is on the cluster itself and takes none",
            ),
            ("{kind: zone-loss, holdSeconds: 5, target: {node: n1}}", "target.zone: zone-loss needs it"),
            ("{kind: pod-kill, target: {zone: a}}", "target.zone: pod-kill hits pods, not nodes"),
            (
                "{kind: disk-fill, target: {component: redis}, holdSeconds: 5, with: {path: /data/../x, mib: 5}}",
                "with.path: must be absolute and without '..'",
            ),
            (
                "{kind: net-partition, target: {component: redis}, holdSeconds: 5, with: {peers: {node: n1}}}",
                "with.peers: needs exactly one of component, labels",
            ),
            ("{kind: pod-kill, target: {component: kafka, leaderOf: decisions/0}}", "none"),
            ("{kind: pod-kill, target: {component: kafka, leaderOf: controller, role: replica}}", "none"),
            ("{kind: pod-kill, target: {component: rabbitmq, leaderOf: inference.jobs}}", "none"),
            ("{kind: pod-kill, target: {component: zookeeper, role: primary}}", "none"),
            (
                "{kind: pod-kill, target: {component: kafka, leaderOf: decisions}}",
                "target.leaderOf: is topic/partition, or controller",
            ),
            (
                "{kind: pod-kill, target: {component: zookeeper, leaderOf: x}}",
                "target.leaderOf: needs component: kafka or component: rabbitmq",
            ),
            (
                "{kind: pod-kill, target: {component: rabbitmq, role: primary}}",
                "target.role: needs leaderOf: each partition or queue has a leader of its own",
            ),
            (
                "{kind: pod-kill, target: {component: kafka, ofKey: x}}",
                "target.ofKey: needs component: redis",
            ),
            ("{kind: pod-kill, target: {component: redis}, repeat: {times: 3, everySeconds: 5}}", "none"),
            (
                "{kind: pod-kill, target: {component: redis}, repeat: {times: 30, everySeconds: 5}}",
                "repeat.times: must be 2 to 16",
            ),
            (
                "{kind: process-pause, target: {component: redis}, holdSeconds: 5, repeat: {times: 3, everySeconds: 5}}",
                "repeat.everySeconds: must be more than jitterSeconds and holdSeconds together",
            ),
        ] {
            assert_eq!(problem(yaml), expected, "{yaml}");
        }
    }
}
