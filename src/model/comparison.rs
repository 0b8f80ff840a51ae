//! Two runs side by side: what `mettle compare --json` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RunId, Statistic, Verdict};

/// How much worse the later run may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Margins {
    /// Of the earlier run's figure.
    pub margin_percent: f64,
    /// At least so much for times of recovery.
    pub floor_seconds: f64,
    /// At least so much for shares of errors, in percentage points.
    pub floor_percent: f64,
    /// At least so much for latencies.
    pub floor_ms: f64,
}

impl Default for Margins {
    fn default() -> Self {
        Self { margin_percent: 20.0, floor_seconds: 1.0, floor_percent: 1.0, floor_ms: 20.0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    pub before: RunId,
    pub after: RunId,
    /// The worst of the experiments; inconclusive when none is in both runs.
    pub verdict: Verdict,
    pub margins: Margins,
    pub experiments: Vec<ComparedExperiment>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedExperiment {
    pub experiment: String,
    /// The worst of the figures. Absent: it is new, there is nothing to compare it with.
    pub verdict: Option<Verdict>,
    /// Why it could not be compared as a whole.
    pub reason: Option<String>,
    pub figures: Vec<ComparedFigure>,
    /// Runs whose figures mean nothing, each with why.
    pub left_out: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedFigure {
    pub figure: String,
    pub before: Statistic,
    pub after: Statistic,
    /// By how much `after` may be larger.
    pub allowed: f64,
    /// It is larger by at least so much, with 95 % confidence. Null: too few runs, or beyond any bound.
    pub at_least: Option<f64>,
    /// It is larger by at most so much, with 95 % confidence.
    pub at_most: Option<f64>,
    pub verdict: Verdict,
    pub reason: String,
}
