//! Every role alone: what it needs is away. Needs nothing.

use super::support::{Backend, eventually, free_addr, platform};
use serde_json::json;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn alone(role: &str) -> Backend {
    let (database, nobody) = (format!("postgres://app@{}/app", free_addr()), free_addr().to_string());
    let (amqp, http) = (format!("amqp://u:p@{nobody}/%2f"), format!("http://{nobody}"));
    Backend::start_as(
        role,
        &[
            ("DATABASE_URL", &database),
            ("REDIS_NODES", &nobody),
            ("KAFKA_BROKERS", &nobody),
            ("AMQP_URL", &amqp),
            ("AUTH_URL", &http),
            ("MODEL_URL", &http),
            ("INFERENCE_URL", &http),
            ("ZIPKIN_URL", &http),
            ("TOKEN_KEY", KEY),
            ("DRAIN_SECONDS", "0"),
        ],
    )
}

#[test]
fn alive_not_ready_and_every_refusal_is_definite() {
    let user = json!({"op_id": "op-1", "user": "alice", "password": "correct horse"});
    let model = json!({"op_id": "op-1", "name": "n", "framework": "onnx"});
    let job = json!({"op_id": "op-1", "model_id": 1, "input": {"x": 1}});
    for (role, posts, gets) in [
        ("auth", vec![("/api/v1/users", &user), ("/api/v1/login", &user)], vec![]),
        ("model", vec![("/api/v1/registry/models", &model)], vec!["/api/v1/registry/models/1"]),
        (
            "inference",
            vec![("/api/v1/infer", &job), ("/api/v1/infer/sync", &job)],
            vec!["/api/v1/infer/op-1"],
        ),
        ("decision", vec![("/api/v1/decisions", &job)], vec!["/api/v1/decisions/op-1"]),
    ] {
        let service = alone(role);
        assert_eq!(service.get("/livez").status, 200, "{role}");
        assert_eq!(service.get("/readyz").status, 503, "{role}");
        let answers = posts.iter().map(|(path, body)| service.post_as("some.token", path, body));
        for answer in answers.chain(gets.iter().map(|path| service.get_as("some.token", path))) {
            assert_eq!(answer.status, 503, "{role}: {}", answer.text);
            assert_eq!(answer.json()["retryable"], true);
            assert_eq!(answer.json().get("indeterminate"), None);
        }
    }
}

#[test]
fn who_has_no_token_is_told_so_before_anybody_is_asked() {
    for (role, path) in [("inference", "/api/v1/infer/op-1"), ("decision", "/api/v1/decisions/op-1")] {
        let answer = alone(role).get(path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{role}");
    }
    let auth = alone("auth");
    for token in ["forged", "a.9999999999.alice.00"] {
        assert_eq!(auth.get_as(token, "/api/v1/whoami").status, 401, "costs no read of Redis");
    }
    let short = json!({"op_id": "op", "user": "alice", "password": "short"});
    assert_eq!(auth.post("/api/v1/users", &short).status, 400);
}

#[test]
fn the_frontend_needs_nobody() {
    let frontend = Backend::start_as("frontend", &[("DRAIN_SECONDS", "0")]);
    eventually("readyz", || frontend.get("/readyz").status == 200);
    let page = frontend.get("/");
    assert_eq!(page.status, 200);
    let etag = page.header("etag").expect("an etag");
    assert_eq!(frontend.send("GET", "/", &[("if-none-match", etag)], "").status, 304);
    let (_, rest) = page.text.split_once("src=\"").expect("a script");
    let (script, _) = rest.split_once('"').expect("its end");
    let asset = frontend.get(script);
    assert_eq!(asset.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(frontend.get("/assets/app.000000000000.js").status, 404);
    assert_eq!(frontend.get("/api/frontend/config").json()["api"], "/api/v1");
}

#[test]
fn a_role_without_what_it_needs_is_a_usage_error() {
    for (role, name) in [("auth", "DATABASE_URL"), ("decision", "DATABASE_URL")] {
        let output = platform(role, &[]).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(name));
    }
}
