//! An experiment resolved against a snapshot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Component, FaultKind, Limits, Role, RunId, Seed, Undo};

/// The object that a selector was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `pod/ai-platform/name` or `node/name`.
    pub object: String,
    /// Node that it is, or is on.
    pub node: Option<String>,
    pub component: Option<Component>,
    pub role: Option<Role>,
    /// Why this one: the server's own word, the key's slot, the seeded draw among how many.
    pub because: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedChange {
    pub target: Target,
    pub change: Change,
    pub undo: Undo,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// Position in the experiment's `faults`.
    pub index: usize,
    pub kind: FaultKind,
    /// After the start of the fault window.
    pub at_ms: u64,
    /// How long it is held before it is reverted.
    pub hold_ms: u64,
    pub changes: Vec<PlannedChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub run: RunId,
    pub seed: Seed,
    pub experiment: String,
    pub limits: Limits,
    pub faults: Vec<PlannedFault>,
}
