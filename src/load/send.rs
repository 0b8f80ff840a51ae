//! The one wrapper around every request: renders, stamps, sends, reads the whole body, judges.

use std::cell::Cell;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::LoadError;
use super::classify::{Judged, judge_error, judge_status};
use super::script::{ReadWhat, ScriptStep};
use super::shared::Shared;
use super::spec::ChildSpec;
use super::template::{Escape, Hole, Template};
use super::vars::{Value, mix};
use crate::model::{ErrorClass, ListName, Method, OpId, Operation, OperationOutcome, Seen, Store};

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
    pub extracted: Vec<(u16, Value)>,
}

/// The client of all lanes: no proxy, no redirects, no compression, and keep-alive unless the scenario wants none.
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
        .pool_max_idle_per_host(if spec.scenario.keep_alive { lanes } else { 0 })
        .http1_only()
        .build()
        .map_err(LoadError::Client)
}

/// Makes the request, within what is left of the user's patience. A step that polls is made again while its answer says
/// "not yet"; it is one operation, from its first request to its last answer.
pub async fn send(shared: &Shared, ask: &Ask<'_>) -> Done {
    let sent_us = shared.clock.now_us();
    let mut answer = once(shared, ask, sent_us).await;
    if let Some(poll) = &ask.step.poll {
        let until_us = ask.intended_us.saturating_add(shared.script.timeout_us);
        for _ in 1..poll.times_max {
            let pending = answer.status.is_some_and(|status| poll.r#while.contains(&status));
            let next_us = shared.clock.now_us().saturating_add(poll.every_ms.saturating_mul(1000));
            if !pending || next_us >= until_us {
                break;
            }
            tokio::time::sleep(Duration::from_millis(poll.every_ms)).await;
            answer = once(shared, ask, shared.clock.now_us()).await;
        }
    }
    let own = (!ask.step.writes.is_empty()).then(|| OpId::new(&ask.op));
    let (reads, of, seen) = answer.says(shared, ask);
    let operation = Operation {
        id: own.or(of),
        step: ask.step.name,
        writes: ask.step.writes,
        reads,
        intended_us: ask.intended_us,
        sent_us,
        done_us: shared.clock.now_us(),
        outcome: answer.judged.outcome,
        error: answer.judged.error,
        status: answer.status,
        degraded: answer.degraded && answer.judged.outcome == OperationOutcome::Ok,
        seen,
    };
    let value = |(index, text): (u16, String)| (index, Value { text: text.into(), of: own });
    Done { operation, extracted: answer.extracted.into_iter().map(value).collect() }
}

/// What one request came to.
struct Answer {
    judged: Judged,
    status: Option<u16>,
    /// It says that it was given with less than usual.
    degraded: bool,
    /// Of a read of one object: the write that made it.
    of: Option<OpId>,
    /// It says that this object is not there.
    missing: bool,
    extracted: Vec<(u16, String)>,
    /// Of a read of a list: all of its elements.
    list: Option<Vec<OpId>>,
}

impl Answer {
    fn without(judged: Judged) -> Self {
        Self {
            judged,
            status: None,
            degraded: false,
            of: None,
            missing: false,
            extracted: Vec::new(),
            list: None,
        }
    }

    /// What the answer says of a store: which one, and the object or the list. Nothing unless it is certain.
    fn says(&mut self, shared: &Shared, ask: &Ask<'_>) -> (Option<Store>, Option<OpId>, Option<Box<Seen>>) {
        let Some(reads) = &ask.step.reads else { return (None, None, None) };
        let there = self.judged.outcome == OperationOutcome::Ok;
        match &reads.what {
            ReadWhat::Object { .. } if there || self.missing => {
                (self.of.and(Some(reads.store)), self.of, None)
            }
            ReadWhat::List { .. } if there => {
                let list = ListName::new(&user_name(shared, ask.user));
                let seen = self.list.take().map(|ids| Box::new(Seen { list, kept: 0, then: ids.into() }));
                (seen.is_some().then_some(reads.store), None, seen)
            }
            _ => (None, None, None),
        }
    }
}

/// One request and its answer.
async fn once(shared: &Shared, ask: &Ask<'_>, sent_us: u64) -> Answer {
    let write = !ask.step.writes.is_empty();
    let of = Cell::new(None);
    let Some(request) = request(shared, ask, sent_us, &of) else {
        return Answer::without(Judged::failed(ErrorClass::Other));
    };
    match request.send().await {
        Err(error) => Answer::without(judge_error(&error, write)),
        Ok(response) => {
            let mut found = Answer::without(Judged::OK);
            (found.status, found.of) = (Some(response.status().as_u16()), of.get());
            let mark = ask.step.degraded.as_ref().and_then(|degraded| degraded.header.as_ref());
            found.degraded = mark.is_some_and(|name| response.headers().contains_key(name));
            found.judged = answer(shared, ask.step, response, &mut found).await;
            found
        }
    }
}

/// Reads the whole body and judges status, body and assertions.
async fn answer(
    shared: &Shared,
    step: &ScriptStep,
    mut response: reqwest::Response,
    found: &mut Answer,
) -> Judged {
    let write = !step.writes.is_empty();
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
        found.missing = step.is_missing(status, &body);
        return judge_status(status, &body, write);
    }
    if step.reads_body() && !holds(step, &body, found) {
        (found.extracted, found.list) = (Vec::new(), None);
        return Judged::unsure(ErrorClass::Assertion, write);
    }
    Judged::OK
}

