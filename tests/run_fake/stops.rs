//! Runs that end before their time: a bound that is broken, a deadline.

use mettle::exit::Exit;
use mettle::model::Verdict::Pass;
use mettle::model::{Event, Fact, Phase, RunOutcome};
use serde_json::json;

use super::fake::{Behaviour, Ran, Stage};
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

/// What an earlier load left of an autoscaler that is judged is waited for, not for ever, and a stop ends the waiting.
#[tokio::test(start_paused = true)]
async fn the_load_begins_when_the_autoscalers_are_at_rest() {
    let judged = || {
        let mut experiment = kill_backend();
        let scales =
            json!({"check": "scales", "component": "backend", "outWithinSeconds": 60, "inWithinSeconds": 60});
        experiment.expect.push(serde_json::from_value(scales).unwrap());
        experiment
    };
    let warm_ms = |ran: &Ran| {
        let warm = ran.events.iter().find(|event| phase_of(event) == Some(Phase::Warm));
        warm.map(|event| event.at_ms)
    };
    for (scaled_until_ms, from_ms, to_ms) in [
        (None, 10_000, 15_000),
        (Some(0), 0, 5_000),
        (Some(90_000), 60_000, 95_000),
        (Some(u64::MAX), 400_000, 405_000),
    ] {
        let stage = Stage::new(judged(), Behaviour { scaled_until_ms, ..Behaviour::default() });
        let ran = stage.run().await;
        let began_ms = warm_ms(&ran).expect("it began");
        assert!((from_ms..to_ms).contains(&began_ms), "{scaled_until_ms:?}: {began_ms}");
        assert_eq!(ran.report.outcome, RunOutcome::Completed);
        assert_restored(&stage, &ran);
    }
    let unwatched =
        Stage::new(kill_backend(), Behaviour { scaled_until_ms: Some(u64::MAX), ..Behaviour::default() });
    assert!(warm_ms(&unwatched.run().await).is_some_and(|ms| ms < 5_000), "nobody judges it");
    let mut stage =
        Stage::new(judged(), Behaviour { scaled_until_ms: Some(u64::MAX), ..Behaviour::default() });
    stage.stop_at = Some((Phase::Prepare, 1));
    let ran = stage.run().await;
    assert!(ran.report.outcome.is_interrupted() && warm_ms(&ran).is_none(), "{:?}", ran.report.outcome);
    assert_eq!((ran.applied, ran.exit), (0, Exit::Interrupted));
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
