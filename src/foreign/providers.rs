//! Chaos Toolkit's providers `http` and `process`, as calls that a script makes.

use serde_json::Value;

use super::Out;
use super::fields::Fields;
use super::words::words;
use crate::model::{HttpCall, ProcessCall};

/// Without a timeout of its own; the toolkit would wait for ever.
const HTTP_MS: u64 = 30_000;
const PROCESS_MS: u64 = 300_000;
/// The longest that anything is waited for.
const MS_MAX: f64 = 3_600_000.0;
const RETRIES_MAX: u32 = 10;

/// A call; nothing when something of it is refused.
pub fn http(fields: &mut Fields, out: &mut Out) -> Option<HttpCall> {
    let before = out.refused.len();
    let url = address(fields, out);
    let method = fields.text("method", out).unwrap_or("GET").to_uppercase();
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        out.refuse(fields.at("method"), format!("{method:?} is no method of HTTP"));
    }
    let mut headers = headers(fields, out);
    let (connect_ms, timeout_ms) = timeouts(fields, out);
    let verify_tls = fields.get("verify_tls").is_none() || fields.flag("verify_tls", out);
    let retries = fields.whole("max_retries", out).unwrap_or(0);
    if retries > RETRIES_MAX {
        out.refuse(fields.at("max_retries"), format!("must be at most {RETRIES_MAX}"));
    }
    let at = fields.at("arguments");
    let arguments = fields.get("arguments");
    let json = headers.iter().any(|(name, value)| name == "Content-Type" && value == "application/json");
    let mut url = url?;
    let mut body = None;
    match arguments {
        None => {}
        Some(Value::String(text)) if method == "GET" => url.set_query(Some(text)),
        Some(value) if method != "GET" && json => body = Some(value.to_string().into_bytes()),
        Some(Value::String(text)) => body = Some(text.clone().into_bytes()),
        Some(Value::Object(_)) => match pairs(arguments, &at, out) {
            pairs if method == "GET" => drop(url.query_pairs_mut().extend_pairs(pairs)),
            pairs => {
                // Encoded as a form is, by the means that encode a query.
                let mut form = url.clone();
                form.query_pairs_mut().clear().extend_pairs(pairs);
                body = Some(form.query().unwrap_or_default().as_bytes().to_vec());
                let given = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
                if !headers.iter().any(given) {
                    headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
                }
            }
        },
        Some(_) => out.refuse(at, "must be a mapping of names to values, or text"),
    }
    (out.refused.len() == before).then(|| HttpCall {
        method,
        url: url.into(),
        headers,
        body,
        verify_tls,
        connect_ms,
        timeout_ms,
        retries,
    })
}

fn address(fields: &mut Fields, out: &mut Out) -> Option<reqwest::Url> {
    let at = fields.at("url");
    let Some(text) = fields.text("url", out) else {
        fields.needs("url", "is missing", out);
        return None;
    };
    let url = reqwest::Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        out.refuse(at, format!("{text:?} is no address like http://host/path"));
    }
    url
}

fn headers(fields: &mut Fields, out: &mut Out) -> Vec<(String, String)> {
    let at = fields.at("headers");
    let Some(Value::Object(map)) = fields.get("headers") else {
        if fields.get("headers").is_some() {
            out.refuse(at, "must be a mapping of names to texts");
        }
        return Vec::new();
    };
    let mut headers = Vec::with_capacity(map.len());
    for (name, value) in map {
        let text = plain(value);
        let named = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let text = text.filter(|text| named && reqwest::header::HeaderValue::from_str(text).is_ok());
        match text {
            Some(text) => headers.push((name.clone(), text)),
            None => out.refuse(format!("{at}.{name}"), "is no header: a name, and text without line breaks"),
        }
    }
    headers
}

/// Seconds in all; or two of them, until connected and until answered.
fn timeouts(fields: &mut Fields, out: &mut Out) -> (u64, u64) {
    let at = fields.at("timeout");
    match fields.get("timeout") {
        None => {
            out.note(at, format!("is missing: mettle waits {} s for an answer", HTTP_MS / 1000));
            (HTTP_MS, HTTP_MS)
        }
        Some(Value::Array(two)) => match &two[..] {
            [connect, read] => match (milliseconds(connect), milliseconds(read)) {
                (Some(connect), Some(read)) => (connect, connect + read),
                _ => refused_time(at, out),
            },
            _ => refused_time(at, out),
        },
        Some(one) => match milliseconds(one) {
            Some(ms) => (ms, ms),
            None => refused_time(at, out),
        },
    }
}

fn refused_time(at: String, out: &mut Out) -> (u64, u64) {
    out.refuse(at, "must be seconds, more than 0 and at most 3600");
    (HTTP_MS, HTTP_MS)
}

/// Seconds as a number, or as text that is one.
pub fn milliseconds(value: &Value) -> Option<u64> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let ms = (seconds * 1000.0).ceil();
    // Between 1 and an hour, so it is a whole number that fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (1.0..=MS_MAX).contains(&ms).then_some(ms as u64)
}

/// As Python would print it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(if *truth { "True" } else { "False" }.to_owned()),
        _ => None,
    }
}

/// A value that is a list comes once for each; one that is not given does not come.
fn pairs(arguments: Option<&Value>, at: &str, out: &mut Out) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in arguments.and_then(Value::as_object).into_iter().flatten() {
        let values = match value {
            Value::Null => &[],
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            match plain(value) {
                Some(text) => pairs.push((name.clone(), text)),
                None => out.refuse(
                    format!("{at}.{name}"),
                    "must be text, a number, true or false, or a list of them",
                ),
            }
        }
    }
    pairs
}

/// A program; nothing when something of it is refused.
pub fn process(fields: &mut Fields, out: &mut Out) -> Option<ProcessCall> {
    let before = out.refused.len();
    let path = fields.text("path", out).unwrap_or_default().to_owned();
    if path.is_empty() || path.contains('\0') {
        out.refuse(fields.at("path"), "must name a program");
    }
    let at = fields.at("timeout");
    let timeout_ms = match fields.get("timeout") {
        None => {
            out.note(at, format!("is missing: mettle ends the program after {} s", PROCESS_MS / 1000));
            PROCESS_MS
        }
        Some(value) => milliseconds(value).unwrap_or_else(|| refused_time(at, out).0),
    };
    let at = fields.at("arguments");
    let arguments = match fields.get("arguments") {
        None => Vec::new(),
        Some(Value::String(text)) => words(text).unwrap_or_else(|why| {
            let why = format!(
                "holds {why}, and mettle starts no shell by itself: write a list, or name it: path: sh, arguments: [-c, …]"
            );
            out.refuse(&at, why);
            Vec::new()
        }),
        Some(Value::Array(list)) => list.iter().filter_map(|value| argument(value, &at, out)).collect(),
        Some(Value::Object(map)) => {
            let both = map.iter().flat_map(|(key, value)| [Value::from(key.as_str()), value.clone()]);
            both.filter_map(|value| argument(&value, &at, out)).collect()
        }
        Some(_) => {
            out.refuse(&at, "must be a list, a mapping or text");
            Vec::new()
        }
    };
    if arguments.iter().any(|text| text.contains('\0')) {
        out.refuse(at, "holds a character that no argument can have");
    }
    (out.refused.len() == before).then_some(ProcessCall { path, arguments, timeout_ms })
}

/// What is empty is left out, as there.
fn argument(value: &Value, at: &str, out: &mut Out) -> Option<String> {
    let text = plain(value);
    if text.is_none() && !value.is_null() {
        out.refuse(at, "must hold texts and numbers");
    }
    text.filter(|text| !text.is_empty())
}
