//! A traffic story: journeys of users, as data. The load generator runs it.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileError, Store, Stores, read_yaml};

/// One scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    pub scenario: String,
    #[serde(default)]
    pub description: String,
    /// `namespace/service:port` that the journeys go to.
    pub service: String,
    /// Secret of the service's namespace whose `ca.crt` signed the service's certificate. With it requests go over
    /// TLS, and nothing else is trusted.
    #[serde(default)]
    pub authority: Option<String>,
    /// Time between two steps of one logical user, exponentially distributed.
    pub think: Think,
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
    /// Whether requests go over connections that are there already; else each has one of its own.
    #[serde(default = "keep_alive_default")]
    pub keep_alive: bool,
    /// Steps made once, in order, before the load; what they extract is shared by all users
    /// as a list, of which each user draws.
    #[serde(default)]
    pub prepare: Vec<Step>,
    pub journeys: Vec<Journey>,
}

fn timeout_default() -> u64 {
    5000
}

fn keep_alive_default() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Think {
    pub mean_ms: u64,
}

/// What one kind of user does, in order, then again from the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journey {
    pub journey: String,
    /// Share of the users, relative to the other journeys' weights.
    pub weight: u32,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// The same request again while the answer says "not yet": one step, one operation, judged by its last answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Poll {
    /// The statuses that say "not yet".
    pub r#while: Vec<u16>,
    pub every_ms: u64,
    /// Requests at most; the step's patience (`timeoutMs`) ends it, too.
    pub times_max: u32,
}

/// What marks an answer that was given with less than usual: a feature is away, the answer is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Degraded {
    /// The answer has this header, whatever its value.
    #[serde(default)]
    pub header: Option<String>,
    /// JSON pointer (RFC 6901) to a value that is `true`.
    #[serde(default)]
    pub pointer: Option<String>,
}

/// What the answer of a read says of a store, so that it can be held against what was acknowledged before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reads {
    pub store: Store,
    /// Of one object: the variable in the path that names it, which an acknowledged write gave. 404 says that it is not there.
    #[serde(default)]
    pub of: Option<String>,
    /// With `of`: what the body of such a 404 holds. One without it is not the store's word: a router that knows no way, a
    /// server that took another's address.
    #[serde(default)]
    pub missing: Option<String>,
    /// Of the user's own list: JSON pointer to the operation ids in it, in their order.
    #[serde(default)]
    pub list: Option<String>,
    /// With `list`: JSON pointer to what only a partial answer has. Such an answer is not recorded.
    #[serde(default)]
    pub more: Option<String>,
}

/// One request. `${name}` in path, headers and body is replaced: `${op}` a fresh operation id, `${user}` the
/// logical user, `${random}` a number, else what an earlier step extracted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    pub step: String,
    pub method: Method,
    pub path: String,
    /// JSON, as text, after replacement.
    #[serde(default)]
    pub body: Option<String>,
    /// Beside those that every request has.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Reads only.
    #[serde(default)]
    pub poll: Option<Poll>,
    /// The stores that an acknowledged answer promises to keep the operation in: one, or a list.
    #[serde(default)]
    #[schemars(with = "Vec<Store>")]
    pub writes: Stores,
    /// What the answer says of a store.
    #[serde(default)]
    pub reads: Option<Reads>,
    /// Statuses that acknowledge; 200 to 299 when empty.
    #[serde(default)]
    pub accept: Vec<u16>,
    /// Name → JSON pointer (RFC 6901) into the answer, kept for later steps.
    #[serde(default)]
    pub extract: BTreeMap<String, String>,
    /// JSON pointer → value that the answer must have.
    #[serde(default)]
    pub assert: BTreeMap<String, serde_json::Value>,
    /// How an answer says that it was given with less than usual. It stays an answer: nothing fails by it.
    #[serde(default)]
    pub degraded: Option<Degraded>,
    /// `prepare` only: how often the step is made.
    #[serde(default)]
    pub repeat: Option<u32>,
}

