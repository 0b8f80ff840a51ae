//! The services together, on real servers: PostgreSQL, Redis Cluster, RabbitMQ (with the exchange `platform.tasks` and the
//! quorum queue `inference.jobs`) and Kafka (the topics are made when they are not there).
//!
//! ```text
//! PLATFORM_TEST_DATABASE_URL=… PLATFORM_TEST_REDIS_NODES=… PLATFORM_TEST_KAFKA_BROKERS=127.0.0.1:9092 \
//! PLATFORM_TEST_AMQP_URL=amqp://ai_user:secret@127.0.0.1:5672/%2f \
//!     cargo test --test backend journey -- --ignored --test-threads=1
//! ```

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lapin::options::{BasicAckOptions, BasicGetOptions};
use rskafka::client::ClientBuilder;
use serde_json::{Value, json};

use super::support::{Backend, eventually, free_addr, needed, platform, unique};

const DATABASE: &str = "PLATFORM_TEST_DATABASE_URL";
const REDIS: &str = "PLATFORM_TEST_REDIS_NODES";
const KAFKA: &str = "PLATFORM_TEST_KAFKA_BROKERS";
const AMQP: &str = "PLATFORM_TEST_AMQP_URL";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEEDS: &str = "needs PostgreSQL, Redis, RabbitMQ and Kafka";
const PASSWORD: &str = "correct horse";

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// Stands for what a tracing server receives.
fn span_sink() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/api/v2/spans", listener.local_addr().expect("an address"));
    let spans = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&spans);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let into = Arc::clone(&into);
            thread::spawn(move || {
                let (mut text, mut part) = (Vec::new(), [0_u8; 64 * 1024]);
                while let Ok(n @ 1..) = stream.read(&mut part) {
                    text.extend_from_slice(&part[..n]);
                    let all = String::from_utf8_lossy(&text).into_owned();
                    let Some((_, body)) = all.split_once("\r\n\r\n") else { continue };
                    let Ok(batch) = serde_json::from_str::<Vec<Value>>(body) else { continue };
                    into.lock().expect("spans").extend(batch);
                    text.clear();
                    let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, spans)
}

async fn make_topics() {
    let client = ClientBuilder::new(vec![needed(KAFKA)]).build().await.expect("kafka");
    let there = client.list_topics().await.expect("topics");
    let controller = client.controller_client().expect("controller");
    for topic in ["model-events", "inference-results", "decisions"] {
        if !there.iter().any(|found| found.name == topic) {
            controller.create_topic(topic, 6, 1, 10_000).await.expect("a topic");
        }
    }
}

struct Platform {
    auth: Backend,
    model: Backend,
    inference: Option<Backend>,
    decision: Backend,
    token: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

fn start(amqp: &str) -> Platform {
    let status = platform("migrate", &[("DATABASE_URL", &needed(DATABASE))]).status();
    assert!(status.is_ok_and(|status| status.success()), "migrate");
    run(make_topics());
    let (zipkin, spans) = span_sink();
    let (database, redis, kafka) = (needed(DATABASE), needed(REDIS), needed(KAFKA));
    let with = |role: &str, more: &[(&str, &str)]| {
        let mut env = vec![
            ("DATABASE_URL", database.as_str()),
            ("KAFKA_BROKERS", &kafka),
            ("ZIPKIN_URL", &zipkin),
            ("DRAIN_SECONDS", "0"),
        ];
        env.extend_from_slice(more);
        Backend::start_as(role, &env)
    };
    let url = |service: &Backend| format!("http://{}", service.addr);
    let auth = with("auth", &[("REDIS_NODES", &redis), ("TOKEN_KEY", KEY)]);
    let model = with("model", &[]);
    let inference = with("inference", &[("AMQP_URL", amqp), ("AUTH_URL", &url(&auth))]);
    let peers = [("AUTH_URL", url(&auth)), ("MODEL_URL", url(&model)), ("INFERENCE_URL", url(&inference))];
    let decision = with("decision", &peers.each_ref().map(|(name, value)| (*name, value.as_str())));
    for service in [&auth, &model, &inference, &decision] {
        eventually("readyz", || service.get("/readyz").status == 200);
    }
    let user = unique("user");
    eventually("a registration and a log-in", || {
        let body = json!({"op_id": user, "user": user, "password": PASSWORD});
        matches!(auth.post("/api/v1/users", &body).status, 200 | 201)
            && auth.post("/api/v1/login", &body).status == 200
    });
    let login = auth.post("/api/v1/login", &json!({"user": user, "password": PASSWORD}));
    let token = login.json()["token"].as_str().expect("a token").to_owned();
    Platform { auth, model, inference: Some(inference), decision, token, spans }
}

impl Platform {
    fn inference(&self) -> &Backend {
        self.inference.as_ref().expect("inference runs")
    }

    fn new_model(&self) -> i64 {
        let body = json!({"op_id": unique("model"), "name": "ranker", "framework": "onnx"});
        let answer = self.model.post("/api/v1/registry/models", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(self.model.post("/api/v1/registry/models", &body).status, 200, "again");
        answer.json()["id"].as_i64().expect("an id")
    }

    fn decide(&self, model_id: i64) -> Value {
        let body = json!({"op_id": unique("decision"), "model_id": model_id, "input": {"x": 1}});
        let answer = self.decision.post_as(&self.token, "/api/v1/decisions", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        let again = self.decision.post_as(&self.token, "/api/v1/decisions", &body);
        assert_eq!((again.status, again.json()), (200, answer.json()), "the first decision stands");
        answer.json()
    }
}

#[test]
#[ignore = "needs PostgreSQL, Redis, RabbitMQ and Kafka"]
fn a_token_lives_from_log_in_to_log_out() {
    let platform = start(&needed(AMQP));
    let auth = &platform.auth;
    let user = unique("user");
    let body = json!({"op_id": user, "user": user, "password": PASSWORD});
    assert_eq!(
        (auth.post("/api/v1/users", &body).status, auth.post("/api/v1/users", &body).status),
        (201, 200)
    );
    let other = json!({"op_id": unique("op"), "user": user, "password": PASSWORD});
    assert_eq!(auth.post("/api/v1/users", &other).status, 409);
    let wrong = json!({"user": user, "password": "battery staple"});
    assert_eq!(auth.post("/api/v1/login", &wrong).status, 401);
    let nobody = json!({"user": unique("nobody"), "password": PASSWORD});
    assert_eq!(auth.post("/api/v1/login", &nobody).status, 401);
    let started = Instant::now();
    let login = auth.post("/api/v1/login", &body).json();
    eprintln!("{NEEDS}: a log-in took {:?}", started.elapsed());
    let token = login["token"].as_str().expect("a token");
    assert_eq!(auth.get_as(token, "/api/v1/whoami").json()["user"], *user);
    let forged = format!("{}0", &token[..token.len() - 1]);
    let forged = if forged == token { format!("{}1", &token[..token.len() - 1]) } else { forged };
    assert_eq!(auth.get_as(&forged, "/api/v1/whoami").status, 401);
    assert_eq!(auth.post_as(token, "/api/v1/logout", &json!({})).json()["ended"], true);
    assert_eq!(auth.get_as(token, "/api/v1/whoami").status, 401);
    assert_eq!(auth.post_as(token, "/api/v1/logout", &json!({})).json()["ended"], false, "idempotent");
}

#[test]
#[ignore = "needs PostgreSQL, Redis, RabbitMQ and Kafka"]
fn a_job_reaches_the_queue_once_and_its_result_is_polled() {
    let platform = start(&needed(AMQP));
    let (inference, token) = (platform.inference(), &platform.token);
    let (model_id, op_id) = (platform.new_model(), unique("job"));
    let job = json!({"op_id": op_id, "model_id": model_id, "input": {"x": 1.5, "a": [null]}});
    eventually("rabbitmq", || inference.post_as(token, "/api/v1/infer", &job).status == 202);
    assert_eq!(inference.post_as(token, "/api/v1/infer", &job).status, 202, "again");
    let path = format!("/api/v1/infer/{op_id}");
    let pending = inference.get_as(token, &path);
    assert_eq!((pending.status, &pending.json()["status"]), (202, &json!("pending")));
    assert_eq!(inference.get_as(token, "/api/v1/infer/never-sent").status, 404);
    let orphan = json!({"op_id": unique("job"), "model_id": i64::MAX, "input": 1});
    assert_eq!(inference.post_as(token, "/api/v1/infer", &orphan).status, 404);

    let found = run(async {
        let url = needed(AMQP);
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
        let channel = connection.await.expect("rabbitmq").create_channel().await.expect("a channel");
        let mut found = 0;
        while let Some(message) =
            channel.basic_get("inference.jobs".into(), BasicGetOptions::default()).await.expect("get")
        {
            let body: Value = serde_json::from_slice(&message.delivery.data).expect("JSON");
            if body[0][0] == *op_id {
                assert_eq!(body[0], json!([op_id, model_id, {"x": 1.5, "a": [null]}]));
                assert_eq!(message.delivery.routing_key.as_str(), "inference.onnx");
                assert!(message.delivery.properties.headers().is_some());
                found += 1;
            }
            message.delivery.ack(BasicAckOptions::default()).await.expect("ack");
        }
        // What a worker does with it.
        let (client, connection) =
            tokio_postgres::connect(&needed(DATABASE), tokio_postgres::NoTls).await.expect("postgres");
        tokio::spawn(connection);
        let sql = format!(
            "INSERT INTO inferences (op_id, model_id, input, output, worker) VALUES ('{op_id}', {model_id}, \
             '{{}}', '{{\"label\": \"positive\"}}', 'w1')"
        );
        client.batch_execute(&sql).await.expect("a result");
        found
    });
    assert_eq!(found, 1, "sent twice, published once");
    let done = inference.get_as(token, &path);
    assert_eq!((done.status, &done.json()["output"]["label"]), (200, &json!("positive")));
    // The trigger's event, through the outbox.
    let sent = r#"platform_outbox_sent_total{topic="inference-results"}"#;
    eventually("inference-results", || inference.metric(sent) >= 1.0);
    assert_eq!(inference.metric(r#"platform_publishes_total{result="confirmed"}"#), 1.0);
}

#[test]
#[ignore = "needs PostgreSQL, Redis, RabbitMQ and Kafka"]
fn without_rabbitmq_a_job_is_refused_and_forgotten() {
    let platform = start(&format!("amqp://u:p@{}/%2f", free_addr()));
    let (inference, op_id) = (platform.inference(), unique("job"));
    let job = json!({"op_id": op_id, "model_id": platform.new_model(), "input": 1});
    let answer = inference.post_as(&platform.token, "/api/v1/infer", &job);
    assert_eq!((answer.status, answer.json().get("indeterminate")), (503, None), "{}", answer.text);
    assert_eq!(inference.get_as(&platform.token, &format!("/api/v1/infer/{op_id}")).status, 404);
    assert_eq!(inference.get("/readyz").status, 200, "rabbitmq does not matter for readiness");
    assert_eq!(inference.post_as(&platform.token, "/api/v1/infer/sync", &job).status, 200);
}

#[test]
#[ignore = "needs PostgreSQL, Redis, RabbitMQ and Kafka"]
fn a_decision_is_made_with_what_is_there() {
    let mut platform = start(&needed(AMQP));
    let model_id = platform.new_model();
    let whole = platform.decide(model_id);
    assert_eq!((&whole["degraded"], &whole["detail"]["basis"]), (&json!(false), &json!("inference")));
    let unknown = json!({"op_id": unique("decision"), "model_id": i64::MAX, "input": 1});
    let answer = platform.decision.post_as(&platform.token, "/api/v1/decisions", &unknown);
    assert_eq!(answer.status, 404, "{}", answer.text);
    let events = r#"platform_outbox_sent_total{topic="model-events"}"#;
    eventually("model-events", || platform.model.metric(events) >= 1.0);
    // Through Kafka, in memory: known by the time that inference is away.
    platform.inference = None;
    eventually("features", || {
        let made = platform.decide(model_id);
        made["degraded"] == true && made["detail"]["basis"] == "features"
    });
    let sent = r#"platform_outbox_sent_total{topic="decisions"}"#;
    eventually("decisions", || platform.decision.metric(sent) >= 2.0);
    eventually("no backlog", || {
        platform.decision.metric(r#"platform_outbox_backlog{topic="decisions"}"#) == 0.0
    });
}

#[test]
#[ignore = "needs PostgreSQL, Redis, RabbitMQ and Kafka"]
fn one_request_is_one_trace_down_to_the_stores() {
    let platform = start(&needed(AMQP));
    let model_id = platform.new_model();
    let trace = format!("{:032x}", std::process::id());
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let authorization = format!("Bearer {}", platform.token);
    let body = json!({"op_id": unique("decision"), "model_id": model_id, "input": 1}).to_string();
    let headers = [("traceparent", parent.as_str()), ("authorization", authorization.as_str())];
    let answer = platform.decision.send("POST", "/api/v1/decisions", &headers, &body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    let seen = || -> Vec<(String, String)> {
        let spans = platform.spans.lock().expect("spans");
        let ours = spans.iter().filter(|span| span["traceId"] == *trace);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ours.map(|span| {
            (text(&span["localEndpoint"]["serviceName"]), text(&span["remoteEndpoint"]["serviceName"]))
        })
        .collect()
    };
    let wanted = [
        ("ai-platform-decision", "model"),
        ("ai-platform-decision", "inference"),
        ("ai-platform-decision", "postgres"),
        ("ai-platform-decision", "kafka"),
        ("ai-platform-decision", "auth"),
        ("ai-platform-model", ""),
        ("ai-platform-inference", ""),
        ("ai-platform-auth", "redis"),
    ];
    let has = |seen: &[(String, String)], (local, remote): (&str, &str)| {
        seen.iter().any(|(l, r)| l == local && r == remote)
    };
    let started = Instant::now();
    while !wanted.iter().all(|want| has(&seen(), *want)) {
        assert!(started.elapsed() < Duration::from_secs(10), "seen: {:?}", seen());
        thread::sleep(Duration::from_millis(100));
    }
}
