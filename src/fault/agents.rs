//! Faults that an agent makes from inside the target's pod: it starts beside the target's processes as an ephemeral
//! container, measures its own effect, and undoes itself when it is told to, when it hears nothing for 5 s, and at its
//! time limit.

use rand_chacha::ChaCha8Rng;

use super::pods::reference;
use super::{PlanError, select};
use crate::model::{
    Change, Component, Direction, FaultKind, FaultSpec, PlannedChange, PodInfo, RunId, Snapshot, Target, Undo,
};

/// Longer than any hold: the agent's own limit when everything else fails.
const TTL_MARGIN_SECONDS: u32 = 10;
/// An agent that ends by itself is done long before.
const TTL_MIN_SECONDS: u32 = 30;

pub fn changes(
    run: &RunId,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let peers = match &spec.with.peers {
        Some(peers) => select::addresses(peers, snapshot)?,
        None => Vec::new(),
    };
    let targets = select::pods(&spec.target, snapshot, random)?;
    let changes = targets.into_iter().enumerate().map(|(i, (pod, target))| {
        let agent = format!("mettle-{run}-{index}-{i}");
        let network = works_on_network(spec.kind);
        let process = process_of(spec, pod, &target)?;
        let container = container_of(pod, &target, &process)?;
        let arguments = arguments(spec, &process, &peers, pod);
        let ttl_seconds = (spec.hold_seconds + TTL_MARGIN_SECONDS).max(TTL_MIN_SECONDS);
        let pod = reference(pod);
        let change = Change::Agent {
            pod: pod.clone(),
            container: container.clone(),
            agent: agent.clone(),
            arguments,
            network,
            ttl_seconds,
        };
        let undo = match spec.kind {
            // The agent may die with the container that it killed.
            FaultKind::ContainerKill | FaultKind::ProcessKill => Undo::AwaitReady { pod, agent: Some(agent) },
            _ => Undo::EndAgent { pod, container, agent, clean: cleaning(spec, &process), network },
        };
        Ok(PlannedChange { target, change, undo })
    });
    changes.collect()
}

/// It needs the right to change the pod's network, and root for that.
fn works_on_network(kind: FaultKind) -> bool {
    use FaultKind::{
        DnsDrop, DnsFail, DnsSlow, DnsWrong, HttpRespond, NetBandwidth, NetDelay, NetHang, NetLoss,
        NetPartition, NetReject, NetReset, NetSlowClose,
    };
    matches!(
        kind,
        NetPartition
            | NetLoss
            | NetReject
            | NetDelay
            | NetBandwidth
            | NetReset
            | NetHang
            | NetSlowClose
            | HttpRespond
            | DnsFail
            | DnsDrop
            | DnsWrong
            | DnsSlow
    )
}

/// What an agent leaves when it is killed, and who removes it; nothing when it dies with the agent.
fn cleaning(spec: &FaultSpec, process: &str) -> Vec<String> {
    let mut line = Line::default();
    match spec.kind {
        FaultKind::ProcessPause => line.word("clean").word("--no-tables").pair("resume", process),
        FaultKind::DiskFill => line
            .word("clean")
            .word("--no-tables")
            .pair("process", process)
            .some("path", spec.with.path.as_ref()),
        kind if works_on_network(kind) => line.word("clean"),
        _ => &mut line,
    };
    line.0
}