impl Scenario {
    /// Reads and validates one file.
    ///
    /// # Errors
    /// When the file cannot be read, has another shape, or asks for what cannot be meant.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        read_yaml(path, Self::problem)
    }

    /// The first thing that cannot be meant: field path and sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let at = |field: &str, message: &str| Some((field.to_owned(), message.to_owned()));
        if self.journeys.is_empty() || self.journeys.iter().all(|journey| journey.weight == 0) {
            return at("journeys", "must list at least one journey with a weight above 0");
        }
        if self.think.mean_ms == 0 {
            return at("think.meanMs", "must be at least 1");
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            return at("timeoutMs", "must be 100 to 60000");
        }
        if self.service_parts().is_none() {
            return at("service", "must be namespace/service:port");
        }
        for (j, journey) in self.journeys.iter().enumerate() {
            if journey.steps.is_empty() {
                return Some((format!("journeys[{j}].steps"), "must list at least one step".to_owned()));
            }
            for (s, step) in journey.steps.iter().enumerate() {
                if let Some((field, message)) = step.problem() {
                    return Some((format!("journeys[{j}].steps[{s}].{field}"), message));
                }
            }
        }
        let prepare = self.prepare.iter().enumerate();
        prepare.filter_map(|(s, step)| step.problem().map(|(f, m)| (format!("prepare[{s}].{f}"), m))).next()
    }

    /// Whether a step of this name (`journey.step` or `step`) is among the journeys', and if one says what marks a
    /// degraded answer.
    #[must_use]
    pub fn marks_degraded(&self, name: &str) -> Option<bool> {
        let steps = self.journeys.iter().flat_map(|journey| {
            journey.steps.iter().map(|step| (format!("{}.{}", journey.journey, step.step), step))
        });
        let named = steps.filter(|(full, step)| full == name || step.step == name);
        let mut marks = named.map(|(_, step)| step.degraded.is_some()).peekable();
        marks.peek()?;
        Some(marks.any(|marks| marks))
    }

    /// Namespace, service and port of `service`.
    #[must_use]
    pub fn service_parts(&self) -> Option<(&str, &str, u16)> {
        let (namespace, rest) = self.service.split_once('/')?;
        let (service, port) = rest.split_once(':')?;
        Some((namespace, service, port.parse().ok()?))
    }
}

impl Step {
    fn problem(&self) -> Option<(&'static str, String)> {
        if !self.path.starts_with('/') {
            return Some(("path", "must begin with /".to_owned()));
        }
        let text = format!("{}{}", self.path, self.body.as_deref().unwrap_or_default());
        if !self.writes.is_empty() && !text.contains("${op}") {
            return Some((
                "writes",
                "needs ${op} in path or body, or the ledger cannot find it again".to_owned(),
            ));
        }
        if let Some(message) = self.headers.keys().find_map(|name| header_problem(name)) {
            return Some(("headers", message));
        }
        if let Some(message) = self.poll.as_ref().and_then(|poll| self.poll_problem(poll)) {
            return Some(("poll", message));
        }
        if let Some(message) = self.degraded.as_ref().and_then(Degraded::problem) {
            return Some(("degraded", message));
        }
        if let Some(message) = self.reads.as_ref().and_then(|reads| self.reads_problem(reads)) {
            return Some(("reads", message));
        }
        let pointers = self.extract.values().chain(self.assert.keys());
        let bad = pointers.into_iter().find(|pointer| !pointer.starts_with('/'));
        bad.map(|pointer| ("extract", format!("{pointer} is not a JSON pointer: it must begin with /")))
    }

    fn reads_problem(&self, reads: &Reads) -> Option<String> {
        if self.method != Method::Get || !self.writes.is_empty() {
            return Some("is for GET without writes".to_owned());
        }
        let bad = [&reads.list, &reads.more].into_iter().flatten().find(|pointer| !pointer.starts_with('/'));
        if let Some(pointer) = bad {
            return Some(format!("{pointer} is not a JSON pointer: it must begin with /"));
        }
        let path = |name: &str| self.path.contains(&format!("${{{name}}}"));
        match (&reads.of, &reads.list) {
            (Some(_), None) if reads.more.is_some() => Some("takes more only with list".to_owned()),
            (None, Some(_)) if reads.missing.is_some() => Some("takes missing only with of".to_owned()),
            (Some(_), None) if reads.missing.as_ref().is_some_and(String::is_empty) => {
                Some("needs some text in missing: none at all is in every body".to_owned())
            }
            (Some(of), None) => (!path(of)).then(|| format!("names ${{{of}}}, which the path does not hold")),
            (None, Some(_)) if !reads.store.keeps_order() => {
                Some(format!("{} keeps no lists: use of", reads.store.as_str()))
            }
            (None, Some(_)) => (!path("user")).then(|| "of a list needs ${user} in the path".to_owned()),
            _ => Some("needs either of or list".to_owned()),
        }
    }

    fn poll_problem(&self, poll: &Poll) -> Option<String> {
        if self.method != Method::Get || !self.writes.is_empty() {
            return Some("is for reads: a write would be made again".to_owned());
        }
        if poll.r#while.is_empty() || !(1..=60_000).contains(&poll.every_ms) {
            return Some("needs at least one status in while, and everyMs of 1 to 60000".to_owned());
        }
        if !(2..=1000).contains(&poll.times_max) {
            return Some("needs timesMax of 2 to 1000".to_owned());
        }
        // By default every 2xx acknowledges, and 202 would end the step at once.
        let accepted = |status: &u16| {
            if self.accept.is_empty() { *status / 100 == 2 } else { self.accept.contains(status) }
        };
        let both = poll.r#while.iter().find(|status| accepted(status))?;
        Some(format!("waits while {both}, which accept takes as an answer"))
    }
}

