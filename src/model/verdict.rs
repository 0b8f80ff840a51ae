//! The two answers, never mixed: did the stack hold, and did the run itself work.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Did the stack hold? The order is the order of composition: the worst wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// The evidence does not carry a judgement. Never counts as a pass.
    Inconclusive,
    Fail,
}

impl Verdict {
    /// The worst of all; nothing at all proves nothing, so it is inconclusive.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Inconclusive)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// Did the run itself work?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind", content = "reason")]
pub enum RunOutcome {
    Completed,
    /// Ended early on purpose: a signal, a stop condition, the deadline.
    Stopped(String),
    /// Could not go on.
    Broken(String),
}

const INTERRUPTED_BY: &str = "interrupted by ";

impl RunOutcome {
    /// Stopped by a signal, named as in `SIGINT`. The only spelling that [`Self::is_interrupted`] knows.
    #[must_use]
    pub fn interrupted(signal: &str) -> Self {
        Self::Stopped(format!("{INTERRUPTED_BY}{signal}"))
    }

    /// Stopped by a signal, not by a stop condition or the deadline.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Stopped(reason) if reason.starts_with(INTERRUPTED_BY))
    }
}

/// What a check says about a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The check's name, with its window or store where it has one.
    pub check: String,
    pub verdict: Verdict,
    /// One sentence with the figure and the bound.
    pub reason: String,
    /// Facts of the timeline that carry the judgement; bounded.
    pub evidence: Vec<String>,
    /// What was measured, by a name that ends in its unit: `opened_ms`. Repeated runs are compared by it. Absent: the check
    /// has none, or did not see it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
}

impl Finding {
    pub fn new(check: impl Into<String>, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict,
            reason: reason.into(),
            evidence: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// `None`: it was not seen.
    #[must_use]
    pub fn with_figure(mut self, name: &str, value: Option<f64>) -> Self {
        self.figures.extend(value.map(|value| (name.to_owned(), value)));
        self
    }

    #[must_use]
    pub fn with_evidence(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence.into_iter().take(20));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{self, Fail, Inconclusive, Pass};

    #[test]
    fn the_worst_wins_and_nothing_is_inconclusive() {
        for (verdicts, worst) in [
            (vec![], Inconclusive),
            (vec![Pass, Pass], Pass),
            (vec![Pass, Inconclusive], Inconclusive),
            (vec![Inconclusive, Fail, Pass], Fail),
        ] {
            assert_eq!(Verdict::worst(verdicts), worst);
        }
    }
}