fn arguments(spec: &FaultSpec, process: &str, peers: &[String], pod: &PodInfo) -> Vec<String> {
    let with = &spec.with;
    let mut line = Line::default();
    match spec.kind {
        FaultKind::ProcessPause => line.word("pause").pair("process", process),
        FaultKind::ProcessKill => line.word("kill").pair("process", process).pair("signal", "KILL"),
        FaultKind::ContainerKill => line.word("kill").word("--all").pair("signal", "KILL"),
        FaultKind::CpuStress => line.word("cpu").pair("workers", with.workers.unwrap_or(0)),
        FaultKind::MemoryStress => line.word("memory").some("mib", with.mib),
        FaultKind::MemoryOom => line.word("memory").word("--fill-cgroup").pair("victim", process),
        FaultKind::DiskFill => {
            line.word("fill").pair("process", process).some("path", with.path.as_ref());
            line.some("mib", with.mib).some("leave-mib", with.leave_mib)
        }
        FaultKind::ConnectionFlood => {
            let address = format!("{}:{}", pod.ip.as_deref().unwrap_or("127.0.0.1"), with.port.unwrap_or(0));
            line.word("connections").pair("address", address).some("count", with.connections)
        }
        FaultKind::NetPartition | FaultKind::NetLoss | FaultKind::NetReject => {
            let action = if spec.kind == FaultKind::NetReject { "reject" } else { "drop" };
            line.word("drop").pair("action", action).some("percent", with.percent).some("port", with.port);
            let peers = (!peers.is_empty()).then(|| peers.join(","));
            line.some("peers", peers);
            if with.api_server {
                line.word("--api-server");
            }
            line.pair("direction", with.direction.unwrap_or(Direction::Both).as_str())
        }
        FaultKind::DnsFail => line.word("dns").pair("mode", "nxdomain").some("domain", with.domain.as_ref()),
        FaultKind::DnsDrop => line.word("dns").pair("mode", "drop").some("domain", with.domain.as_ref()),
        FaultKind::DnsWrong => {
            line.word("dns").pair("mode", "wrong").some("domain", with.domain.as_ref());
            line.some("address", with.address)
        }
        FaultKind::DnsSlow => {
            line.word("dns").pair("mode", "slow").some("domain", with.domain.as_ref());
            line.some("delay-ms", with.delay_ms)
        }
        _ => proxy(spec, &mut line),
    };
    line.0
}

/// The faults that a transparent proxy in the pod's network namespace makes.
fn proxy<'a>(spec: &FaultSpec, line: &'a mut Line) -> &'a mut Line {
    let with = &spec.with;
    let mode = match spec.kind {
        FaultKind::NetReset => "reset",
        FaultKind::NetHang => "hang",
        FaultKind::NetSlowClose => "slow-close",
        FaultKind::HttpRespond => "respond",
        _ => "pass",
    };
    line.word("proxy").pair("mode", mode).some("port", with.port).some("delay-ms", with.delay_ms);
    line.some("jitter-ms", with.jitter_ms).some("rate-kib", with.rate_kib).some("share", with.percent);
    if spec.kind == FaultKind::HttpRespond {
        line.pair("status", with.status.unwrap_or(503));
    }
    let direction = with.direction.unwrap_or(Direction::In).as_str();
    // Who holds a connection since before must not be spared.
    line.pair("direction", direction).word("--kill-existing")
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn word(&mut self, word: &str) -> &mut Self {
        self.0.push(word.to_owned());
        self
    }

    fn pair(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.extend([format!("--{name}"), value.to_string()]);
        self
    }

    fn some(&mut self, name: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.pair(name, value);
        }
        self
    }
}

fn process_of(spec: &FaultSpec, pod: &PodInfo, target: &Target) -> Result<String, PlanError> {
    match (&spec.process, pod.component) {
        (Some(process), _) => Ok(process.clone()),
        (None, Some(component)) => Ok(server_of(component).to_owned()),
        (None, None) if works_on_network(spec.kind) => Ok(String::new()),
        (None, None) => {
            Err(PlanError::NoContainer { object: target.object.clone(), process: "a server".into() })
        }
    }
}

