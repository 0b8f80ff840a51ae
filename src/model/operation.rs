//! One request of the load and what became of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OpId, Store};

/// Three-valued, as in Jepsen: a request that was cut off may or may not have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationOutcome {
    /// The server acknowledged it.
    Ok,
    /// It certainly did not happen: refused, rejected, never sent.
    Failed,
    /// Nobody knows: sent, and then a timeout, a reset, a 5xx that does not exclude it.
    Indeterminate,
}

/// Why a request did not succeed, from walking the client's error chain, or from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    ConnectionRefused,
    ConnectionReset,
    UnexpectedEof,
    ConnectTimeout,
    Timeout,
    Dns,
    /// Of the generator: no file descriptor left.
    TooManyFiles,
    /// Of the generator: no local port left.
    AddressNotAvailable,
    /// 4xx
    ClientStatus,
    /// 5xx
    ServerStatus,
    /// The answer came but an assertion of the scenario did not hold.
    Assertion,
    /// The generator had no lane free in time.
    NotSent,
    Other,
}

impl ErrorClass {
    /// A failure that the generator made itself; never charged to the stack.
    #[must_use]
    pub fn is_generators_own(self) -> bool {
        matches!(self, Self::TooManyFiles | Self::AddressNotAvailable | Self::NotSent)
    }
}

/// One line of `operations.jsonl`. Times are µs on the run's clock. Field names are short: there are millions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Absent for reads.
    #[serde(rename = "op", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OpId>,
    /// `journey.step` of the scenario.
    #[serde(rename = "s")]
    pub step: String,
    /// The store that a write goes to.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    #[serde(rename = "i")]
    pub intended_us: u64,
    #[serde(rename = "t")]
    pub sent_us: u64,
    #[serde(rename = "d")]
    pub done_us: u64,
    #[serde(rename = "o")]
    pub outcome: OperationOutcome,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorClass>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Answered with less than usual, by the answer's own word; only where the scenario says how that is told.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
}

impl Operation {
    /// From when the user wanted it, not from when a busy generator got round to it.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        self.done_us.saturating_sub(self.intended_us)
    }
}
