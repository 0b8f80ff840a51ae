//! Whole experiments of Chaos Toolkit against the in-memory cluster: what is played, what is judged, and that revert
//! and rollbacks come whatever happened.

mod fake;
mod script_support;

use std::time::Duration;

use fake::{Behaviour, Points, Trip, Undoing};
use mettle::exit::Exit;
use mettle::model::RunOutcome;
use mettle::model::Verdict::{Fail, Inconclusive, Pass};
use mettle::run::find_unreverted;
use script_support::{Stage, back, clean, experiment, finding, http, kill, program, python, run};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn a_stack_that_holds_passes_with_evidence_of_everything() {
    let ran =
        run(experiment(http("shop", "up"), json!([kill(), http("look", "down")]), json!([back()]))).await;
    let report = &ran.played.report;
    assert_eq!((report.verdict, ran.exit), (Pass, Exit::Pass), "{report:#?}");
    for check in ["steady-state before: shop", "steady-state after: shop"] {
        assert_eq!(finding(report, check).verdict, Pass);
        assert!(finding(report, check).evidence[0].contains("it is up"));
    }
    assert!(!finding(report, "fault-evidence").evidence.is_empty());
    assert_eq!((report.faults.len(), ran.applied.len()), (1, 1));
    assert!(report.faults[0].reverted_ms.is_some());
    clean(&ran, "it holds");
    let journal = &ran.played.journal;
    assert_eq!((&journal["status"], &journal["deviated"]), (&json!("completed"), &json!(false)));
    assert_eq!(journal["steady_states"]["before"]["steady_state_met"], true);
    assert_eq!(journal["steady_states"]["after"]["probes"][0]["tolerance_met"], true);
    assert_eq!(journal["run"].as_array().unwrap().len(), 2);
    assert_eq!(journal["run"][0]["output"][0].as_str().unwrap().split('/').next(), Some("pod"));
    assert!(journal["run"][0]["duration"].is_number() && journal["run"][0]["start"].is_string());
    assert_eq!(journal["run"][1]["output"]["status"], 503);
    assert_eq!(journal["experiment"]["title"], "s");
}