/// The component's main container bears its name; else the only one there is.
pub fn container_of(pod: &PodInfo, target: &Target, process: &str) -> Result<String, PlanError> {
    let named = pod.component.map(|component| component.as_str().to_owned());
    let only = || (pod.containers.len() == 1).then(|| pod.containers.keys().next().cloned()).flatten();
    let container = named.filter(|name| pod.containers.contains_key(name)).or_else(only);
    container
        .ok_or_else(|| PlanError::NoContainer { object: target.object.clone(), process: process.to_owned() })
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::redis_snapshot;

    fn line(yaml: &str) -> String {
        let spec: FaultSpec = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
        assert_eq!(spec.problem(), None, "{yaml}");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let planned =
            changes(&RunId("r1".into()), 0, &spec, &redis_snapshot(), &mut random).unwrap().remove(0);
        let Change::Agent { arguments, network, ttl_seconds, container, .. } = planned.change else {
            panic!("another change")
        };
        format!("{container} {ttl_seconds} {network}: {}", arguments.join(" "))
    }

    #[test]
    fn command_lines() {
        let spec = |kind: &str, rest: &str| {
            line(&format!(
                "{{kind: {kind}, target: {{component: redis, ofKey: foo, role: primary}}, holdSeconds: 25, {rest}}}"
            ))
        };
        insta::assert_snapshot!(
            [
                spec("process-pause", ""),
                spec("process-kill", "process: x"),
                spec("container-kill", ""),
                spec("cpu-stress", "with: {workers: 2}"),
                spec("memory-stress", "with: {mib: 64}"),
                spec("memory-oom", ""),
                spec("disk-fill", "with: {path: /data, leaveMib: 1}"),
                spec("connection-flood", "with: {port: 6379, connections: 50}"),
                spec("net-partition", ""),
                spec("net-partition", "with: {peers: {component: redis, role: replica}, port: 6379, direction: in}"),
                spec("net-partition", "with: {apiServer: true}"),
                spec("net-loss", "with: {percent: 30}"),
                spec("net-reject", "with: {port: 6379}"),
                spec("net-delay", "with: {port: 6379, delayMs: 100, jitterMs: 10}"),
                spec("net-bandwidth", "with: {port: 6379, rateKib: 64}"),
                spec("net-reset", "with: {port: 6379, percent: 50}"),
                spec("net-hang", "with: {port: 6379}"),
                spec("net-slow-close", "with: {port: 6379, delayMs: 2000}"),
                spec("http-respond", "with: {port: 8080}"),
                spec("dns-fail", "with: {domain: svc.cluster.local}"),
                spec("dns-drop", ""),
                spec("dns-wrong", "with: {address: 192.0.2.1}"),
                spec("dns-slow", "with: {delayMs: 900}"),
            ]
            .join("\n"),
            @r"
            redis 35 false: pause --process redis-server
            redis 35 false: kill --process x --signal KILL
            redis 35 false: kill --all --signal KILL
            redis 35 false: cpu --workers 2
            redis 35 false: memory --mib 64
            redis 35 false: memory --fill-cgroup --victim redis-server
            redis 35 false: fill --process redis-server --path /data --leave-mib 1
            redis 35 false: connections --address 10.0.0.2:6379 --count 50
            redis 35 true: drop --action drop --direction both
            redis 35 true: drop --action drop --port 6379 --peers 10.0.0.3,10.0.0.4,10.0.0.5 --direction in
            redis 35 true: drop --action drop --api-server --direction both
            redis 35 true: drop --action drop --percent 30 --direction both
            redis 35 true: drop --action reject --port 6379 --direction both
            redis 35 true: proxy --mode pass --port 6379 --delay-ms 100 --jitter-ms 10 --direction in --kill-existing
            redis 35 true: proxy --mode pass --port 6379 --rate-kib 64 --direction in --kill-existing
            redis 35 true: proxy --mode reset --port 6379 --share 50 --direction in --kill-existing
            redis 35 true: proxy --mode hang --port 6379 --direction in --kill-existing
            redis 35 true: proxy --mode slow-close --port 6379 --delay-ms 2000 --direction in --kill-existing
            redis 35 true: proxy --mode respond --port 8080 --status 503 --direction in --kill-existing
            redis 35 true: dns --mode nxdomain --domain svc.cluster.local
            redis 35 true: dns --mode drop
            redis 35 true: dns --mode wrong --address 192.0.2.1
            redis 35 true: dns --mode slow --delay-ms 900
            "
        );
    }
}
