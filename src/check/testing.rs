//! A small builder of timelines. Baseline 0 to 12 s, fault 12 to 24 s, recovery 24 to 40 s; 100 requests/s of
//! 10 ms; every tenth one writes to PostgreSQL, every tenth to Redis, and as many read what
//! was written to each. `pod/shop/postgres-0`, the primary, is killed at 12 s.

use crate::model::{
    CheckSpec, Component, ErrorClass, Event, Experiment, Fact, FaultKind, FaultRecord, Finding, LedgerTotals,
    LoadSecond, LoadSpec, Observation, OpId, Operation, OperationOutcome, Role, Store, Target, Timeline,
    Verdict, Window, Windows,
};

pub(crate) const INJECTED_MS: u64 = 12_000;
/// Reads of each store that say what it held.
pub(crate) const READS: u64 = 400;
const END_MS: u64 = 40_000;

#[derive(Debug, Clone)]
pub(crate) struct Build {
    timeline: Timeline,
}

/// One row a timeline: what it is, the timeline, what the check must say.
pub(crate) fn verdicts<const N: usize>(spec: &CheckSpec, rows: [(&str, Build, Verdict); N]) {
    for (name, build, verdict) in rows {
        let finding = build.judge(spec);
        assert_eq!(finding.verdict, verdict, "{name}: {}", finding.reason);
        assert!(!finding.reason.is_empty(), "{name} has no reason");
    }
}

/// Totals of a good ledger, then changed.
pub(crate) fn totals(change: impl FnOnce(&mut LedgerTotals)) -> LedgerTotals {
    let mut totals = LedgerTotals { sent: 400, ok: 400, reads: READS, ..LedgerTotals::default() };
    change(&mut totals);
    totals
}

pub(crate) fn experiment() -> Experiment {
    let text = "
name: postgres-primary-loss
scenario: ../scenarios/shop.yaml
proves: [postgres-failover]
faults:
  - kind: pod-kill
    target: { component: postgres, role: primary }
expect:
  - { check: error-rate, window: fault, maxPercent: 5 }
  - { check: latency, window: recovery, quantile: 0.99, maxMs: 100 }
  - { check: recovery-time, maxSeconds: 5 }
  - { check: lost-writes, store: postgres }
  - { check: duplicated-writes, store: redis }
  - { check: replicas-restored, maxSeconds: 10 }
";
    crate::model::parse_yaml(std::path::Path::new("sample.yaml"), text).expect("the sample is valid")
}

pub(crate) fn pod(name: &str, uid: &str, ready: bool) -> Observation {
    Observation::Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        node: Some("node-1".into()),
        component: Some(Component::Postgres),
        ready,
        terminating: false,
    }
}

pub(crate) fn leader(leader: Option<&str>, epoch: u64) -> Observation {
    Observation::Leader {
        component: Component::Postgres,
        scope: "postgres".into(),
        leader: leader.map(str::to_owned),
        epoch: Some(epoch),
    }
}

pub(crate) fn endpoints(pods: &[&str]) -> Observation {
    Observation::Endpoints {
        service: "postgres".into(),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
    }
}

fn operation(index: u64) -> Operation {
    let store = match index % 10 {
        3 => Some(Store::Postgres),
        7 => Some(Store::Redis),
        _ => None,
    };
    let reads = match index % 10 {
        4 => Some(Store::Postgres),
        8 => Some(Store::Redis),
        _ => None,
    };
    let intended_us = index * 10_000;
    Operation {
        id: store
            .or(reads)
            .map(|_| OpId::new(&format!("r-{}", if store.is_some() { index } else { index - 1 }))),
        step: "shop.step".into(),
        writes: store.into(),
        reads,
        intended_us,
        sent_us: intended_us,
        done_us: intended_us + 10_000,
        outcome: OperationOutcome::Ok,
        error: None,
        status: Some(200),
        degraded: false,
        seen: None,
    }
}

impl Build {
    pub(crate) fn empty() -> Self {
        Self { timeline: Timeline::default() }
    }

