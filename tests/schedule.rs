//! A rehearsal whose faults are one schedule, against the in-memory cluster: a row each, and nothing is left.

mod fake;

use std::sync::Arc;

use fake::{Behaviour, FakeWorld, Points, Trip, Undoing};
use mettle::foreign::{Surroundings, translate};
use mettle::model::Verdict::{Fail, Inconclusive, Pass};
use mettle::model::{Rehearsal, RehearsalRow, RunId, Seed};
use mettle::run::{Rehearsing, Stop, find_unreverted};
use serde_json::{Value, json};

/// A workflow: a partition and a killed pod at the same time, and a hung server after them.
fn workflow() -> Value {
    let selector = |name: &str| json!({ "labelSelectors": { "app.kubernetes.io/name": name } });
    let chaos = |name: &str, kind: &str, key: &str, deadline: &str, spec: Value| {
        let mut template = json!({ "name": name, "templateType": kind, "deadline": deadline });
        template[key] = spec;
        template
    };
    let cut =
        json!({ "action": "loss", "mode": "one", "selector": selector("redis"), "loss": { "loss": "100" } });
    let kill = json!({ "action": "pod-kill", "mode": "one", "selector": selector("backend") });
    json!({
        "apiVersion": "chaos-mesh.org/v1alpha1", "kind": "Workflow",
        "metadata": { "name": "w", "namespace": "ai-platform" },
        "spec": { "entry": "all", "templates": [
            { "name": "all", "templateType": "Serial", "deadline": "60s", "children": ["both", "rest", "cut"] },
            { "name": "both", "templateType": "Parallel", "children": ["cut", "later"] },
            { "name": "later", "templateType": "Serial", "children": ["rest", "kill"] },
            { "name": "rest", "templateType": "Suspend", "deadline": "3s" },
            chaos("cut", "NetworkChaos", "networkChaos", "10s", cut),
            chaos("kill", "PodChaos", "podChaos", "1s", kill),
        ] },
    })
}

fn rehearsal() -> Rehearsal {
    let around = Surroundings { namespace: "ai-platform".to_owned(), ..Surroundings::default() };
    let translation = translate(&workflow(), &around).expect("it is of Chaos Mesh");
    assert_eq!(translation.refused, []);
    translation.rehearsal
}

async fn together(behaviour: Behaviour, points: Points, stop: Stop) -> (Vec<RehearsalRow>, bool) {
    let world = Arc::new(FakeWorld::new(behaviour, points));
    let directory = tempfile::tempdir().unwrap();
    let rehearsal = rehearsal();
    let rehearsing = Rehearsing {
        world: &world,
        stop: &stop,
        run: &RunId("t1n0".to_owned()),
        seed: Seed(7),
        limits: rehearsal.limits.clone(),
        cluster: "fake",
        journals: directory.path(),
        hook: None,
    };
    let rows = rehearsing.together(&rehearsal).await;
    (rows, find_unreverted(directory.path()).unwrap().is_empty())
}

#[test]
fn a_workflow_has_its_times() {
    let rehearsal = rehearsal();
    assert!(rehearsal.schedule);
    let times: Vec<_> = rehearsal
        .faults
        .iter()
        .map(|fault| (fault.kind.as_str(), fault.at_seconds, fault.hold_seconds))
        .collect();
    // The list of two lasts as long as the longer of them.
    assert_eq!(times, [("net-loss", 0, 10), ("pod-kill", 3, 0), ("net-loss", 13, 10)]);
    assert_eq!(rehearsal.limits.pods, 3);
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_schedule_bites_and_nothing_is_left() {
    let begun = tokio::time::Instant::now();
    let (rows, clean) = together(Behaviour::default(), Points::new(Trip::None), Stop::default()).await;
    assert!(rows.iter().all(|row| row.verdict == Pass && !row.evidence.is_empty()), "{rows:#?}");
    assert_eq!((rows.len(), clean), (3, true));
    assert!(begun.elapsed().as_secs() >= 23, "each was held for its whole time: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_no_pass_and_is_reverted() {
    let ignoring = Behaviour { ignores_changes: true, ..Behaviour::default() };
    let (rows, clean) = together(ignoring, Points::new(Trip::None), Stop::default()).await;
    assert!(rows.iter().all(|row| row.verdict == Inconclusive) && clean, "{rows:#?}");
    let panics = Points::new(Trip::Panic { name: "apply:after", nth: 2 });
    let (rows, clean) = together(Behaviour::default(), panics, Stop::default()).await;
    assert!(rows.iter().all(|row| row.verdict == Inconclusive && row.why.contains("the schedule failed")));
    assert!(clean);
    let failing = Behaviour { undoing: Undoing::Fails, ..Behaviour::default() };
    let (rows, clean) = together(failing, Points::new(Trip::None), Stop::default()).await;
    assert!(rows.iter().all(|row| row.verdict == Fail && !row.residue.is_empty()) && !clean);
    let stop = Stop::default();
    let soon = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(8)).await;
        soon.interrupt("SIGINT");
    });
    let (rows, clean) = together(Behaviour::default(), Points::new(Trip::None), stop).await;
    assert!(rows.iter().all(|row| row.verdict == Inconclusive && row.why == "stopped") && clean, "{rows:#?}");
}

/// What cannot be said in seconds is refused, and not guessed.
#[test]
fn a_schedule_that_has_no_times_is_refused() {
    let around = Surroundings { namespace: "ai-platform".to_owned(), ..Surroundings::default() };
    let refused = |pointer: &str, value: Value| {
        let mut file = workflow();
        match value {
            Value::Null => drop(
                file.pointer_mut("/spec/templates/5").unwrap().as_object_mut().unwrap().remove("deadline"),
            ),
            value => *file.pointer_mut(pointer).unwrap() = value,
        }
        let refused = translate(&file, &around).unwrap().refused;
        refused
            .into_iter()
            .map(|remark| format!("{}: {}", remark.path, remark.why))
            .collect::<Vec<_>>()
            .join("\n")
    };
    // A list that is cut short.
    let told = refused("/spec/templates/0/deadline", json!("20s"));
    assert!(told.starts_with("spec.templates[0].deadline: would cut"), "{told}");
    // Something without an end that another waits for.
    let told = refused("/spec/templates/5/deadline", Value::Null);
    assert!(told.starts_with("spec.templates[0].children[0]: both has no deadline"), "{told}");
    // One without an end that nobody waits for is no matter.
    let mut last = workflow();
    last["spec"]["templates"][0]["children"] = json!(["rest", "both"]);
    last["spec"]["templates"][0].as_object_mut().unwrap().remove("deadline");
    last["spec"]["templates"][5].as_object_mut().unwrap().remove("deadline");
    let translation = translate(&last, &around).unwrap();
    assert_eq!(translation.refused, []);
    assert_eq!(translation.rehearsal.faults.iter().map(|fault| fault.at_seconds).collect::<Vec<_>>(), [3, 6]);
}