#[tokio::test(start_paused = true)]
async fn without_a_steady_state_nothing_is_broken_and_nothing_is_proven() {
    for probe in [
        http("shop", "down"),
        python(
            "probe",
            "chaosk8s.pod.probes.pods_in_phase",
            json!({ "label_selector": "a=b", "ns": "ai-platform" }),
        ),
        python(
            "probe",
            "chaosk8s.service.probes.service_is_initialized",
            json!({ "name": "x", "ns": "ai-platform" }),
        ),
    ] {
        let ran = run(experiment(probe.clone(), json!([kill()]), json!([back()]))).await;
        let report = &ran.played.report;
        assert_eq!(
            (report.verdict, ran.exit, ran.applied.len()),
            (Inconclusive, Exit::Inconclusive, 0),
            "{probe}"
        );
        assert_eq!(report.outcome, RunOutcome::Completed);
        assert_eq!(ran.played.journal["steady_states"]["before"]["steady_state_met"], false);
        assert_eq!(ran.played.journal["steady_states"]["after"], Value::Null);
        assert_eq!(ran.played.journal["deviated"], false);
        clean(&ran, "not steady");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deviation_afterwards_fails_and_a_lost_answer_proves_nothing() {
    for (path, verdict, exit, status) in [
        ("then-down", Fail, Exit::Fail, "completed"),
        ("then-silent", Fail, Exit::Fail, "failed"),
        ("then-unasked", Inconclusive, Exit::Inconclusive, "failed"),
    ] {
        let ran = run(experiment(http("shop", path), json!([kill()]), json!([back()]))).await;
        let after = finding(&ran.played.report, "steady-state after: shop");
        assert_eq!((after.verdict, ran.played.report.verdict, ran.exit), (verdict, verdict, exit), "{path}");
        assert_eq!(ran.played.journal["deviated"], true, "{path}");
        assert_eq!(ran.played.journal["status"], status, "{path}");
        clean(&ran, path);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_nothing_or_judges_nothing_is_no_pass() {
    // Nothing is done.
    for method in [json!([]), json!([http("look", "up")])] {
        let ran = run(experiment(http("shop", "up"), method, json!([back()]))).await;
        assert_eq!(finding(&ran.played.report, "method").verdict, Inconclusive);
        assert_eq!(ran.exit, Exit::Inconclusive);
        clean(&ran, "nothing is done");
    }
    // Nothing is judged.
    let ran = run(json!({ "title": "s", "method": [kill()], "rollbacks": [back()] })).await;
    assert_eq!(finding(&ran.played.report, "steady-state").verdict, Inconclusive);
    assert_eq!((ran.exit, ran.applied.len()), (Exit::Inconclusive, 1));
    clean(&ran, "nothing is judged");
    // Nothing bites.
    let stage =
        Stage::new(Behaviour { ignores_changes: true, ..Behaviour::default() }, Points::new(Trip::None));
    let ran = stage.run(experiment(http("shop", "up"), json!([kill()]), json!([back()]))).await;
    assert_eq!(finding(&ran.played.report, "fault-evidence").verdict, Inconclusive);
    assert_eq!(ran.exit, Exit::Inconclusive);
    // A program that could not do it, and one that did.
    for (path, verdict) in
        [("true", Pass), ("false", Inconclusive), ("sleep", Inconclusive), ("nosuch", Inconclusive)]
    {
        let ran = run(experiment(http("shop", "up"), json!([program(path)]), json!([back()]))).await;
        assert_eq!(finding(&ran.played.report, &format!("action: {path}")).verdict, verdict);
        assert_eq!(ran.played.report.verdict, verdict, "{path}");
        clean(&ran, path);
    }
}

/// The hypothesis is asked while the fault is held, and not after it was healed.
#[tokio::test(start_paused = true)]
async fn faults_are_held_until_the_hypothesis_was_asked_again() {
    let delay = python("action", "chaosk8s.node.actions.cordon_node", json!({ "name": "n2" }));
    let probe = http("shop", "up-while-broken");
    let ran = run(experiment(probe.clone(), json!([delay.clone()]), json!([back()]))).await;
    assert_eq!((ran.played.report.verdict, ran.exit), (Pass, Exit::Pass), "{:#?}", ran.played.report);
    clean(&ran, "held");
    // Taken back by the method itself.
    let undo = python("action", "chaosk8s.node.actions.uncordon_node", json!({ "name": "n2" }));
    let ran =
        run(experiment(http("shop", "up"), json!([delay.clone(), undo.clone()]), json!([back()]))).await;
    assert_eq!((ran.played.report.verdict, ran.exit), (Pass, Exit::Pass), "{:#?}", ran.played.report);
    assert_eq!(ran.played.journal["run"][1]["output"], "reverted by mettle");
    clean(&ran, "taken back");
    // As a rollback there is nothing left to do.
    let ran = run(experiment(http("shop", "up"), json!([delay]), json!([undo, back()]))).await;
    assert_eq!(ran.exit, Exit::Pass);
    clean(&ran, "rolled back");
}

#[tokio::test(start_paused = true)]
async fn rollbacks_and_revert_come_after_an_action_that_the_cluster_refuses() {
    for after_effect in [false, true] {
        let behaviour =
            Behaviour { refuses_from: Some(1), refuses_after_effect: after_effect, ..Behaviour::default() };
        let stage = Stage::new(behaviour, Points::new(Trip::None));
        let ran = stage
            .run(experiment(http("shop", "up"), json!([kill(), program("true")]), json!([back()])))
            .await;
        assert!(
            matches!(&ran.played.report.outcome, RunOutcome::Broken(why) if why.starts_with("failed to "))
        );
        assert_eq!((ran.exit, &ran.played.journal["status"]), (Exit::SetUp, &json!("aborted")));
        // What stood on it was not done.
        assert!(!ran.asked.contains(&"true".to_owned()), "{:?}", ran.asked);
        assert_ne!(ran.played.report.verdict, Pass);
        clean(&ran, "refused");
    }
}

#[tokio::test(start_paused = true)]
async fn rollbacks_and_revert_come_after_an_interrupt() {
    let cordon = || python("action", "chaosk8s.node.actions.cordon_node", json!({ "name": "n2" }));
    let mut paused = program("interrupt");
    paused["pauses"] = json!({ "after": 3000 });
    for method in [
        json!([cordon(), paused, program("true")]),
        json!([cordon(), program("interrupt"), http("x", "hangs")]),
    ] {
        let mut rollback = back();
        // Nobody waits for a pause then.
        rollback["pauses"] = json!({ "before": 3000 });
        let begun = tokio::time::Instant::now();
        let ran = run(experiment(http("shop", "up"), method, json!([rollback]))).await;
        assert!(ran.played.report.outcome.is_interrupted());
        assert_eq!((ran.exit, &ran.played.journal["status"]), (Exit::Interrupted, &json!("interrupted")));
        assert_ne!(ran.played.report.verdict, Pass);
        assert!(!ran.asked.contains(&"true".to_owned()), "{:?}", ran.asked);
        assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
        clean(&ran, "interrupted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_rollbacks_and_keeps_the_journal() {
    let cordon = python("action", "chaosk8s.node.actions.cordon_node", json!({ "name": "n2" }));
    let method = json!([cordon, program("interrupt"), program("interrupt"), http("x", "hangs")]);
    let mut hangs = http("hangs", "hangs");
    hangs["type"] = json!("action");
    let stage = Stage::new(Behaviour::default(), Points::new(Trip::None));
    let second = stage.stop.clone();
    tokio::spawn(async move {
        second.requested().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        second.interrupt("SIGINT");
    });
    let ran = stage.run(experiment(http("shop", "up"), method, json!([hangs]))).await;
    assert_eq!(ran.exit, Exit::RevertIncomplete);
    assert!(
        ran.played.report.residue.iter().any(|line| line.starts_with("rollback hangs: ")),
        "{:?}",
        ran.played.report.residue
    );
}

#[tokio::test(start_paused = true)]
async fn rollbacks_and_revert_come_after_a_panic() {
    for (points, method) in [
        (Trip::Panic { name: "apply:before", nth: 1 }, json!([kill()])),
        (Trip::Panic { name: "apply:after", nth: 1 }, json!([kill()])),
        (Trip::Panic { name: "snapshot:after", nth: 2 }, json!([kill()])),
        (Trip::None, json!([kill(), program("panic")])),
        (Trip::None, json!([kill(), http("x", "panics")])),
    ] {
        let stage = Stage::new(Behaviour::default(), Points::new(points.clone()));
        let ran = stage.run(experiment(http("shop", "up"), method, json!([back()]))).await;
        let RunOutcome::Broken(reason) = &ran.played.report.outcome else { panic!("{points:?}") };
        assert!(reason.starts_with("the script failed: "), "{reason}");
        assert_eq!(ran.exit, Exit::SetUp);
        assert_ne!(ran.played.report.verdict, Pass);
        clean(&ran, "a panic");
    }
    // One that plays beside the method.
    let mut beside = program("panic");
    beside["background"] = json!(true);
    let ran = run(experiment(http("shop", "up"), json!([beside, kill()]), json!([back()]))).await;
    assert!(
        matches!(&ran.played.report.outcome, RunOutcome::Broken(why) if why.starts_with("an activity failed: "))
    );
    clean(&ran, "a panic beside");
    // And one of a rollback itself: the others' words stay, and it is told.
    let stage = Stage::new(Behaviour::default(), Points::new(Trip::None));
    let ran = stage.run(experiment(http("shop", "up"), json!([kill()]), json!([program("panic")]))).await;
    assert_eq!(ran.exit, Exit::RevertIncomplete);
    assert!(ran.played.report.residue[0].starts_with("the rollbacks failed: "));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_did_not_do_it_is_told_as_left_behind() {
    for path in ["false", "sleep", "nosuch"] {
        let ran = run(experiment(http("shop", "up"), json!([kill()]), json!([program(path), back()]))).await;
        let residue = &ran.played.report.residue;
        assert_eq!((residue.len(), ran.exit), (1, Exit::RevertIncomplete), "{path}: {residue:?}");
        assert!(residue[0].starts_with(&format!("rollback {path}: ")), "{residue:?}");
        // The next one is played all the same.
        assert!(ran.asked.contains(&"true back".to_owned()));
        // Where nothing was done there is nothing that it could have left.
        let ran = run(experiment(http("shop", "down"), json!([kill()]), json!([program(path)]))).await;
        assert_eq!((ran.played.report.residue.len(), ran.exit), (0, Exit::Inconclusive), "{path}");
    }
    let stage =
        Stage::new(Behaviour { undoing: Undoing::Fails, ..Behaviour::default() }, Points::new(Trip::None));
    let cordon = python("action", "chaosk8s.node.actions.cordon_node", json!({ "name": "n2" }));
    let ran = stage.run(experiment(http("shop", "up"), json!([cordon]), json!([back()]))).await;
    assert_eq!(ran.exit, Exit::RevertIncomplete);
    assert!(ran.asked.contains(&"true back".to_owned()), "the file's own are played all the same");
    assert_eq!(find_unreverted(&ran.journals).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_plays_in_the_background_does_not_hold_the_method_up() {
    let mut beside = program("sleep");
    (beside["background"], beside["pauses"]) = (json!(true), json!({ "before": 2 }));
    let ran =
        run(experiment(http("shop", "up"), json!([beside, program("true"), kill()]), json!([back()]))).await;
    assert_eq!(ran.asked, ["up", "true", "sleep", "up", "true back"]);
    assert_eq!(ran.played.report.verdict, Inconclusive, "what was not done is no pass");
    clean(&ran, "in the background");
}

#[tokio::test(start_paused = true)]
async fn a_secret_goes_where_it_must_and_is_told_nowhere() {
    let mut file = experiment(http("shop", "up"), json!([kill()]), json!([back()]));
    file["secrets"] = json!({ "shop": { "token": { "type": "env", "key": "TOKEN" } } });
    let probe = &mut file["steady-state-hypothesis"]["probes"][0];
    probe["provider"]["headers"] = json!({ "Authorization": "Bearer ${token}" });
    probe["provider"]["url"] = json!("http://shop/${token}");
    let ran = run(file).await;
    assert_eq!(ran.asked[0], "hunter2", "it is filled in");
    assert_eq!(ran.exit, Exit::Pass);
}

#[tokio::test(start_paused = true)]
async fn probes_of_the_cluster_are_asked_of_its_api() {
    let probes = json!([
        python(
            "probe",
            "chaosk8s.pod.probes.pods_in_phase",
            json!({ "label_selector": "app.kubernetes.io/name=redis", "ns": "ai-platform" })
        ),
        python("probe", "chaosk8s.probes.all_microservices_healthy", json!({ "ns": "ai-platform" })),
        python("probe", "chaosk8s.node.probes.all_nodes_must_be_ready_to_schedule", json!({})),
    ]);
    let mut file = experiment(http("shop", "up"), json!([kill()]), json!([back()]));
    file["steady-state-hypothesis"]["probes"] = probes;
    let stage = Stage::new(
        Behaviour { replaces: true, start_ms: 0, ..Behaviour::default() },
        Points::new(Trip::None),
    );
    let ran = stage.run(file).await;
    let before: Vec<_> =
        ran.played.report.findings.iter().filter(|one| one.check.contains("before")).collect();
    assert!(before.len() == 3 && before.iter().all(|one| one.verdict == Pass), "{:#?}", ran.played.report);
    assert_eq!(finding(&ran.played.report, "steady-state after: pods_in_phase").verdict, Pass);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let mut many = kill();
    many["provider"]["arguments"]["qty"] = json!(50);
    let ran = run(experiment(http("shop", "up"), json!([many]), json!([back()]))).await;
    assert!(matches!(ran.played.report.outcome, RunOutcome::Broken(_)));
    assert_eq!((ran.exit, ran.applied.len(), ran.asked.len()), (Exit::SetUp, 0, 0));
}
