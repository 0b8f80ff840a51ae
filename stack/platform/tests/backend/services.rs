//! The service on a real PostgreSQL and a real Redis Cluster.
//!
//! ```text
//! PLATFORM_TEST_DATABASE_URL=postgres://app:secret@127.0.0.1:6432/app \
//! PLATFORM_TEST_REDIS_NODES=127.0.0.1:7001,127.0.0.1:7002 \
//!     cargo test --test backend -- --ignored
//! ```
//!
//! The database may be behind PgBouncer in transaction pooling. Its host must be an address.

use std::net::SocketAddr;
use std::thread;

use super::support::{Backend, Cut, cutting_proxy, eventually, free_addr, needed, platform, unique};
use serde_json::{Value, json};

const DATABASE: &str = "PLATFORM_TEST_DATABASE_URL";
const REDIS: &str = "PLATFORM_TEST_REDIS_NODES";

fn migrate() {
    let status = platform("migrate", &[("DATABASE_URL", &needed(DATABASE))]).status();
    assert!(status.is_ok_and(|s| s.success()), "migrate");
}

fn start(database: &str, redis: &str) -> Backend {
    migrate();
    let backend =
        Backend::start(&[("DATABASE_URL", database), ("REDIS_NODES", redis), ("DRAIN_SECONDS", "0")]);
    eventually("readyz", || backend.get("/readyz").status == 200);
    backend
}

fn started() -> Backend {
    let backend = start(&needed(DATABASE), &needed(REDIS));
    eventually("redis", || backend.get("/api/v1/sessions/nobody").status == 200);
    backend
}

