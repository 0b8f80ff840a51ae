//! Runs that end before their time: a bound that is broken, a deadline.

use mettle::exit::Exit;
use mettle::model::Verdict::Pass;
use mettle::model::{Event, Fact, Phase, RunOutcome};
use serde_json::json;

use super::fake::{Behaviour, Stage};
use super::{assert_restored, kill_backend, kill_node, pause_redis, was_injected};

#[tokio::test(start_paused = true)]
async fn a_broken_stop_condition_reverts_and_never_passes() {
    let long_gap = Behaviour { backends: 1, start_ms: 8000, ..Behaviour::default() };
    let errors = json!([{"check": "error-rate", "maxPercent": 50, "forSeconds": 3}]);
    let leaderless = json!([{"check": "lost-leader", "component": "redis", "forSeconds": 3}]);
    for (mut experiment, behaviour, conditions, phase) in [
        (kill_backend(), long_gap.clone(), errors.clone(), Phase::Fault),
        (pause_redis(), Behaviour::default(), leaderless, Phase::Fault),
        // The fault window is over before it has lasted.
        (kill_backend(), Behaviour { start_ms: 30_000, ..long_gap }, errors, Phase::Revert),
    ] {
        experiment.stop_when = serde_json::from_value(conditions).unwrap();
        if phase == Phase::Revert {
            experiment.phases.fault = 2;
        }
        let stage = Stage::new(experiment, behaviour);
        let ran = stage.run().await;
        let RunOutcome::Stopped(reason) = &ran.report.outcome else { panic!("{:?}", ran.report.outcome) };
        assert!(reason.starts_with("stopWhen[0] ("), "{reason}");
        assert!(!ran.report.outcome.is_interrupted());
        assert_ne!(ran.report.verdict, Pass);
        assert!(matches!(ran.exit, Exit::Inconclusive | Exit::Fail), "{:?}", ran.exit);
        let stopped = ran.events.iter().position(|event| matches!(event.fact, Fact::Stop { .. }));
        let reverted = ran.events.iter().position(|event| phase_of(event) == Some(Phase::Revert));
        assert_eq!(stopped < reverted, phase == Phase::Fault);
        assert_restored(&stage, &ran);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_its_own_ends_a_run() {
    let mut experiment = kill_node();
    experiment.limits.deadline_seconds = Some(12);
    let stage = Stage::new(experiment, Behaviour::default());
    let ran = stage.run().await;
    let reason = "the experiment's deadline of 12 s has passed".to_owned();
    assert_eq!(ran.report.outcome, RunOutcome::Stopped(reason));
    assert!(was_injected(&ran) && ran.report.verdict != Pass);
    assert!(matches!(ran.exit, Exit::Inconclusive | Exit::Fail), "{:?}", ran.exit);
    assert_restored(&stage, &ran);
}

fn phase_of(event: &Event) -> Option<Phase> {
    match event.fact {
        Fact::PhaseStarted { phase } => Some(phase),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_condition_that_holds_stops_nothing() {
    let mut experiment = kill_backend();
    experiment.stop_when = serde_json::from_value(json!([
        {"check": "error-rate", "maxPercent": 50, "forSeconds": 3},
        {"check": "latency", "quantile": 0.99, "maxMs": 1000, "forSeconds": 3},
        {"check": "lost-leader", "component": "postgres", "forSeconds": 3},
    ]))
    .unwrap();
    let stage = Stage::new(experiment, Behaviour::default());
    let ran = stage.run().await;
    assert_eq!((&ran.report.outcome, ran.exit), (&RunOutcome::Completed, Exit::Pass), "{:#?}", ran.report);
    assert_restored(&stage, &ran);
}
