//! The platform's own scenario; and what the load records of reads, judged against what the server truly holds.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mettle::ledger::{Found, compare};
use mettle::load::Script;
use mettle::model::{LedgerTotals, ListName, OpId, Operation, OperationOutcome, Scenario, Store};

use super::load_support::{Run, Server, scenario};

#[tokio::test]
async fn the_platform_scenario_runs_and_every_write_bears_its_id() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/platform-api.yaml");
    let journey = file.with_file_name("platform-journey.yaml");
    Script::compile(&Scenario::read(&journey).expect("scenario")).expect("compiles");
    let mut platform = Scenario::read(&file).expect("scenario");
    Script::compile(&platform).expect("compiles");
    assert_eq!(platform.service_parts(), Some(("ai-platform", "ai-platform-backend", 80)));
    // Faster than people are, so that a short test sees every step.
    platform.think.mean_ms = 200;
    let server = Server::start().await;
    let mut run = Run::new(&server.url, &scenario(5000, 1000, &["{step: r, method: GET, path: /ok}"]), 24);
    run.spec.scenario = platform;
    let finished = run.run(3.0).await;
    assert!(
        finished.operations.iter().all(|op| op.outcome == OperationOutcome::Ok),
        "{:?}",
        finished.operations.first()
    );
    let count = |step: &str| finished.operations.iter().filter(|op| op.step == step).count();
    assert_eq!(count("prepare.create-model"), 40);
    for step in
        ["reader.get-model", "predictor.predict", "predictor.read-back", "session.append", "session.read"]
    {
        assert!(count(step) > 10, "{step}");
    }
    let seen = server.state.seen.lock().expect("seen");
    assert!(seen.iter().any(|(_, path)| path.starts_with("/api/v1/sessions/r1-u")));
    assert!(seen.iter().any(|(_, path)| path.starts_with("/api/v1/predictions/r1-")));
    drop(seen);
    let writes = finished.operations.iter().filter(|op| !op.writes.is_empty());
    let mut ids: Vec<_> = writes.filter_map(|op| op.id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "ids are unique");
    let [postgres, redis] = ledgers(&finished.operations, &server);
    assert_eq!(postgres.reads as usize, count("reader.get-model") + count("predictor.read-back"));
    assert_eq!(redis.reads as usize, count("session.read"));
    for totals in [postgres, redis] {
        assert!(totals.ok > 10, "{totals:?}");
        let wrong =
            [totals.lost, totals.duplicated, totals.stale_reads, totals.dirty_reads, totals.reordered];
        assert_eq!(wrong, [0; 5], "{totals:?}");
    }
}

#[tokio::test]
async fn a_platform_that_forgets_for_a_while_is_found_out() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/platform-api.yaml");
    let server = Server::start().await;
    let mut run = Run::new(&server.url, &scenario(5000, 1000, &["{step: r, method: GET, path: /ok}"]), 24);
    run.spec.scenario = Scenario::read(&file).expect("scenario");
    run.spec.scenario.think.mean_ms = 200;
    let child = run.spawn();
    let finished = run
        .finish(child, async {
            for forgets in [false, true, false] {
                server.state.forgets.store(forgets, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
    let [postgres, redis] = ledgers(&finished.operations, &server);
    let (not_there, not_known): (Vec<_>, Vec<_>) =
        finished.operations.iter().filter(|op| op.status == Some(404)).partition(|op| op.reads.is_some());
    let not_there = not_there.len();
    assert!(not_there > 5 && not_known.len() > 5, "{not_there} {}", not_known.len());
    assert_eq!((postgres.stale_reads as usize, postgres.dirty_reads), (not_there, 0), "{postgres:?}");
    assert!(redis.stale_reads > 5 && redis.dirty_reads + redis.reordered == 0, "{redis:?}");
}

/// What was recorded, against what the server truly holds: all that it was sent, and its lists.
pub fn ledgers(operations: &[Operation], server: &Server) -> [LedgerTotals; 2] {
    let seen = server.state.seen.lock().expect("seen");
    let sent = |(op, path): &&(String, String)| {
        !op.is_empty() && (path.ends_with("/models") || path.ends_with("/predictions"))
    };
    let rows = seen.iter().filter(sent).map(|(op, _)| OpId::new(op)).collect();
    let lists = server.state.lists.lock().expect("lists");
    let lists = lists.iter().map(|(path, ids)| {
        let user = path.rsplit('/').next().unwrap_or_default();
        (ListName::new(user), ids.iter().map(|id| OpId::new(id)).collect())
    });
    [
        compare(operations, Store::Postgres, &Found::of_ids(rows)),
        compare(operations, Store::Redis, &Found::of_lists(lists.collect())),
    ]
}