    /// Everything is watched and nothing happens, except that the fault is said to have bitten.
    pub(crate) fn stack_that_notices_nothing() -> Self {
        let span = |start_ms, end_ms| Window { start_ms, end_ms };
        let target = Target {
            object: "pod/shop/postgres-0".into(),
            node: Some("node-1".into()),
            component: Some(Component::Postgres),
            role: Some(Role::Primary),
            because: "patroni: leader".into(),
        };
        let mut build = Self {
            timeline: Timeline {
                events: Vec::new(),
                operations: (0..END_MS / 10).map(operation).collect(),
                windows: Windows {
                    baseline: span(0, INJECTED_MS),
                    fault: span(INJECTED_MS, 24_000),
                    recovery: span(24_000, END_MS),
                },
                faults: vec![FaultRecord {
                    kind: FaultKind::PodKill,
                    targets: vec![target],
                    injected_ms: INJECTED_MS,
                    effective_ms: Some(12_200),
                    reverted_ms: Some(24_000),
                    evidence: vec!["pod shop/postgres-0 (uid a) is gone".into()],
                }],
                ledger: [(Store::Postgres, totals(|_| ())), (Store::Redis, totals(|_| ()))].into(),
            },
        };
        for second in 0..END_MS / 1000 {
            let load = LoadSecond { at_ms: second * 1000, intended: 100, ok: 100, ..LoadSecond::default() };
            build = build.event(second * 1000, Fact::Load(load));
            build = build.see(second * 1000 + 500, Observation::Heartbeat { probe: "stack".into() });
        }
        let others = ["postgres-1", "postgres-2"];
        build = others.iter().fold(build, |build, name| build.see(0, pod(name, name, true)));
        build
            .see(0, pod("postgres-0", "a", true))
            .see(0, leader(Some("postgres-0"), 1))
            .see(0, endpoints(&["postgres-0"]))
            .node_ready(0, true)
            .members(0, 3)
    }

    /// The fault hits, the stack fails over within 3 s, and clients see nothing of it.
    pub(crate) fn steady() -> Self {
        Self::stack_that_notices_nothing()
            .see(
                12_200,
                Observation::PodGone {
                    namespace: "shop".into(),
                    name: "postgres-0".into(),
                    uid: "a".into(),
                    component: Some(Component::Postgres),
                },
            )
            .members(12_300, 2)
            .see(12_400, leader(None, 1))
            .see(12_500, endpoints(&[]))
            .see(14_000, leader(Some("postgres-1"), 2))
            .see(15_000, endpoints(&["postgres-1"]))
            .see(15_500, pod("postgres-0", "b", true))
            .members(18_000, 3)
    }

    pub(crate) fn timeline(mut self) -> Timeline {
        self.timeline.events.sort_by_key(|event| event.at_ms);
        self.timeline
    }

    pub(crate) fn judge(self, spec: &CheckSpec) -> Finding {
        super::judge(spec, &LoadSpec::default(), &self.timeline())
    }

    pub(crate) fn event(mut self, at_ms: u64, fact: Fact) -> Self {
        self.timeline.events.push(Event { at_ms, fact });
        self
    }

    pub(crate) fn see(self, at_ms: u64, observation: Observation) -> Self {
        self.event(at_ms, Fact::Observed(observation))
    }

    fn each(mut self, from_ms: u64, to_ms: u64, change: impl Fn(&mut Operation)) -> Self {
        let span = from_ms * 1000..to_ms * 1000;
        self.timeline.operations.iter_mut().filter(|o| span.contains(&o.intended_us)).for_each(change);
        self
    }

    pub(crate) fn errors(self, from_ms: u64, to_ms: u64, error: ErrorClass) -> Self {
        self.each(from_ms, to_ms, |operation| fail(operation, error))
    }

    pub(crate) fn slow(self, from_ms: u64, to_ms: u64, latency_ms: u64) -> Self {
        self.each(from_ms, to_ms, |operation| operation.done_us = operation.intended_us + latency_ms * 1000)
    }

    pub(crate) fn silence(mut self, from_ms: u64, to_ms: u64) -> Self {
        let span = from_ms * 1000..to_ms * 1000;
        self.timeline.operations.retain(|operation| !span.contains(&operation.intended_us));
        self
    }

    /// Ten times the requests, of which one in a hundred writes to Redis and none elsewhere.
    pub(crate) fn rare_writes(mut self) -> Self {
        self.timeline.operations = (0..END_MS)
            .map(|index| {
                let writes = index % 100 == 50;
                let store = writes.then_some(Store::Redis);
                let intended_us = index * 1000;
                Operation {
                    writes: store.into(),
                    intended_us,
                    done_us: intended_us + 10_000,
                    ..operation(index)
                }
            })
            .collect();
        self
    }

    pub(crate) fn failing_redis_writes(self, from_ms: u64, to_ms: u64) -> Self {
        self.each(from_ms, to_ms, |operation| {
            if operation.writes.contains(Store::Redis) {
                fail(operation, ErrorClass::ServerStatus);
            }
        })
    }

