//! Reports for the tests of every form.

use crate::model::{
    Component, ErrorClass, Event, Experiment, Fact, FaultKind, FaultRecord, Finding, GoodputDip, Impact,
    LedgerTotals, LoadSecond, OpId, Operation, OperationOutcome, RecoveryPhases, Report, Role, RunId,
    RunOutcome, Seed, Store, Target, Timeline, Verdict, Window, Windows,
};

use super::build::{self, Judged};

pub(super) fn experiment() -> Experiment {
    let text = "
name: postgres-primary-loss
scenario: ../scenarios/shop.yaml
proves: [postgres-failover, no-lost-writes]
faults:
  - kind: pod-kill
    target: { component: postgres, role: primary }
expect:
  - { check: recovery-time, maxSeconds: 10 }
";
    crate::model::parse_yaml(std::path::Path::new("sample.yaml"), text).expect("the sample is valid")
}

pub(super) fn timeline() -> Timeline {
    let span = |start_ms, end_ms| Window { start_ms, end_ms };
    let target = Target {
        object: "pod/ai-platform/postgres-0".into(),
        node: Some("node-1".into()),
        component: Some(Component::Postgres),
        role: Some(Role::Primary),
        because: "patroni: leader; pg_is_in_recovery = f".into(),
    };
    Timeline {
        events: (0..30).map(second).collect(),
        operations: (0..300).map(operation).collect(),
        windows: Windows {
            baseline: span(0, 10_000),
            fault: span(10_000, 20_000),
            recovery: span(20_000, 30_000),
        },
        faults: vec![FaultRecord {
            kind: FaultKind::PodKill,
            targets: vec![target],
            injected_ms: 10_000,
            effective_ms: Some(10_180),
            reverted_ms: Some(20_000),
            evidence: vec![
                "pod postgres-0 (uid 3f2a) is gone".into(),
                "leader postgres-0 → postgres-1".into(),
            ],
        }],
        ledger: [(Store::Postgres, LedgerTotals { sent: 60, ok: 58, failed: 2, ..LedgerTotals::default() })]
            .into(),
    }
}

fn second(second: u64) -> Event {
    let at_ms = second * 1000;
    let generator_limited = second == 25;
    Event { at_ms, fact: Fact::Load(LoadSecond { at_ms, generator_limited, ..LoadSecond::default() }) }
}

/// Ten a second, 10 ms and more; refused for 1.5 s from 10.2 s on.
fn operation(index: u64) -> Operation {
    let intended_us = index * 100_000;
    let refused = (10_200_000..11_700_000).contains(&intended_us);
    Operation {
        id: (index.is_multiple_of(5)).then(|| OpId::new(&format!("r-{index}"))),
        step: "shop.buy".into(),
        writes: (index.is_multiple_of(5)).then_some(Store::Postgres).into(),
        reads: None,
        intended_us,
        sent_us: intended_us,
        done_us: intended_us + 10_000 + index * 10,
        outcome: if refused { OperationOutcome::Failed } else { OperationOutcome::Ok },
        error: refused.then_some(ErrorClass::ConnectionRefused),
        status: (!refused).then_some(200),
        degraded: false,
        seen: None,
    }
}

pub(super) fn judged() -> Judged {
    Judged {
        findings: vec![Finding::new(
            "recovery-time",
            Verdict::Pass,
            "clients recovered 1.7 s after injection, at most 10 s are allowed",
        )],
        phases: RecoveryPhases {
            detect: Some(180),
            elect: Some(1_400),
            route: Some(1_650),
            client: Some(1_700),
            redundancy: Some(9_200),
            total: Some(9_200),
        },
        resolution_ms: Some(100),
        impact: Some(Impact {
            user_minutes_lost: 3.2,
            failed_requests: 15,
            goodput: GoodputDip {
                baseline_per_second: 9.9,
                seconds_below: 2,
                missing_answers: 14.8,
                share: 0.0747,
                deepest_share: 1.0,
            },
            seconds: 20,
            seconds_set_aside: 1,
        }),
        outcome: RunOutcome::Completed,
        residue: Vec::new(),
    }
}

fn run(experiments: Vec<crate::model::ExperimentReport>) -> Report {
    let mut report = build::run(
        RunId("r7k2".into()),
        Seed(42),
        "local/mettle".into(),
        "2026-01-02T03:04:05Z".into(),
        experiments,
    );
    report.mettle_version = "0.0.0".into();
    report
}

pub(super) fn report() -> Report {
    run(vec![build::experiment(&experiment(), Seed(42), &timeline(), judged())])
}

/// One that failed, with something left behind; one that is inconclusive and was interrupted.
pub(super) fn failing_report() -> Report {
    let mut lossy = timeline();
    lossy.faults.iter_mut().for_each(|fault| fault.reverted_ms = None);
    lossy.ledger.insert(
        Store::Postgres,
        LedgerTotals { sent: 60, ok: 58, failed: 2, lost: 3, ..LedgerTotals::default() },
    );
    let lost = (1..=6).map(|index| format!("lost r7k2-{index}"));
    let failed = Judged {
        findings: vec![
            Finding::new("recovery-time", Verdict::Pass, "clients recovered 1.7 s after injection"),
            Finding::new(
                "lost-writes(postgres)",
                Verdict::Fail,
                "3 of 58 acknowledged writes are not in postgres, at most 0 may be",
            )
            .with_evidence(lost),
        ],
        residue: vec!["node node-1 is still powered off".into()],
        ..judged()
    };
    let mut blind = timeline();
    blind.faults.iter_mut().for_each(|fault| {
        fault.kind = FaultKind::NodeKill;
        fault.effective_ms = None;
        fault.evidence.clear();
    });
    blind.operations.clear();
    let interrupted = Judged {
        findings: vec![Finding::new(
            "fault-evidence",
            Verdict::Inconclusive,
            "fault 0 (node-kill): nothing shows that it bit",
        )],
        phases: RecoveryPhases::default(),
        outcome: RunOutcome::interrupted("SIGINT"),
        ..judged()
    };
    let second = Experiment { name: "node-loss".into(), ..experiment() };
    run(vec![
        build::experiment(&experiment(), Seed(42), &lossy, failed),
        build::experiment(&second, Seed(43), &blind, interrupted),
    ])
}
