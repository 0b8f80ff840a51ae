//! One request of the load and what became of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ListName, Name, OpId, Store, Stores};

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

/// One line of `operations.jsonl`. Times are µs on the run's clock. Field names are short and values small: there are
/// millions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Of a write its own; of a read of one object, that of the write that made it. Absent for other reads.
    #[serde(rename = "op", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OpId>,
    /// `journey.step` of the scenario.
    #[serde(rename = "s")]
    pub step: Name,
    /// The stores that an acknowledged answer promises to keep it in; none for reads.
    #[serde(rename = "w", default, skip_serializing_if = "Stores::is_empty")]
    pub writes: Stores,
    /// The store that the answer of a read speaks for; absent when the answer says nothing of it.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Store>,
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
    /// What a read of a list saw.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
}

/// What one read of a list saw, as the difference to the read of the same list that is recorded before it: all reads
/// together cost what was appended, not its square.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    #[serde(rename = "k")]
    pub list: ListName,
    /// So many elements from the start are those of the read before.
    #[serde(rename = "n", default)]
    pub kept: u32,
    /// What follows them.
    #[serde(rename = "e", default)]
    pub then: Box<[OpId]>,
}

impl Seen {
    /// What a read that saw `now` adds to the one that saw `before`.
    #[must_use]
    pub fn since(list: ListName, before: &[OpId], now: &[OpId]) -> Self {
        let kept = before.iter().zip(now).take_while(|(before, now)| before == now).count();
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        Self { list, kept, then: now[kept as usize..].into() }
    }
}

impl Operation {
    /// From when the user wanted it, not from when a busy generator got round to it.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        self.done_us.saturating_sub(self.intended_us)
    }
}

#[cfg(test)]
mod tests {
    use super::Operation;

    /// Ten million of them, and all that judging them needs, fit a gigabyte.
    #[test]
    fn an_operation_is_small() {
        assert!(size_of::<Operation>() <= 56, "{} bytes", size_of::<Operation>());
    }

    #[test]
    fn a_line_of_an_earlier_version_is_read() {
        let line = r#"{"op":"r1-7","s":"a.b","w":"redis","i":1,"t":2,"d":3,"o":"failed","e":"client-status","c":404}"#;
        let operation: Operation = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&operation).unwrap(), line);
    }

    #[test]
    fn what_a_read_saw_is_written_down() {
        let line = r#"{"s":"a.b","r":"redis","i":1,"t":2,"d":3,"o":"ok","c":200,"l":{"k":"r1-u3","n":2,"e":["r1-7"]}}"#;
        let operation: Operation = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&operation).unwrap(), line);
    }
}
