//! What the parent tells its load child: one JSON file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LoadError;
use crate::model::{RunId, Scenario, Seed};

/// Users of one process. A million was measured to fit one core.
const USERS_MAX: u32 = 1_000_000;
/// Half of the 20,000 descriptors that a process may have on a small machine.
const LANES_MAX: usize = 8192;
const LANES_MIN: usize = 16;

/// The load of one run, complete: the child needs nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildSpec {
    pub scenario: Scenario,
    /// `http://address:port` or `https://name:port`, without a path.
    pub base_url: String,
    /// Of an `https` base: where the name is, and whom to trust.
    #[serde(default)]
    pub tls: Option<Tls>,
    pub users: u32,
    /// So many in all when the load steps up; as ever when absent.
    #[serde(default)]
    pub step_users: Option<u32>,
    /// Requests in flight at once, at most. Absent: enough for every user to wait for a full timeout.
    #[serde(default)]
    pub lanes: Option<usize>,
    pub seed: Seed,
    pub run: RunId,
    /// CLOCK_MONOTONIC at the run's time 0, ns.
    pub clock_origin_ns: u64,
    /// Where the operations go, a JSON line each; created, never overwritten in silence: appended to.
    pub operations_path: PathBuf,
    #[serde(default)]
    pub limits: ChildLimits,
}

/// How a service is reached by TLS. Its certificate is checked against this authority and the name in the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub name: String,
    pub address: std::net::SocketAddr,
    pub authority_pem: String,
}

/// Ends that hold even if nobody says stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChildLimits {
    /// The whole child, s.
    pub seconds_max: u64,
    /// All `prepare` steps together, s.
    pub prepare_seconds_max: u64,
    /// Body of one answer, bytes; a longer one is an error.
    pub body_bytes_max: usize,
}

impl Default for ChildLimits {
    fn default() -> Self {
        Self { seconds_max: 6 * 3600, prepare_seconds_max: 120, body_bytes_max: 1 << 20 }
    }
}

impl ChildSpec {
    /// Reads and validates the file.
    ///
    /// # Errors
    /// When it cannot be read, has another shape, or asks for what cannot be meant.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::ReadSpec { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let spec: Self = serde_json::from_str(&text)
            .map_err(|source| LoadError::ParseSpec { path: path.to_owned(), source })?;
        spec.validate()?;
        Ok(spec)
    }

    /// # Errors
    /// Names the first field that cannot be meant.
    pub fn validate(&self) -> Result<(), LoadError> {
        let bad = |field: &str, message: String| Err(LoadError::Spec { field: field.to_owned(), message });
        if let Some((field, message)) = self.scenario.problem() {
            return bad(&format!("scenario.{field}"), message);
        }
        if !(1..=USERS_MAX).contains(&self.users) {
            return bad("users", format!("must be 1 to {USERS_MAX}"));
        }
        if self.step_users.is_some_and(|users| !(self.users..=USERS_MAX).contains(&users)) {
            return bad("step_users", format!("must be users to {USERS_MAX}"));
        }
        if self.lanes.is_some_and(|lanes| !(1..=LANES_MAX).contains(&lanes)) {
            return bad("lanes", format!("must be 1 to {LANES_MAX}"));
        }
        let rest = self.base_url.strip_prefix("http://").or_else(|| self.base_url.strip_prefix("https://"));
        if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/')) {
            return bad("base_url", "must be http://address:port without a path".to_owned());
        }
        if self.base_url.starts_with("https://") != self.tls.is_some() {
            return bad("tls", "is for an https base_url, and needed there".to_owned());
        }
        // An operation id is at most 64 characters: the run's id, a dash, and up to 20 digits.
        let run = &self.run.0;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if run.is_empty() || run.len() > 42 || !run.chars().all(plain) {
            return bad("run", "must be 1 to 42 lower case letters, digits or -".to_owned());
        }
        if self.limits.seconds_max == 0 || self.limits.body_bytes_max == 0 {
            return bad("limits", "must be above 0".to_owned());
        }
        Ok(())
    }

    /// Users at the most.
    #[must_use]
    pub fn users_most(&self) -> u32 {
        self.step_users.unwrap_or(self.users).max(self.users)
    }

    /// Requests that so many users together want per second.
    #[must_use]
    pub fn rate_per_second(&self, users: u32) -> f64 {
        f64::from(users) * 1000.0 / self.scenario.think.mean_ms as f64
    }

    /// Lanes asked for, or enough that a stack which answers nothing at all until the timeout never
    /// makes a user wait for a lane (with a margin of a quarter), within what one process may hold open.
    #[must_use]
    pub fn lanes_resolved(&self) -> usize {
        let timeout_s = self.scenario.timeout_ms as f64 / 1000.0;
        let wanted = (self.rate_per_second(self.users_most()) * timeout_s * 1.25).ceil() as usize;
        self.lanes.unwrap_or_else(|| wanted.clamp(LANES_MIN, LANES_MAX))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::parse_yaml;

    pub fn spec(scenario: &str) -> ChildSpec {
        ChildSpec {
            scenario: parse_yaml(Path::new("s.yaml"), scenario).expect("test scenario"),
            base_url: "http://127.0.0.1:1".to_owned(),
            tls: None,
            users: 120,
            step_users: None,
            lanes: None,
            seed: Seed(7),
            run: RunId("r1".to_owned()),
            clock_origin_ns: 0,
            operations_path: PathBuf::from("/dev/null"),
            limits: ChildLimits::default(),
        }
    }

    pub const ONE_STEP: &str = "scenario: s\nservice: n/s:80\nthink: {meanMs: 1000}\njourneys: \
        [{journey: a, weight: 1, steps: [{step: get, method: GET, path: /x}]}]";

    #[test]
    fn lanes_cover_a_stack_that_answers_nothing() {
        let spec = spec(ONE_STEP);
        assert_eq!(spec.lanes_resolved(), 750); // 120/s for 5 s, and a quarter
        assert_eq!(ChildSpec { users: 1, ..spec.clone() }.lanes_resolved(), 16);
        assert_eq!(ChildSpec { users: 1, step_users: Some(120), ..spec.clone() }.lanes_resolved(), 750);
        assert_eq!(ChildSpec { users: 1_000_000, ..spec }.lanes_resolved(), 8192);
    }

    #[test]
    fn what_cannot_be_meant_names_its_field() {
        let good = spec(ONE_STEP);
        assert!(good.validate().is_ok());
        let table = [
            (ChildSpec { users: 0, ..good.clone() }, "users"),
            (ChildSpec { step_users: Some(119), ..good.clone() }, "step_users"),
            (ChildSpec { lanes: Some(0), ..good.clone() }, "lanes"),
            (ChildSpec { lanes: Some(100_000), ..good.clone() }, "lanes"),
            (ChildSpec { base_url: "ftp://x".into(), ..good.clone() }, "base_url"),
            (ChildSpec { base_url: "http://x/path".into(), ..good.clone() }, "base_url"),
            (ChildSpec { base_url: "https://x".into(), ..good.clone() }, "tls"),
            (ChildSpec { run: RunId("Upper".into()), ..good.clone() }, "run"),
            (ChildSpec { run: RunId("x".repeat(43)), ..good.clone() }, "run"),
        ];
        for (spec, field) in table {
            let message = spec.validate().expect_err(field).to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
