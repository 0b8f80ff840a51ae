//! Journeys of a user through the gateway, counted: each component's own counters must move by what was sent, and all
//! requests of one journey must be one trace through every component that writes spans.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};

use super::prometheus::Prometheus;
use super::routes::{Answer, Gateway};
use super::trace::{TRACED, traced};
use super::{Row, Section, Site, all_of, unseen};
use crate::model::{Finding, Verdict};

const JOURNEYS: usize = 3;
const RESULT_TRIES: usize = 60;
const RESULT_PAUSE: Duration = Duration::from_millis(250);
/// Two scrapes at the slowest pace of an overlay, and a margin.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(45);
pub(super) const SETTLE_TICK: Duration = Duration::from_secs(3);
const DONE: &str = "a user's journey: register, log in, list, infer, result, decide, page";
const COUNTED: &str = "each component's own counters move by what was sent";

/// Component, query, and by how much it moves with each journey. Only what nothing but journeys moves.
const EXACT: [(&str, &str, f64); 13] = [
    (
        "gateway",
        "sum(envoy_http_downstream_rq_total{app=\"gateway\",http_conn_manager_prefix=~\".*8443.*\"})",
        0.0,
    ),
    ("auth", "sum(platform_logins_total{result=\"accepted\"})", 1.0),
    ("auth, users", "sum(http_requests_total{role=\"auth\",route=\"/api/v1/users\",code=\"201\"})", 1.0),
    (
        "model",
        "sum(http_requests_total{role=\"model\",route=\"/api/v1/registry/models\",method=\"POST\",code=\"201\"})",
        1.0,
    ),
    ("inference", "sum(http_requests_total{role=\"inference\",route=\"/api/v1/infer\",code=\"202\"})", 1.0),
    ("rabbitmq", "sum(platform_publishes_total{result=\"confirmed\"})", 1.0),
    ("celery", "sum(celery_tasks_total{outcome=\"done\"})", 1.0),
    ("decision", "sum(platform_decisions_total{basis=\"inference\"})", 1.0),
    ("kafka, model events", "sum(platform_outbox_sent_total{topic=\"model-events\"})", 1.0),
    ("kafka, results", "sum(platform_outbox_sent_total{topic=\"inference-results\"})", 1.0),
    ("kafka, decisions", "sum(platform_outbox_sent_total{topic=\"decisions\"})", 1.0),
    ("backend", "sum(http_requests_total{role=\"backend\",route=\"/api/v1/catalog\",code=\"200\"})", 1.0),
    ("rabbitmq, its own", "sum(rabbitmq_global_messages_received_total)", 1.0),
];

/// The same, of what also moves by itself: at least so much a journey.
const AT_LEAST: [(&str, &str, f64); 7] = [
    ("postgres", "sum(pg_stat_database_xact_commit{datname=\"ai_platform\"})", 5.0),
    ("pgbouncer", "sum(pgbouncer_stats_sql_transactions_pooled_total)", 5.0),
    ("redis", "sum(redis_commands_processed_total)", 3.0),
    ("kafka, its own", "sum(kafka_server_brokertopicmetrics_messagesin_total)", 3.0),
    ("zookeeper", "sum(packets_received)", 1.0),
    ("edge", "sum(varnish_main_client_req{app=\"edge\"})", 2.0),
    ("zipkin", "sum(zipkin_collector_spans_total)", 30.0),
];

pub async fn rows(site: &Site) -> Vec<Row> {
    let row = |claims: &[&str], finding| Row::new(Section::Journey, claims, finding);
    let not = |why: &str| {
        vec![
            row(&["K4/journey"], unseen(DONE, why)),
            row(&["M1/rate"], unseen(COUNTED, why)),
            row(&["M5"], unseen(TRACED, why)),
        ]
    };
    let opened = tokio::join!(Gateway::open(site), Prometheus::open(site));
    let (gateway, prometheus) = match opened {
        (Ok(gateway), Ok(prometheus)) => (gateway, prometheus),
        (Err(why), _) => return not(&why),
        (_, Err(why)) => return not(&why.to_string()),
    };
    let before = match quiet(&prometheus).await {
        Ok(before) => before,
        Err(why) => return not(&why),
    };
    let mut requests = 0;
    let mut traces = Vec::new();
    for _ in 0..JOURNEYS {
        let mut user = User::new(&gateway);
        if let Err(why) = user.journey().await {
            let failed = Finding::new(DONE, Verdict::Fail, why);
            let why = "the journey failed";
            return vec![
                row(&["K4/journey"], failed),
                row(&["M1/rate"], unseen(COUNTED, why)),
                row(&["M5"], unseen(TRACED, why)),
            ];
        }
        requests += user.requests;
        traces.push(user.trace);
    }
    let done =
        Finding::new(DONE, Verdict::Pass, format!("{JOURNEYS} journeys, {requests} requests, none failed"));
    vec![
        row(&["K4/journey"], done),
        row(&["M1/rate"], counted(&prometheus, &before, requests).await),
        row(&["M5"], traced(site, &traces).await),
    ]
}

