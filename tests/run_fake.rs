//! The whole loop against the in-memory cluster and load: it passes when the stack holds, and only then.

#[path = "run_fake/experiments.rs"]
mod experiments;
mod fake;
#[path = "run_fake/judge.rs"]
mod judge;
#[path = "run_fake/stops.rs"]
mod stops;

use std::collections::BTreeSet;

use fake::{Behaviour, LoadLife, Points, Ran, Stage, Trip, Undoing, experiment_file, finding, small};
use mettle::exit::Exit;
use mettle::model::Verdict::{Fail, Inconclusive, Pass};
use mettle::model::{Experiment, Fact, Phase, RunId, RunOutcome, Seed, Store};
use mettle::run::{find_unreverted, resolve};
use serde_json::json;

async fn run(experiment: Experiment, behaviour: Behaviour) -> Ran {
    Stage::new(experiment, behaviour).run().await
}

fn kill_backend() -> Experiment {
    small(json!([{"kind": "pod-kill", "target": {"component": "backend"}}]))
}

fn pause_redis() -> Experiment {
    small(
        json!([{"kind": "process-pause", "target": {"component": "redis", "role": "primary"}, "holdSeconds": 12}]),
    )
}

fn kill_node() -> Experiment {
    small(json!([{"kind": "node-kill", "target": {"node": "n2"}, "holdSeconds": 15}]))
}

/// Nothing of ours is left, and the cluster is what it was.
fn assert_restored(stage: &Stage, ran: &Ran) {
    assert_eq!(ran.report.residue, [] as [&str; 0]);
    assert_eq!(find_unreverted(stage.journal.parent().unwrap()).unwrap(), [] as [std::path::PathBuf; 0]);
    let replaceable: BTreeSet<String> = stage.world.with(|state| {
        let changes = state.applied.iter().filter_map(|change| match change {
            mettle::model::Change::DeletePod { pod, .. } => Some(pod.uid.clone()),
            _ => None,
        });
        changes.collect()
    });
    fake::equal_but_for_replaced(&stage.before, &ran.after, &replaceable).unwrap();
}