/// Whether the answer has all that the step asserts, extracts and reads.
fn holds(step: &ScriptStep, body: &[u8], found: &mut Answer) -> bool {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else {
        return step.extract.is_empty() && step.assert.is_empty() && step.list().is_none();
    };
    // An answer without the mark is whole.
    found.degraded |= step.degraded_pointer().and_then(|pointer| answer.pointer(pointer))
        == Some(&serde_json::Value::Bool(true));
    for (index, pointer) in &step.extract {
        let value = match answer.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => other.to_string(),
            _ => return false,
        };
        found.extracted.push((*index, value));
    }
    if let Some((at, more)) = step.list() {
        let elements = answer.pointer(at).and_then(serde_json::Value::as_array);
        let ids: Option<Vec<OpId>> =
            elements.and_then(|ids| ids.iter().map(|id| id.as_str().map(OpId::new)).collect());
        let whole = more.is_none_or(|more| answer.pointer(more).is_none_or(serde_json::Value::is_null));
        let Some(ids) = ids else { return false };
        found.list = whole.then_some(ids);
    }
    step.assert.iter().all(|(pointer, want)| answer.pointer(pointer) == Some(want))
}

/// None when a hole has no value: the caller's mistake, since it checks first. `of` becomes the write that made the object
/// which the path names.
fn request(
    shared: &Shared,
    ask: &Ask<'_>,
    sent_us: u64,
    of: &Cell<Option<OpId>>,
) -> Option<reqwest::RequestBuilder> {
    let mut url = String::with_capacity(128);
    url.push_str(&shared.spec.base_url);
    if !render(shared, ask, &ask.step.path, &mut url, Escape::Path, of) {
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
    let other = Cell::new(None);
    for (name, template) in &ask.step.headers {
        let mut value = String::with_capacity(128);
        if !render(shared, ask, template, &mut value, Escape::Header, &other) {
            return None;
        }
        builder = builder.header(name, value);
    }
    let Some(template) = &ask.step.body else { return Some(builder) };
    let mut body = String::with_capacity(128);
    render(shared, ask, template, &mut body, Escape::Json, &other)
        .then(|| builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body))
}

fn render(
    shared: &Shared,
    ask: &Ask<'_>,
    template: &Template,
    out: &mut String,
    escape: Escape,
    of: &Cell<Option<OpId>>,
) -> bool {
    use std::fmt::Write as _;
    // The value and its write in one look: another lane may give the user a new one at any time.
    let given = |hole: Hole, value: Option<Option<OpId>>| {
        if ask.step.reads_object() == Some(hole) {
            of.set(value.flatten());
        }
        value.is_some()
    };
    template.render(out, escape, |hole, to| match hole {
        Hole::Op => {
            to.push_str(&ask.op);
            true
        }
        Hole::User => {
            to.push_str(&user_name(shared, ask.user));
            true
        }
        Hole::Random => write!(to, "{}", mix(ask.draw, 1, 0) >> 33).is_ok(),
        Hole::Own(index) => given(hole, shared.vars.own(ask.user, index, to)),
        Hole::Shared(index) => given(hole, shared.vars.shared(index, ask.draw, to)),
    })
}

fn user_name(shared: &Shared, user: u32) -> String {
    format!("{}-u{user}", shared.spec.run)
}

/// W3C trace context; the ids follow from the seed and are never zero.
fn traceparent(shared: &Shared, draw: u64) -> String {
    let seed = shared.spec.seed.0;
    format!("00-{:016x}{:016x}-{:016x}-01", mix(seed, draw, 2), draw, mix(seed, draw, 3) | 1)
}