/// Component → value. A counter that nothing has moved yet has no series.
pub(super) type Counters = BTreeMap<&'static str, f64>;

async fn read(prometheus: &Prometheus) -> Result<Counters, String> {
    let mut counters = Counters::new();
    for (name, query, _) in EXACT.into_iter().chain(AT_LEAST) {
        counters.insert(name, prometheus.number(query).await?.unwrap_or(0.0));
    }
    Ok(counters)
}

/// The counters, once nobody else moves them.
pub(super) async fn quiet(prometheus: &Prometheus) -> Result<Counters, String> {
    let end = tokio::time::Instant::now() + SETTLE_MAX;
    let mut last = read(prometheus).await?;
    let mut still = 0;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(SETTLE_TICK).await;
        let now = read(prometheus).await?;
        let moved = EXACT.iter().find(|(name, ..)| now[name] != last[name]).map(|(name, ..)| *name);
        still = if moved.is_none() { still + 1 } else { 0 };
        last = now;
        // Three looks: longer than the pace of the overlay's scrapes.
        if still >= 3 {
            return Ok(last);
        }
    }
    Err("somebody else uses the stack: its counters do not stand still".to_owned())
}

async fn counted(prometheus: &Prometheus, before: &Counters, requests: usize) -> Finding {
    let end = tokio::time::Instant::now() + SETTLE_MAX;
    let mut last = unseen(COUNTED, "nothing was read");
    let mut good = 0;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(SETTLE_TICK).await;
        match read(prometheus).await {
            Ok(after) => last = moved(before, &after, requests),
            Err(why) => return unseen(COUNTED, why),
        }
        // A counter that goes on moving after it was right was not ours alone.
        good = if last.verdict == Verdict::Pass { good + 1 } else { 0 };
        if good >= 3 {
            break;
        }
    }
    last
}

fn moved(before: &Counters, after: &Counters, requests: usize) -> Finding {
    let by = |name: &str| after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    let journeys = JOURNEYS as f64;
    let mut wrong = Vec::new();
    let mut evidence = Vec::new();
    for (name, _, each) in EXACT {
        // How often a result is asked for depends on how long it takes: the gateway's share is what was sent.
        let wanted = if name == "gateway" { requests as f64 } else { each * journeys };
        evidence.push(format!("{name} +{}", by(name)));
        if (by(name) - wanted).abs() > 0.5 {
            wrong.push(format!("{name} moved by {}, not {wanted}", by(name)));
        }
    }
    for (name, _, each) in AT_LEAST {
        let wanted = each * journeys;
        evidence.push(format!("{name} +{}", by(name)));
        if by(name) < wanted {
            wrong.push(format!("{name} moved by {}, not by {wanted} or more", by(name)));
        }
    }
    let count = EXACT.len() + AT_LEAST.len();
    if wrong.is_empty() {
        return all_of(
            COUNTED,
            count,
            &format!("counters ({JOURNEYS} journeys): {}", evidence.join(", ")),
            wrong,
        );
    }
    all_of(COUNTED, count, "counters", wrong)
}

/// One new user, and everything that it does.
struct User<'a> {
    gateway: &'a Gateway,
    name: String,
    trace: String,
    token: String,
    requests: usize,
}