fn new_model(backend: &Backend) -> i64 {
    let body = json!({"op_id": unique("model"), "name": "ranker", "framework": "onnx"});
    let answer = backend.post("/api/v1/models", &body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["id"].as_i64().expect("an id")
}

fn prediction_count(backend: &Backend, model_id: i64) -> i64 {
    let catalog = backend.get("/api/v1/catalog?limit=100").json();
    let models = catalog["models"].as_array().expect("models");
    let model = models.iter().find(|m| m["id"] == model_id).expect("a recent model");
    model["prediction_count"].as_i64().expect("a count")
}

fn prediction(op_id: &str, model_id: i64) -> Value {
    json!({"op_id": op_id, "model_id": model_id, "input": {"text": "hello", "n": [1, 2.5, null]}})
}

/// The test database's address, and its URL with another.
fn through(proxy: impl FnOnce(SocketAddr) -> SocketAddr) -> String {
    let url = needed(DATABASE);
    let (head, rest) = url.rsplit_once('@').expect("user@host");
    let (host, path) = rest.split_once('/').expect("host/database");
    let upstream = host.parse().unwrap_or_else(|e| panic!("{DATABASE} needs address:port, not {host}: {e}"));
    format!("{head}@{}/{path}", proxy(upstream))
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn migrations_run_side_by_side_and_again() {
    let runs: Vec<_> = (0..4).map(|_| thread::spawn(migrate)).collect();
    for run in runs {
        run.join().expect("migrate");
    }
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL and PLATFORM_TEST_REDIS_NODES"]
fn a_model_is_created_once_and_read_through_the_levels() {
    let backend = started();
    let op_id = unique("model");
    let body = json!({"op_id": op_id, "name": "ranker", "framework": "onnx"});
    let first = backend.post("/api/v1/models", &body);
    let again = backend.post("/api/v1/models", &body);
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json(), again.json());
    assert_eq!(first.json()["op_id"], *op_id);

    let path = format!("/api/v1/models/{}", first.json()["id"]);
    let levels: Vec<_> = (0..2)
        .map(|_| {
            let answer = backend.get(&path);
            assert_eq!((answer.status, answer.header("x-degraded")), (200, None), "{}", answer.text);
            assert_eq!(answer.json()["op_id"], *op_id);
            answer.header("x-cache").map(str::to_owned)
        })
        .collect();
    assert_eq!(levels, [Some("primary".into()), Some("local".into())]);
    let other = started();
    assert_eq!(other.get(&path).header("x-cache"), Some("redis"));
    assert_eq!(backend.get("/api/v1/models/9223372036854775807").status, 404);
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL and PLATFORM_TEST_REDIS_NODES"]
fn a_prediction_counts_once_however_often_it_is_sent() {
    let backend = started();
    let model_id = new_model(&backend);
    let ops: Vec<String> = (0..20).map(|_| unique("op")).collect();
    let codes: Vec<u16> = thread::scope(|scope| {
        let posts: Vec<_> = ops
            .iter()
            .chain(&ops)
            .chain(&ops)
            .map(|op| scope.spawn(|| backend.post("/api/v1/predictions", &prediction(op, model_id)).status))
            .collect();
        posts.into_iter().map(|post| post.join().expect("an answer")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 20, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 40, "{codes:?}");
    assert_eq!(prediction_count(&backend, model_id), 20);

    let stored = backend.get(&format!("/api/v1/predictions/{}", ops[0]));
    assert_eq!((stored.status, &stored.json()["model_id"]), (200, &json!(model_id)));
    assert_eq!(backend.get("/api/v1/predictions/never-sent").status, 404);
    let orphan = backend.post("/api/v1/predictions", &prediction(&unique("op"), i64::MAX));
    assert_eq!(orphan.status, 404, "{}", orphan.text);
    let nul = json!({"op_id": unique("op"), "model_id": model_id, "input": "a\u{0}b"});
    assert_eq!(backend.post("/api/v1/predictions", &nul).status, 400);
    assert_eq!(prediction_count(&backend, model_id), 20);
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL and PLATFORM_TEST_REDIS_NODES"]
fn a_session_keeps_its_events_in_order() {
    let backend = started();
    let user = unique("user");
    for n in 1..=3 {
        let body = json!({"op_id": format!("op-{n}")});
        let answer = backend.post(&format!("/api/v1/sessions/{user}/events"), &body);
        assert_eq!((answer.status, &answer.json()["length"]), (201, &json!(n)));
    }
    let events = backend.get(&format!("/api/v1/sessions/{user}")).json();
    assert_eq!(events, json!({"events": ["op-1", "op-2", "op-3"]}));
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn a_commit_without_an_answer_is_indeterminate_and_the_retry_finds_it_done() {
    let url = through(|upstream| cutting_proxy(upstream, b"COMMIT\0", Cut::After));
    let backend = start(&url, "");
    // The proxy cuts one connection: the model goes in beside it.
    let model_id = new_model(&start(&needed(DATABASE), ""));
    let op_id = unique("op");
    let answer = backend.post("/api/v1/predictions", &prediction(&op_id, model_id));
    assert_eq!(answer.status, 504, "{}", answer.text);
    assert_eq!(answer.json()["indeterminate"], true);
    assert_eq!(backend.metric(r#"platform_indeterminate_total{dependency="database"}"#), 1.0);
    assert_eq!(backend.get(&format!("/api/v1/predictions/{op_id}")).status, 200, "it was committed");
    assert_eq!(backend.post("/api/v1/predictions", &prediction(&op_id, model_id)).status, 200);
    assert_eq!(prediction_count(&backend, model_id), 1);
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn a_commit_that_never_left_is_indeterminate_too() {
    let url = through(|upstream| cutting_proxy(upstream, b"COMMIT\0", Cut::Before));
    let backend = start(&url, "");
    let model_id = new_model(&start(&needed(DATABASE), ""));
    let op_id = unique("op");
    assert_eq!(backend.post("/api/v1/predictions", &prediction(&op_id, model_id)).status, 504);
    assert_eq!(backend.get(&format!("/api/v1/predictions/{op_id}")).status, 404, "it was not committed");
    assert_eq!(backend.post("/api/v1/predictions", &prediction(&op_id, model_id)).status, 201);
    assert_eq!(prediction_count(&backend, model_id), 1);
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn a_connection_lost_before_commit_is_a_definite_503() {
    for word in [&b"INSERT INTO predictions"[..], b"UPDATE models"] {
        let url = through(|upstream| cutting_proxy(upstream, word, Cut::After));
        let backend = start(&url, "");
        let model_id = new_model(&backend);
        let op_id = unique("op");
        let answer = backend.post("/api/v1/predictions", &prediction(&op_id, model_id));
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(backend.get(&format!("/api/v1/predictions/{op_id}")).status, 404);
        assert_eq!(backend.post("/api/v1/predictions", &prediction(&op_id, model_id)).status, 201);
        assert_eq!(prediction_count(&backend, model_id), 1);
    }
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn a_stale_connection_at_begin_is_replaced_unseen() {
    let url = through(|upstream| cutting_proxy(upstream, b"BEGIN;", Cut::Before));
    let backend = start(&url, "");
    new_model(&backend);
}

#[test]
#[ignore = "needs PLATFORM_TEST_DATABASE_URL"]
fn without_redis_reads_are_degraded_and_quick() {
    let redis = free_addr().to_string();
    let backend = start(&needed(DATABASE), &redis);
    let model_id = new_model(&backend);
    let answer = backend.get(&format!("/api/v1/models/{model_id}"));
    assert_eq!((answer.status, answer.header("x-degraded")), (200, Some("redis")));
    assert_eq!(answer.header("x-cache"), Some("primary"));
    assert_eq!(backend.post("/api/v1/sessions/alice/events", &json!({"op_id": "op-1"})).status, 503);
    assert_eq!(backend.get("/readyz").status, 200, "redis does not matter for readiness");
    assert!(backend.metric(r#"platform_degraded_total{dependency="redis"}"#) >= 1.0);
}
