//! Figures over several runs of one experiment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RepeatsReport {
    pub experiment: String,
    pub runs: u64,
    pub passed: u64,
    pub inconclusive: u64,
    pub failed: u64,
    /// Runs whose figures mean nothing, each with why; they are in none of the statistics.
    pub left_out: Vec<String>,
    /// By the figure's name.
    pub statistics: BTreeMap<String, Statistic>,
}

/// Of one figure over several runs. A run in which it was not seen counts as longer, or more, than any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Statistic {
    pub n: u64,
    /// Runs of `n` in which it was not seen.
    pub not_seen: u64,
    /// Null, as are the next two: not seen.
    pub min: Option<f64>,
    pub median: Option<f64>,
    pub max: Option<f64>,
    /// Of the median. Absent: one run has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Null, as is `high`: beyond anything that was seen.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// How sure it can be: 0.95, or what so few runs allow at most.
    pub confidence: f64,
}