impl<'a> User<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        let id: u128 = rand::rng().random();
        let trace = format!("{id:032x}");
        Self { gateway, name: format!("verify-{}", &trace[..16]), trace, token: String::new(), requests: 0 }
    }

    async fn ask(
        &mut self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, String> {
        let span: u64 = rand::rng().random();
        let mut request = self.gateway.http.request(method, format!("{}{path}", self.gateway.base));
        request = request
            .header("x-b3-traceid", &self.trace)
            .header("x-b3-spanid", format!("{span:016x}"))
            .header("x-b3-sampled", "1");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.requests += 1;
        self.gateway.send(request).await.map_err(|why| format!("{path}: {why}"))
    }

    /// A JSON answer of the wanted status.
    async fn post(&mut self, path: &str, body: Value, status: u16) -> Result<Value, String> {
        let answer = self.ask(reqwest::Method::POST, path, Some(body)).await?;
        wanted(path, &answer, status)?;
        serde_json::from_str(&answer.body).map_err(|error| format!("{path}: {error}"))
    }

    async fn get(&mut self, path: &str) -> Result<Answer, String> {
        let answer = self.ask(reqwest::Method::GET, path, None).await?;
        wanted(path, &answer, 200)?;
        Ok(answer)
    }

    async fn journey(&mut self) -> Result<(), String> {
        let (user, password) = (self.name.clone(), format!("{}-password", self.name));
        let account = json!({ "op_id": user, "user": user, "password": password });
        self.post("/api/v1/users", account, 201).await?;
        let session = self.post("/api/v1/login", json!({ "user": user, "password": password }), 200).await?;
        session["token"].as_str().ok_or("the log-in gave no token")?.clone_into(&mut self.token);
        let new = json!({ "op_id": format!("{user}-model"), "name": "verify", "framework": "onnx" });
        let model = self.post("/api/v1/registry/models", new, 201).await?["id"].clone();
        self.get("/api/v1/registry/models?limit=5").await?;
        let job = format!("{user}-job");
        let input = json!({ "text": "hello", "n": [1, 2] });
        self.post("/api/v1/infer", json!({ "op_id": job, "model_id": model, "input": input }), 202).await?;
        self.result(&job, &model, &input).await?;
        let asked = json!({ "op_id": format!("{user}-decision"), "model_id": model, "input": input });
        let decision = self.post("/api/v1/decisions", asked, 201).await?;
        if decision["degraded"] != false {
            return Err(format!("the decision is degraded: {decision}"));
        }
        self.get("/api/v1/catalog?limit=5").await?;
        // The page must reach its origin to be in the trace: an address that no edge has yet.
        self.get(&format!("/?{}", self.name)).await?;
        self.get("/api/frontend/config").await?;
        Ok(())
    }

    async fn result(&mut self, job: &str, model: &Value, input: &Value) -> Result<(), String> {
        let path = format!("/api/v1/infer/{job}");
        for _ in 0..RESULT_TRIES {
            let answer = self.ask(reqwest::Method::GET, &path, None).await?;
            if answer.status != 202 {
                wanted(&path, &answer, 200)?;
                let done: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
                let wanted = digest(model, input);
                return if done["status"] == "done" && done["output"]["digest"] == wanted.as_str() {
                    Ok(())
                } else {
                    Err(format!("{path}: the result is not that of this input (digest {wanted}): {done}"))
                };
            }
            tokio::time::sleep(RESULT_PAUSE).await;
        }
        Err(format!("{path}: no result after {RESULT_TRIES} looks"))
    }
}

/// What the workers must make of an input: FNV-1a over the model's number and the input in compact JSON, keys in order.
fn digest(model: &Value, input: &Value) -> String {
    let text = format!("{model}:{input}");
    let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    format!("{hash:016x}")
}

pub(super) fn wanted(path: &str, answer: &Answer, status: u16) -> Result<(), String> {
    if answer.status == status {
        return Ok(());
    }
    let start: String = answer.body.chars().take(120).collect();
    Err(format!("{path} answers {}, not {status}: {start}", answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Pass};

    fn counters(exact: f64, at_least: f64) -> Counters {
        let exact = EXACT.iter().map(|(name, _, each)| (*name, exact * each));
        exact.chain(AT_LEAST.iter().map(|(name, _, each)| (*name, at_least * each))).collect()
    }

    #[test]
    fn counters_must_move_by_exactly_what_was_sent() {
        let journeys = JOURNEYS as f64;
        for (exact, at_least, requests, verdict) in [
            (journeys, journeys, 0, Pass),
            (journeys, journeys * 5.0, 0, Pass),
            (journeys - 1.0, journeys, 0, Fail),
            (journeys + 1.0, journeys, 0, Fail),
            (journeys, journeys - 1.0, 0, Fail),
            (journeys, journeys, 7, Fail),
        ] {
            let finding = moved(&counters(0.0, 0.0), &counters(exact, at_least), requests);
            assert_eq!(finding.verdict, verdict, "{exact} {at_least} {requests}");
        }
    }

    #[test]
    fn the_digest_is_the_workers() {
        // What the worker's own function gives for infer(1, {"text": "hello", "n": [1, 2]}).
        assert_eq!(digest(&json!(1), &json!({ "text": "hello", "n": [1, 2] })), "9fdfe8b9f65c25b2");
        assert_ne!(digest(&json!(2), &json!({ "text": "hello", "n": [1, 2] })), "9fdfe8b9f65c25b2");
    }
}
