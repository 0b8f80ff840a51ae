//! The one wrapper around every request: renders, stamps, sends, reads the whole body, judges.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::LoadError;
use super::classify::{Judged, judge_error, judge_status};
use super::script::ScriptStep;
use super::shared::Shared;
use super::spec::ChildSpec;
use super::template::{Escape, Hole, Template};
use super::vars::mix;
use crate::model::{ErrorClass, Method, OpId, Operation, OperationOutcome};

/// A connection that is not there by then is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Even a user who waited long for a lane gives the stack this long, µs.
const PATIENCE_MIN_US: u64 = 100_000;

/// One request to make.
#[derive(Debug)]
pub struct Ask<'a> {
    pub step: &'a ScriptStep,
    /// Of a write, what its ledger finds it by; of all, what traces find it by.
    pub op: String,
    pub user: u32,
    /// Decides `${random}` and what is drawn from the shared lists.
    pub draw: u64,
    pub intended_us: u64,
}

/// The operation, and what its answer held for later steps.
#[derive(Debug)]
pub struct Done {
    pub operation: Operation,
    pub extracted: Vec<(u16, String)>,
}

/// The client of all lanes: no proxy, no redirects, no compression, keep-alive.
///
/// # Errors
/// When the TLS backend cannot be set up.
pub fn client(spec: &ChildSpec, lanes: usize) -> Result<reqwest::Client, LoadError> {
    let mut builder = reqwest::Client::builder();
    if let Some(tls) = &spec.tls {
        let authority =
            reqwest::Certificate::from_pem(tls.authority_pem.as_bytes()).map_err(LoadError::Client)?;
        builder = builder.tls_certs_only([authority]).resolve(&tls.name, tls.address);
    }
    builder
        .user_agent(concat!("mettle/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .no_gzip()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(Duration::from_millis(spec.scenario.timeout_ms))
        .tcp_keepalive(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(lanes)
        .http1_only()
        .build()
        .map_err(LoadError::Client)
}

/// Makes the request, within what is left of the user's patience. A step that polls is made again while its answer says
/// "not yet"; it is one operation, from its first request to its last answer.
pub async fn send(shared: &Shared, ask: &Ask<'_>) -> Done {
    let write = ask.step.writes.is_some();
    let sent_us = shared.clock.now_us();
    let mut extracted = Vec::new();
    let (mut judged, mut status, mut degraded) = once(shared, ask, sent_us, &mut extracted).await;
    if let Some(poll) = &ask.step.poll {
        let until_us = ask.intended_us.saturating_add(shared.script.timeout_us);
        for _ in 1..poll.times_max {
            let pending = status.is_some_and(|status| poll.r#while.contains(&status));
            let next_us = shared.clock.now_us().saturating_add(poll.every_ms.saturating_mul(1000));
            if !pending || next_us >= until_us {
                break;
            }
            tokio::time::sleep(Duration::from_millis(poll.every_ms)).await;
            extracted.clear();
            (judged, status, degraded) = once(shared, ask, shared.clock.now_us(), &mut extracted).await;
        }
    }
    let operation = Operation {
        id: write.then(|| OpId(ask.op.clone())),
        step: ask.step.name.clone(),
        store: ask.step.writes,
        intended_us: ask.intended_us,
        sent_us,
        done_us: shared.clock.now_us(),
        outcome: judged.outcome,
        error: judged.error,
        status,
        degraded,
    };
    Done { operation, extracted }
}

/// One request and its answer; the last is whether the answer says that it was given with less than usual.
async fn once(
    shared: &Shared,
    ask: &Ask<'_>,
    sent_us: u64,
    extracted: &mut Vec<(u16, String)>,
) -> (Judged, Option<u16>, bool) {
    let write = ask.step.writes.is_some();
    let Some(request) = request(shared, ask, sent_us) else {
        return (Judged::failed(ErrorClass::Other), None, false);
    };
    match request.send().await {
        Err(error) => (judge_error(&error, write), None, false),
        Ok(response) => {
            let status = response.status().as_u16();
            let header = ask.step.degraded.as_ref().and_then(|degraded| degraded.header.as_ref());
            let mut degraded = header.is_some_and(|name| response.headers().contains_key(name));
            let judged = answer(shared, ask.step, response, extracted, &mut degraded).await;
            (judged, Some(status), degraded && judged.outcome == OperationOutcome::Ok)
        }
    }
}

/// Reads the whole body and judges status, body and assertions.
async fn answer(
    shared: &Shared,
    step: &ScriptStep,
    mut response: reqwest::Response,
    extracted: &mut Vec<(u16, String)>,
    degraded: &mut bool,
) -> Judged {
    let write = step.writes.is_some();
    let status = response.status().as_u16();
    let accepted = step.accepts(status);
    let keep = !accepted || step.reads_body();
    let (mut body, mut length) = (Vec::new(), 0);
    loop {
        match response.chunk().await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                length += chunk.len();
                if length > shared.spec.limits.body_bytes_max {
                    return Judged::unsure(ErrorClass::Other, write);
                }
                if keep {
                    body.extend_from_slice(&chunk);
                }
            }
            Err(error) => return judge_error(&error, write),
        }
    }
    if !accepted {
        return judge_status(status, &body, write);
    }
    if step.reads_body() && !holds(step, &body, extracted, degraded) {
        extracted.clear();
        return Judged::unsure(ErrorClass::Assertion, write);
    }
    Judged::OK
}

/// Whether the answer has all that the step asserts and extracts.
fn holds(step: &ScriptStep, body: &[u8], extracted: &mut Vec<(u16, String)>, degraded: &mut bool) -> bool {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else {
        return step.extract.is_empty() && step.assert.is_empty();
    };
    // An answer without the mark is whole.
    *degraded |= step.degraded_pointer().and_then(|pointer| answer.pointer(pointer))
        == Some(&serde_json::Value::Bool(true));
    for (index, pointer) in &step.extract {
        let value = match answer.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => other.to_string(),
            _ => return false,
        };
        extracted.push((*index, value));
    }
    step.assert.iter().all(|(pointer, want)| answer.pointer(pointer) == Some(want))
}

/// None when a hole has no value: the caller's mistake, since it checks first.
fn request(shared: &Shared, ask: &Ask<'_>, sent_us: u64) -> Option<reqwest::RequestBuilder> {
    let mut url = String::with_capacity(128);
    url.push_str(&shared.spec.base_url);
    if !render(shared, ask, &ask.step.path, &mut url, Escape::Path) {
        return None;
    }
    let method = match ask.step.method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Delete => reqwest::Method::DELETE,
    };
    let waited_us = sent_us.saturating_sub(ask.intended_us);
    let patience_us = shared.script.timeout_us.saturating_sub(waited_us).max(PATIENCE_MIN_US);
    let mut builder = shared
        .client
        .request(method, url)
        .header("x-operation-id", &ask.op)
        .header("traceparent", traceparent(shared, ask.draw))
        .timeout(Duration::from_micros(patience_us));
    for (name, template) in &ask.step.headers {
        let mut value = String::with_capacity(128);
        if !render(shared, ask, template, &mut value, Escape::Header) {
            return None;
        }
        builder = builder.header(name, value);
    }
    let Some(template) = &ask.step.body else { return Some(builder) };
    let mut body = String::with_capacity(128);
    render(shared, ask, template, &mut body, Escape::Json)
        .then(|| builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body))
}

fn render(shared: &Shared, ask: &Ask<'_>, template: &Template, out: &mut String, escape: Escape) -> bool {
    use std::fmt::Write as _;
    template.render(out, escape, |hole, to| match hole {
        Hole::Op => {
            to.push_str(&ask.op);
            true
        }
        Hole::User => write!(to, "{}-u{}", shared.spec.run, ask.user).is_ok(),
        Hole::Random => write!(to, "{}", mix(ask.draw, 1, 0) >> 33).is_ok(),
        Hole::Own(index) => shared.vars.own(ask.user, index, to),
        Hole::Shared(index) => shared.vars.shared(index, ask.draw, to),
    })
}

/// W3C trace context; the ids follow from the seed and are never zero.
fn traceparent(shared: &Shared, draw: u64) -> String {
    let seed = shared.spec.seed.0;
    format!("00-{:016x}{:016x}-{:016x}-01", mix(seed, draw, 2), draw, mix(seed, draw, 3) | 1)
}
