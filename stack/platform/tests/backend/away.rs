//! The service alone: every dependency is away. Needs nothing.

use std::time::{Duration, Instant};

use super::support::{Backend, eventually, free_addr, platform};
use serde_json::json;

fn alone() -> Backend {
    let database = format!("postgres://app@{}/app", free_addr());
    let redis = free_addr().to_string();
    Backend::start(&[("DATABASE_URL", &database), ("REDIS_NODES", &redis), ("DRAIN_SECONDS", "1")])
}

#[test]
fn alive_but_not_ready_and_every_refusal_is_definite() {
    let backend = alone();
    let started = Instant::now();
    assert_eq!(backend.get("/livez").status, 200);
    assert_eq!(backend.get("/readyz").status, 503);

    let model = json!({"op_id": "op-1", "name": "n", "framework": "f"});
    let prediction = json!({"op_id": "op-1", "model_id": 1, "input": null});
    for answer in [
        backend.post("/api/v1/models", &model),
        backend.post("/api/v1/predictions", &prediction),
        backend.post("/api/v1/sessions/alice/events", &json!({"op_id": "op-1"})),
        backend.get("/api/v1/models/1"),
        backend.get("/api/v1/sessions/alice"),
        backend.get("/api/v1/catalog"),
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json()["retryable"], true);
        assert_eq!(answer.json().get("indeterminate"), None);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "refusals are quick: {:?}", started.elapsed());
}

#[test]
fn bad_requests_are_refused_before_any_dependency_is_asked() {
    let backend = alone();
    let big = "x".repeat(70 * 1024);
    for (path, body, status) in [
        ("/api/v1/models", "{}", 400),
        ("/api/v1/models", "not json", 400),
        ("/api/v1/models", r#"{"op_id":"a b","name":"n","framework":"f"}"#, 400),
        ("/api/v1/models", r#"{"op_id":"a","name":"","framework":"f"}"#, 400),
        ("/api/v1/predictions", r#"{"op_id":"a","model_id":"1","input":1}"#, 400),
        ("/api/v1/predictions", r#"{"op_id":"a","model_id":1}"#, 400),
        ("/api/v1/sessions/a:b/events", r#"{"op_id":"a"}"#, 400),
        ("/api/v1/sessions/a/events", r#"{"op_id":""}"#, 400),
        ("/api/v1/models", big.as_str(), 413),
        ("/nowhere", "{}", 404),
    ] {
        let answer = backend.send("POST", path, &[], body);
        assert_eq!(answer.status, status, "{path} {}", answer.text);
        assert_eq!(answer.json()["retryable"], false);
    }
    assert_eq!(backend.get("/api/v1/models/seven").status, 400);
}

#[test]
fn trace_context_and_operation_id_come_back() {
    let backend = alone();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer = backend.send("GET", "/livez", &[("traceparent", &parent), ("x-operation-id", "op-9")], "");
    assert!(answer.header("traceparent").is_some_and(|v| v.contains(trace) && v.ends_with("-01")));
    assert_eq!(answer.header("x-operation-id"), Some("op-9"));
    let answer = backend.send("GET", "/livez", &[("x-operation-id", "no spaces")], "");
    assert_eq!(answer.header("traceparent").map(str::len), Some(55));
    assert_eq!(answer.header("x-operation-id"), None);
}

#[test]
fn sigterm_turns_it_unready_while_it_still_serves_and_then_ends_it() {
    let mut backend = alone();
    backend.terminate();
    eventually("draining", || backend.get("/readyz").text.contains("draining"));
    assert_eq!(backend.get("/livez").status, 200, "still serving");
    let started = Instant::now();
    assert_eq!(backend.wait(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn migrate_gives_up_in_bounded_time_and_says_why() {
    let database = format!("postgres://app@{}/app", free_addr());
    let output = platform("migrate", &[("DATABASE_URL", &database), ("MIGRATE_SECONDS", "2")])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("failed to bring the schema up to date within 2 s"), "{text}");
}

#[test]
fn a_missing_setting_is_a_usage_error() {
    let output = platform("backend", &[]).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DATABASE_URL is not set"));
}