    pub(crate) fn degraded(self, from_ms: u64, to_ms: u64) -> Self {
        self.each(from_ms, to_ms, |operation| operation.degraded = true)
    }

    pub(crate) fn stepped(self, up_ms: u64, down_ms: u64) -> Self {
        self.event(up_ms, Fact::LoadStepped { users: 240, up: true })
            .event(down_ms, Fact::LoadStepped { users: 120, up: false })
    }

    /// So many requests a second were wanted.
    pub(crate) fn wanted(mut self, from_ms: u64, to_ms: u64, intended: u64) -> Self {
        for event in &mut self.timeline.events {
            if let Fact::Load(second) = &mut event.fact
                && (from_ms..to_ms).contains(&second.at_ms)
            {
                second.intended = intended;
            }
        }
        self
    }

    pub(crate) fn limited(mut self, from_ms: u64, to_ms: u64) -> Self {
        for event in &mut self.timeline.events {
            if let Fact::Load(second) = &mut event.fact {
                let (start_ms, end_ms) = (second.at_ms.max(from_ms), (second.at_ms + 1000).min(to_ms));
                if start_ms < end_ms {
                    second.generator_limited = true;
                    second.limited = Some(Window { start_ms, end_ms });
                }
            }
        }
        self
    }

    fn without(mut self, unwanted: impl Fn(&Event) -> bool) -> Self {
        self.timeline.events.retain(|event| !unwanted(event));
        self
    }

    pub(crate) fn no_load_seconds(self) -> Self {
        self.without(|event| matches!(event.fact, Fact::Load(_)))
    }

    pub(crate) fn no_members(self) -> Self {
        self.without(|event| matches!(event.fact, Fact::Observed(Observation::Redundancy { .. })))
    }

    /// A probe that looks once a second, in a span.
    pub(crate) fn beats(self, probe: &str, from_ms: u64, to_ms: u64) -> Self {
        let seconds = (from_ms..to_ms).step_by(1000);
        seconds.fold(self, |build, at_ms| {
            build.see(at_ms + 500, Observation::Heartbeat { probe: probe.to_owned() })
        })
    }

    pub(crate) fn no_beats(self, name: &str, from_ms: u64, to_ms: u64) -> Self {
        self.without(|event| {
            (from_ms..to_ms).contains(&event.at_ms)
                && matches!(&event.fact, Fact::Observed(Observation::Heartbeat { probe }) if probe == name)
        })
    }

    pub(crate) fn probes_until(self, end_ms: u64) -> Self {
        self.without(|event| {
            event.at_ms >= end_ms && matches!(event.fact, Fact::Observed(Observation::Heartbeat { .. }))
        })
    }

    pub(crate) fn no_faults(mut self) -> Self {
        self.timeline.faults.clear();
        self
    }

    pub(crate) fn fault(mut self, change: impl Fn(&mut FaultRecord)) -> Self {
        self.timeline.faults.iter_mut().for_each(change);
        self
    }

    pub(crate) fn no_reads(mut self) -> Self {
        self.timeline.operations.iter_mut().for_each(|operation| operation.reads = None);
        self
    }

    pub(crate) fn no_ledger(mut self) -> Self {
        self.timeline.ledger.clear();
        self
    }

    pub(crate) fn ledger(mut self, store: Store, totals: LedgerTotals) -> Self {
        self.timeline.ledger.insert(store, totals);
        self
    }

    pub(crate) fn members(self, at_ms: u64, have: u32) -> Self {
        self.members_of(at_ms, have, 3)
    }

    pub(crate) fn members_of(self, at_ms: u64, have: u32, want: u32) -> Self {
        self.see(at_ms, Observation::Redundancy { component: Component::Postgres, have, want })
    }

    pub(crate) fn redis_members(self) -> Self {
        self.see(0, Observation::Redundancy { component: Component::Redis, have: 6, want: 6 })
    }

    pub(crate) fn node_ready(self, at_ms: u64, ready: bool) -> Self {
        self.see(at_ms, Observation::Node { name: "node-1".into(), ready })
    }

    pub(crate) fn replaced(self, at_ms: u64) -> Self {
        self.see(at_ms, pod("postgres-0", "b", true))
    }
}

pub(crate) fn fail(operation: &mut Operation, error: ErrorClass) {
    let timed_out = matches!(error, ErrorClass::Timeout | ErrorClass::ConnectTimeout);
    operation.outcome = if timed_out { OperationOutcome::Indeterminate } else { OperationOutcome::Failed };
    operation.error = Some(error);
    operation.status = None;
    operation.done_us = operation.intended_us + if timed_out { 5_000_000 } else { 2_000 };
}
