//! Words that checks are asked with: a window, a phase of a recovery, what opens a breaker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WindowName {
    Baseline,
    Fault,
    Recovery,
}

impl WindowName {
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Fault, Self::Recovery];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Fault => "fault",
            Self::Recovery => "recovery",
        }
    }
}

/// What makes a breaker open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TripsBy {
    /// Answers of one host: it is left out.
    #[default]
    Ejection,
    /// More requests at once than the pool takes: the rest is refused.
    Overflow,
}

impl TripsBy {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ejection => "ejection",
            Self::Overflow => "overflow",
        }
    }
}

/// A stretch of a recovery, always from the injection on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecoveryPhase {
    Detect,
    Elect,
    Route,
    Client,
    Redundancy,
    Total,
}

impl RecoveryPhase {
    /// In the order in which a recovery goes through them; the total last.
    pub const ALL: [Self; 6] =
        [Self::Detect, Self::Elect, Self::Route, Self::Client, Self::Redundancy, Self::Total];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Elect => "elect",
            Self::Route => "route",
            Self::Client => "client",
            Self::Redundancy => "redundancy",
            Self::Total => "total",
        }
    }
}
