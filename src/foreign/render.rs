//! A rehearsal as a file of ours, without what goes without saying.

use serde_json::{Map, Value};

use crate::model::Rehearsal;

/// The rehearsal as JSON, which is YAML, too.
#[must_use]
pub fn json(rehearsal: &Rehearsal) -> Value {
    pruned(serde_json::to_value(rehearsal).unwrap_or_default())
}

/// The rehearsal as YAML, a fault a line.
#[must_use]
pub fn yaml(rehearsal: &Rehearsal) -> String {
    let value = json(rehearsal);
    let mut text = String::new();
    for key in ["rehearsal", "description", "limits", "schedule"] {
        if let Some(value) = value.get(key) {
            text.push_str(&format!("{key}: {}\n", flow(value)));
        }
    }
    let faults = value.get("faults").and_then(Value::as_array);
    text.push_str(if faults.is_some_and(|faults| !faults.is_empty()) { "faults:\n" } else { "faults: []\n" });
    for fault in faults.into_iter().flatten() {
        text.push_str(&format!("  - {}\n", flow(fault)));
    }
    text
}

/// YAML in one line. Texts are quoted as in JSON, with nothing in them that a parser of YAML could stumble over.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", key_of(key), flow(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn key_of(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { quoted(key) }
}

/// Cannot be read as anything but text.
fn is_plain(text: &str) -> bool {
    let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let meant = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"];
    let letter = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    word && letter && !meant.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Without fields that say nothing: `null`, `0` where that is the default, mappings without fields.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let limits = map.contains_key("controlPlane");
            let kept: Map<String, Value> = map
                .into_iter()
                .map(|(key, value)| (key, pruned(value)))
                .filter(|(key, value)| says(key, value, limits))
                .collect();
            Value::Object(kept)
        }
        Value::Array(list) => list.into_iter().map(pruned).collect(),
        other => other,
    }
}

fn says(key: &str, value: &Value, limits: bool) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        // A label without a value says something: without it the target would be a wider one.
        Value::String(text) => !text.is_empty() || key != "description",
        // `limits` is written out: what it says is what may be hit.
        Value::Number(number) => limits || number.as_u64() != Some(0) || !key.ends_with("Seconds"),
        Value::Bool(truth) => *truth || key != "schedule",
        Value::Array(_) => true,
    }
}
