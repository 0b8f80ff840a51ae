//! A traffic story: journeys of users, as data. The load generator runs it.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileError, Store, read_yaml};

/// One scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    pub scenario: String,
    #[serde(default)]
    pub description: String,
    /// `namespace/service:port` that the journeys go to.
    pub service: String,
    /// Time between two steps of one logical user, exponentially distributed.
    pub think: Think,
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
    /// Steps made once, in order, before the load; what they extract is shared by all users
    /// as a list, of which each user draws.
    #[serde(default)]
    pub prepare: Vec<Step>,
    pub journeys: Vec<Journey>,
}

fn timeout_default() -> u64 {
    5000
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

/// One request. `${name}` in path and body is replaced: `${op}` a fresh operation id, `${user}` the
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
    /// The store that an acknowledged answer promises to keep the operation in.
    #[serde(default)]
    pub writes: Option<Store>,
    /// Statuses that acknowledge; 200 to 299 when empty.
    #[serde(default)]
    pub accept: Vec<u16>,
    /// Name → JSON pointer (RFC 6901) into the answer, kept for later steps.
    #[serde(default)]
    pub extract: BTreeMap<String, String>,
    /// JSON pointer → value that the answer must have.
    #[serde(default)]
    pub assert: BTreeMap<String, serde_json::Value>,
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
        if self.writes.is_some() && !text.contains("${op}") {
            return Some((
                "writes",
                "needs ${op} in path or body, or the ledger cannot find it again".to_owned(),
            ));
        }
        let pointers = self.extract.values().chain(self.assert.keys());
        let bad = pointers.into_iter().find(|pointer| !pointer.starts_with('/'));
        bad.map(|pointer| ("extract", format!("{pointer} is not a JSON pointer: it must begin with /")))
    }
}