fn was_injected(ran: &Ran) -> bool {
    ran.events
        .iter()
        .any(|event| matches!(event.fact, Fact::FaultInjected { .. } | Fact::ChangeIntended { .. }))
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_picks_the_same_targets_and_other_seeds_others() {
    let experiment = experiment_file("backend-pod-kill");
    let mut targets = BTreeSet::new();
    for seed in 0..10 {
        let mut twice = Vec::new();
        for _ in 0..2 {
            let mut stage = Stage::new(experiment.clone(), Behaviour::default());
            stage.seed = Seed(seed);
            let plan = resolve(&experiment, &RunId("r1".into()), Seed(seed), &stage.before).unwrap();
            let report = stage.run().await.report;
            let hit: Vec<String> = report.faults.iter().map(|fault| fault.target.clone()).collect();
            let planned = plan.faults.iter().flat_map(|fault| &fault.changes);
            assert_eq!(hit, planned.map(|change| change.target.object.clone()).collect::<Vec<_>>());
            twice.push((plan, hit));
        }
        assert_eq!(twice[0], twice[1]);
        targets.insert(twice.remove(0).1);
    }
    assert!(targets.len() > 1, "{targets:?}");
}

#[tokio::test(start_paused = true)]
async fn asynchronous_replication_loses_what_is_reported_as_lost() {
    let behaviour = Behaviour { synchronous: false, lag_ms: 800, ..Behaviour::default() };
    let stage = Stage::new(experiment_file("postgres-primary-loss"), behaviour);
    let ran = stage.run().await;
    let truly = stage.world.lost(Store::Postgres) as u64;
    assert!(truly > 5, "the test needs losses: {truly}");
    assert_eq!(ran.report.ledger[&Store::Postgres].lost, truly);
    assert_eq!(finding(&ran.report, "lost-writes(postgres)").verdict, Fail);
    assert_eq!((ran.report.verdict, ran.exit), (Fail, Exit::Fail));
    assert_restored(&stage, &ran);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_applies_twice_is_told() {
    let behaviour = Behaviour { twice_every: Some(50), ..Behaviour::default() };
    let ran = run(experiment_file("postgres-primary-loss"), behaviour).await;
    assert!(ran.report.ledger[&Store::Postgres].duplicated > 5);
    assert_eq!(finding(&ran.report, "duplicated-writes(postgres)").verdict, Fail);
    assert_eq!(ran.exit, Exit::Fail);
}

#[tokio::test(start_paused = true)]
async fn without_replicas_the_loss_of_a_redis_primary_fails() {
    let behaviour = Behaviour { redis_replicas: false, ..Behaviour::default() };
    let stage = Stage::new(experiment_file("redis-primary-loss"), behaviour);
    let ran = stage.run().await;
    assert_eq!(ran.report.ledger[&Store::Redis].lost, stage.world.lost(Store::Redis) as u64);
    assert_eq!(finding(&ran.report, "lost-writes(redis)").verdict, Fail);
    assert_eq!(ran.exit, Exit::Fail);
}

#[tokio::test(start_paused = true)]
async fn the_gap_of_a_single_replica_is_seen() {
    let replaced = Behaviour { backends: 1, start_ms: 8000, ..Behaviour::default() };
    let ran = run(experiment_file("backend-pod-kill"), replaced.clone()).await;
    assert_eq!(finding(&ran.report, "error-rate(fault)").verdict, Fail);
    assert_eq!((ran.report.verdict, ran.exit), (Fail, Exit::Fail));
    let client_ms = ran.report.recovery_ms.client.unwrap();
    assert!((7000..10_000).contains(&client_ms), "{client_ms}");
    // And when nobody replaces it, the run says that it could not be undone.
    let ran = run(experiment_file("backend-pod-kill"), Behaviour { replaces: false, ..replaced }).await;
    assert_eq!(finding(&ran.report, "recovery-time").verdict, Fail);
    assert_eq!(finding(&ran.report, "replicas-restored").verdict, Fail);
    assert_eq!((ran.report.residue.len(), ran.exit), (1, Exit::RevertIncomplete));
}

#[tokio::test(start_paused = true)]
async fn without_load_nothing_is_proven() {
    let with = |load| Behaviour { load, ..Behaviour::default() };
    // Nothing was ever sent: the gate stays shut.
    let ran = run(kill_backend(), with(LoadLife::Zero)).await;
    assert_eq!((ran.report.verdict, ran.exit, was_injected(&ran)), (Inconclusive, Exit::Inconclusive, false));
    // It stops when the fault is injected: at about 7 s.
    let ran = run(kill_backend(), with(LoadLife::SilentAfter(7500))).await;
    assert!(was_injected(&ran));
    assert_eq!((ran.report.verdict, ran.exit), (Inconclusive, Exit::Inconclusive));
    assert_eq!(finding(&ran.report, "load-floor(recovery)").verdict, Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_dies_breaks_the_run() {
    for (dies_ms, injected) in [(1000, false), (5000, false), (10_000, true), (20_000, true)] {
        let behaviour = Behaviour { load: LoadLife::DiesAfter(dies_ms), ..Behaviour::default() };
        let stage = Stage::new(kill_backend(), behaviour);
        let ran = stage.run().await;
        assert_eq!(ran.report.outcome, RunOutcome::Broken("the load ended early: signal 9".into()));
        assert_ne!(ran.report.verdict, Pass);
        assert_eq!((ran.exit, was_injected(&ran)), (Exit::SetUp, injected), "at {dies_ms} ms");
        assert_restored(&stage, &ran);
    }
    let ran = run(kill_backend(), Behaviour { load: LoadLife::NeverReady, ..Behaviour::default() }).await;
    assert_eq!(ran.report.outcome, RunOutcome::Broken("the load was not ready within 60 s".into()));
    assert_eq!((ran.exit, ran.applied), (Exit::SetUp, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_does_not_bite_proves_nothing() {
    for experiment in [kill_backend(), pause_redis(), kill_node()] {
        let ran = run(experiment, Behaviour { ignores_changes: true, ..Behaviour::default() }).await;
        assert!(was_injected(&ran) && ran.applied == 0);
        assert_eq!(finding(&ran.report, "fault-evidence").verdict, Inconclusive);
        assert_eq!((ran.report.verdict, ran.exit), (Inconclusive, Exit::Inconclusive));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsteady_baseline_is_never_broken() {
    for behaviour in [
        Behaviour { fails_every: Some(20), ..Behaviour::default() },
        Behaviour { probes: false, ..Behaviour::default() },
    ] {
        let ran = run(kill_backend(), behaviour).await;
        assert_eq!(finding(&ran.report, "steady-state").verdict, Inconclusive);
        assert_eq!((ran.report.verdict, ran.exit), (Inconclusive, Exit::Inconclusive));
        assert_eq!((was_injected(&ran), ran.applied), (false, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_baseline_that_is_not_steady_is_looked_at_again() {
    // The first one ends with request 600.
    for (fails_until, looks, verdict) in
        [(0, 1, Pass), (650, 2, Pass), (1200, 3, Pass), (3000, 3, Inconclusive)]
    {
        let behaviour = Behaviour { fails_every: Some(20), fails_until, ..Behaviour::default() };
        let ran = run(kill_backend(), behaviour).await;
        let found = finding(&ran.report, "steady-state");
        assert_eq!(found.verdict, verdict, "{fails_until}: {}", found.reason);
        assert_eq!(was_injected(&ran), verdict == Pass, "{fails_until}");
        let told = found.evidence.iter().any(|line| line.starts_with(&format!("looked at {looks} times")));
        assert_eq!(told, looks > 1, "{fails_until}: {:?}", found.evidence);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_any_phase_reverts_and_is_an_interrupt() {
    let phases = [
        Phase::Prepare,
        Phase::Warm,
        Phase::Baseline,
        Phase::Gate,
        Phase::Fault,
        Phase::Revert,
        Phase::Recovery,
    ];
    for phase in phases {
        for experiment in [kill_backend(), pause_redis(), kill_node()] {
            let mut stage = Stage::new(experiment, Behaviour::default());
            stage.stop_at = Some((phase, 1));
            let ran = stage.run().await;
            assert!(ran.report.outcome.is_interrupted(), "{phase:?}: {:?}", ran.report.outcome);
            assert_ne!(ran.report.verdict, Pass, "{phase:?}");
            assert_eq!(ran.exit, Exit::Interrupted, "{phase:?}");
            assert_eq!(ran.applied > 0, phase as u8 >= Phase::Fault as u8, "{phase:?}");
            assert_restored(&stage, &ran);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_stops_the_waiting_and_keeps_the_journal() {
    let mut stage = Stage::new(kill_node(), Behaviour::default());
    stage.stop_at = Some((Phase::Fault, 2));
    let ran = stage.run().await;
    assert_eq!(ran.exit, Exit::RevertIncomplete);
    assert!(ran.report.residue[0].starts_with("not waited for: "), "{:?}", ran.report.residue);
    assert_eq!(find_unreverted(stage.journal.parent().unwrap()).unwrap(), [stage.journal.as_path()]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_fault_window_is_reverted() {
    for (name, nth, applied) in
        [("snapshot:before", 2, 0), ("snapshot:after", 2, 0), ("apply:before", 1, 0), ("apply:after", 1, 1)]
    {
        for experiment in [kill_backend(), pause_redis(), kill_node()] {
            let points = Points::new(Trip::Panic { name, nth });
            let stage = Stage::with_points(experiment, Behaviour::default(), points);
            let ran = stage.run().await;
            let RunOutcome::Broken(reason) = &ran.report.outcome else {
                panic!("{name}: {:?}", ran.report.outcome)
            };
            assert!(reason.starts_with("the fault window failed: "), "{reason}");
            assert_eq!((ran.exit, ran.applied), (Exit::SetUp, applied), "{name}");
            assert_ne!(ran.report.verdict, Pass);
            // What was begun is told all the same.
            assert_eq!(ran.report.faults.len(), usize::from(name.starts_with("apply")));
            assert_restored(&stage, &ran);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_breaks_the_run_and_everything_is_reverted() {
    let two = small(json!([
        {"kind": "node-kill", "target": {"node": "n2"}, "holdSeconds": 15},
        {"kind": "pod-kill", "target": {"component": "backend"}, "atSeconds": 3},
    ]));
    for (experiment, refuses_from, after_effect, applied) in [
        (kill_backend(), 1, false, 0),
        (kill_backend(), 1, true, 1),
        (pause_redis(), 1, true, 1),
        (kill_node(), 1, true, 1),
        (two, 2, false, 1),
    ] {
        let behaviour = Behaviour {
            refuses_from: Some(refuses_from),
            refuses_after_effect: after_effect,
            ..Behaviour::default()
        };
        let stage = Stage::new(experiment, behaviour);
        let ran = stage.run().await;
        assert!(matches!(&ran.report.outcome, RunOutcome::Broken(why) if why.starts_with("failed to ")));
        assert_eq!((ran.exit, ran.applied), (Exit::SetUp, applied));
        assert_restored(&stage, &ran);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_is_residue() {
    for (undoing, says) in [(Undoing::Fails, "the API does not answer"), (Undoing::Conflict, "conflict: ")] {
        let stage = Stage::new(kill_node(), Behaviour { undoing, ..Behaviour::default() });
        let ran = stage.run().await;
        let residue = &ran.report.residue;
        assert!(residue[0].starts_with("start node n2: ") && residue[0].contains(says), "{residue:?}");
        assert_eq!(residue.last().unwrap(), "node n2 is off");
        assert_eq!(ran.exit, Exit::RevertIncomplete);
        assert_eq!(find_unreverted(stage.journal.parent().unwrap()).unwrap(), [stage.journal.as_path()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_cannot_be_read_proves_nothing() {
    let behaviour = Behaviour { ledger_readable: false, ..Behaviour::default() };
    let ran = run(experiment_file("postgres-primary-loss"), behaviour).await;
    assert_eq!(finding(&ran.report, "lost-writes(postgres)").verdict, Inconclusive);
    assert_eq!((ran.report.verdict, ran.exit), (Inconclusive, Exit::Inconclusive));
}

#[tokio::test(start_paused = true)]
async fn what_goes_too_far_is_refused_before_the_first_change() {
    let mut too_many = small(json!([{"kind": "pod-kill", "target": {"component": "backend", "count": 3}}]));
    too_many.limits.pods = 2;
    let mut no_node = kill_node();
    no_node.limits.nodes = 0;
    let mut elsewhere = kill_backend();
    elsewhere.limits.namespaces = vec!["shop".to_owned()];
    for (experiment, behaviour, says) in [
        (too_many, Behaviour::default(), "it would hit 3 pods, limits.pods is 2"),
        (no_node, Behaviour::default(), "it would hit 1 nodes, limits.nodes is 0"),
        (elsewhere, Behaviour::default(), "it would hit namespace ai-platform, limits.namespaces is shop"),
        (kill_backend(), Behaviour { labelled: false, ..Behaviour::default() }, "does not carry the label"),
    ] {
        let stage = Stage::new(experiment, behaviour);
        let ran = stage.run().await;
        assert!(matches!(&ran.report.outcome, RunOutcome::Broken(why) if why.contains(says)), "{says}");
        assert_eq!((ran.exit, ran.applied, was_injected(&ran)), (Exit::SetUp, 0, false));
        assert!(!stage.journal.exists());
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_reverted_at_its_own_end_while_the_others_go_on() {
    let stage = Stage::new(
        small(json!([
            {"kind": "process-pause", "target": {"component": "redis", "role": "replica"}, "holdSeconds": 4},
            {"kind": "node-kill", "target": {"node": "n2"}, "atSeconds": 2, "holdSeconds": 20},
            {"kind": "pod-kill", "target": {"component": "postgres", "role": "replica"}, "atSeconds": 6},
        ])),
        Behaviour::default(),
    );
    let ran = stage.run().await;
    assert_eq!(ran.report.outcome, RunOutcome::Completed, "{:#?}", ran.report.findings);
    let [pause, node, pod] = &ran.report.faults[..] else { panic!("{:#?}", ran.report.faults) };
    let since = |ms: Option<u64>| ms.unwrap() - pause.injected_ms;
    assert!((4000..6000).contains(&since(pause.reverted_ms)), "{pause:?}");
    assert!(since(node.reverted_ms) > 22_000 && since(pod.reverted_ms) > 22_000);
    assert_eq!((node.injected_ms - pause.injected_ms, pod.injected_ms - pause.injected_ms), (2000, 6000));
    assert_restored(&stage, &ran);
}