impl Degraded {
    fn problem(&self) -> Option<String> {
        match (&self.header, &self.pointer) {
            (Some(name), None) if is_header_name(name) => None,
            (Some(name), None) => Some(format!("{name:?} is not a header's name in lower case")),
            (None, Some(pointer)) if pointer.starts_with('/') => None,
            (None, Some(pointer)) => Some(format!("{pointer} is not a JSON pointer: it must begin with /")),
            _ => Some("needs exactly one of header, pointer".to_owned()),
        }
    }
}

fn is_header_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(plain)
}

/// Names that a request may not set: ours, and those that HTTP itself needs.
const HEADERS_KEPT: [&str; 7] = [
    "x-operation-id",
    "traceparent",
    "host",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
];

fn header_problem(name: &str) -> Option<String> {
    if !is_header_name(name) {
        return Some(format!("{name:?} is not a header's name in lower case"));
    }
    HEADERS_KEPT.contains(&name).then(|| format!("{name} is set by the generator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Option<(&'static str, String)> {
        let text = format!("{{step: s, path: /, {text}}}");
        let step: Step = super::super::parse_yaml(Path::new("s.yaml"), &text).expect("a step");
        step.problem()
    }

    #[test]
    fn headers_and_polls_are_checked() {
        let poll = |what: &str| format!("method: GET, accept: [200], poll: {{{what}}}");
        let good = poll("while: [202], everyMs: 200, timesMax: 20");
        assert_eq!(step(&good), None);
        assert_eq!(step("method: GET, headers: {authorization: 'Bearer ${token}'}"), None);
        assert_eq!(step("method: GET, degraded: {header: x-degraded}"), None);
        assert_eq!(step("method: GET, degraded: {pointer: /degraded}"), None);
        for (text, field) in [
            ("method: GET, headers: {Authorization: x}".to_owned(), "headers"),
            ("method: GET, headers: {'a b': x}".to_owned(), "headers"),
            ("method: GET, headers: {traceparent: x}".to_owned(), "headers"),
            (poll("while: [], everyMs: 200, timesMax: 20"), "poll"),
            (poll("while: [202], everyMs: 0, timesMax: 20"), "poll"),
            (poll("while: [202], everyMs: 200, timesMax: 1"), "poll"),
            (poll("while: [200], everyMs: 200, timesMax: 20"), "poll"),
            (good.replace("GET", "POST"), "poll"),
            ("method: GET, degraded: {}".to_owned(), "degraded"),
            ("method: GET, degraded: {header: a, pointer: /b}".to_owned(), "degraded"),
            ("method: GET, degraded: {header: X-Degraded}".to_owned(), "degraded"),
            ("method: GET, degraded: {pointer: b}".to_owned(), "degraded"),
            (good.replace("accept: [200], ", ""), "poll"),
        ] {
            assert_eq!(step(&text).map(|(field, _)| field), Some(field), "{text}");
        }
    }

    #[test]
    fn what_a_read_says_is_checked() {
        let read = |path: &str, what: &str| {
            let text = format!("{{step: s, method: GET, path: '{path}', reads: {{{what}}}}}");
            let step: Step = super::super::parse_yaml(Path::new("s.yaml"), &text).expect("a step");
            step.problem().map(|(field, message)| format!("{field} {message}"))
        };
        assert_eq!(read("/m/${id}", "store: postgres, of: id"), None);
        assert_eq!(read("/s/${user}", "store: redis, list: /events, more: /next"), None);
        for (path, what, says) in [
            ("/m/1", "store: postgres, of: id", "which the path does not hold"),
            ("/m/${id}", "store: postgres", "either of or list"),
            ("/m/${id}/${user}", "store: redis, of: id, list: /e", "either of or list"),
            ("/m/${id}", "store: redis, of: id, more: /e", "more only with list"),
            ("/s/${user}", "store: redis, list: /e, missing: gone", "missing only with of"),
            ("/m/${id}", "store: redis, of: id, missing: ''", "some text in missing"),
            ("/s/${user}", "store: postgres, list: /e", "keeps no lists"),
            ("/s/1", "store: redis, list: /e", "needs ${user}"),
            ("/s/${user}", "store: redis, list: e", "not a JSON pointer"),
        ] {
            let message = read(path, what).expect(what);
            assert!(message.starts_with("reads ") && message.contains(says), "{message}");
        }
        assert_eq!(
            step("method: POST, reads: {store: redis, list: /e}").map(|(field, _)| field),
            Some("reads")
        );
    }

    #[test]
    fn a_step_may_write_to_several_stores() {
        let text = "{step: s, method: POST, path: '/${op}', writes: [jobs, kafka]}";
        let step: Step = super::super::parse_yaml(Path::new("s.yaml"), text).expect("a step");
        assert_eq!(step.writes.iter().collect::<Vec<_>>(), [Store::Jobs, Store::Kafka]);
        let one: Step =
            super::super::parse_yaml(Path::new("s.yaml"), &text.replace("[jobs, kafka]", "redis"))
                .expect("a step");
        assert!(one.writes.contains(Store::Redis) && one.problem().is_none());
    }
}
