//! Every experiment that is shipped, against the in-memory cluster.

use mettle::exit::Exit;
use mettle::model::Verdict::Pass;
use mettle::model::{RunOutcome, Store};

use super::assert_restored;
use super::fake::{Behaviour, Stage, experiment_file};

pub const EXPERIMENTS: [&str; 24] = [
    "backend-hang",
    "backend-pod-kill",
    "celery-worker-kill",
    "celery-worker-loss",
    "redis-memory-full",
    "gateway-loss",
    "inference-pod-kill",
    "kafka-leader-hang",
    "kafka-leader-loss",
    "node-loss",
    "pgbouncer-loss",
    "postgres-primary-hang",
    "postgres-primary-loss-behind",
    "postgres-primary-loss",
    "postgres-primary-partition",
    "postgres-primary-power-loss",
    "postgres-replica-loss",
    "rabbitmq-leader-loss",
    "redis-majority-loss",
    "redis-primary-hang",
    "redis-primary-loss",
    "redis-replica-loss",
    "zookeeper-leader-loss",
    "zookeeper-quorum-loss",
];

/// These are judged by what only a real stack has: alerts, proxies, answers with less, doors, peers that are cut off one by one.
const BEYOND: [&str; 19] = [
    "auth-load-step",
    "backend-load-step",
    "backend-rollout",
    "celery-load-step",
    "closed-doors",
    "decision-load-step",
    "edge-load-step",
    "edge-loss",
    "frontend-load-step",
    "gateway-certificate",
    "inference-away",
    "inference-load-step",
    "inference-one-503",
    "inference-overflow",
    "mesh-abort-share",
    "mesh-delay-share",
    "model-load-step",
    "origin-loss",
    "redis-away",
];

#[tokio::test(start_paused = true)]
async fn every_experiment_passes_on_a_stack_that_holds() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut known = [&EXPERIMENTS[..], &BEYOND].concat();
    known.sort_unstable();
    assert_eq!(names, known, "each experiment runs here");
    for name in EXPERIMENTS {
        let stage = Stage::new(experiment_file(name), Behaviour::default());
        let ran = stage.run().await;
        let report = &ran.report;
        assert_eq!((report.verdict, ran.exit), (Pass, Exit::Pass), "{name}: {report:#?}");
        assert_eq!(report.outcome, RunOutcome::Completed);
        assert_eq!(report.findings.len(), stage.experiment.expect.len() + 1, "each check and the gate");
        for fault in &report.faults {
            assert!(
                !fault.evidence.is_empty() && fault.reverted_ms > fault.effective_ms,
                "{name}: {fault:?}"
            );
        }
        let totals = &report.ledger[&Store::Postgres];
        assert!(totals.sent > 100 && totals.lost == 0 && totals.duplicated == 0, "{name}: {totals:?}");
        assert_restored(&stage, &ran);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_see_is_never_a_pass() {
    for name in BEYOND {
        let stage = Stage::new(experiment_file(name), Behaviour::default());
        let ran = stage.run().await;
        let report = &ran.report;
        // The fake's ReplicaSets are other objects to the guard: what it refuses is no pass either.
        assert!(matches!(report.outcome, RunOutcome::Completed | RunOutcome::Broken(_)), "{name}");
        assert_ne!((report.verdict, ran.exit), (Pass, Exit::Pass), "{name}: {report:#?}");
        let passed = report.findings.iter().filter(|finding| finding.verdict == Pass);
        let blind = ["alert-fires", "breaker", "amplification", "degraded", "scales", "stays-closed"];
        let mut blindly = passed.filter(|finding| blind.iter().any(|check| finding.check.starts_with(check)));
        assert_eq!(blindly.next(), None, "{name}");
        assert_restored(&stage, &ran);
    }
}
