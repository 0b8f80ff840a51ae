//! The journal of a script in the form of Chaos Toolkit's own, for what reads those. Nothing secret is in it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::log::{Entry, Part, Status};
use super::play::Over;
use crate::model::{RunOutcome, Script};

pub fn journal(script: &Script, over: &Over) -> Value {
    let of = |part: Part| over.entries.iter().filter(move |entry| entry.part == part);
    let runs = |part: Part| of(part).map(|entry| Value::Object(run(script, entry))).collect::<Vec<_>>();
    let (before, after) = (state(script, over, Part::Before), state(script, over, Part::After));
    let deviated = after.get("steady_state_met") == Some(&json!(false));
    let now = Utc::now();
    let taken = (now - over.started).num_milliseconds();
    json!({
        "chaoslib-version": concat!("mettle ", env!("CARGO_PKG_VERSION")),
        "platform": std::env::consts::OS,
        "node": node(),
        "experiment": script.hidden.scrub_value(&script.source),
        "start": stamp(over.started),
        "status": status(over, &before, &after),
        "deviated": deviated,
        "steady_states": { "before": before, "after": after, "during": [] },
        "run": runs(Part::Method),
        "rollbacks": runs(Part::Rollbacks),
        "end": stamp(now),
        "duration": seconds(taken),
    })
}

/// This machine's name.
fn node() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

fn seconds(ms: i64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let seconds = ms as f64 / 1000.0;
    seconds
}

/// One of the four words that there are.
fn status(over: &Over, before: &Value, after: &Value) -> &'static str {
    let failed = |state: &Value| {
        let probes = state.get("probes").and_then(Value::as_array).into_iter().flatten();
        probes.into_iter().any(|probe| probe["status"] != "succeeded")
    };
    match &over.outcome {
        RunOutcome::Stopped(_) => "interrupted",
        RunOutcome::Broken(_) => "aborted",
        RunOutcome::Completed if failed(before) || failed(after) => "failed",
        RunOutcome::Completed => "completed",
    }
}

/// What a hypothesis came to; `null` when it was not asked.
fn state(script: &Script, over: &Over, part: Part) -> Value {
    let asked: Vec<&Entry> = over.entries.iter().filter(|entry| entry.part == part).collect();
    if asked.is_empty() {
        return Value::Null;
    }
    let met = asked.len() == script.probes.len() && asked.iter().all(|entry| entry.is_met());
    let probes = asked.iter().map(|entry| {
        let mut probe = run(script, entry);
        probe.insert("tolerance_met".to_owned(), Value::from(entry.is_met()));
        Value::Object(probe)
    });
    json!({ "steady_state_met": met, "probes": probes.collect::<Vec<_>>() })
}

fn run(script: &Script, entry: &Entry) -> Map<String, Value> {
    let mut run = Map::new();
    let mut put = |key: &str, value: Value| drop(run.insert(key.to_owned(), value));
    put("activity", script.hidden.scrub_value(&entry.activity.written));
    put("output", entry.output.clone());
    put("start", Value::from(stamp(entry.started)));
    let succeeded = entry.status == Status::Succeeded;
    put("status", Value::from(if succeeded { "succeeded" } else { "failed" }));
    if let Some(ended) = entry.ended {
        put("end", Value::from(stamp(ended)));
    }
    put("duration", Value::from(seconds(i64::try_from(entry.took_ms).unwrap_or(i64::MAX))));
    if !succeeded {
        put("exception", json!([script.hidden.scrub(&entry.why)]));
    }
    run
}
