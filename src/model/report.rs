//! `report.json`. Its schema is published by `mettle report --schema`; fields are only ever added.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finding, RecoveryPhase, RepeatsReport, RunId, RunOutcome, Seed, Store, Verdict};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub run: RunId,
    /// The worst of the experiments.
    pub verdict: Verdict,
    pub outcome: RunOutcome,
    pub seed: Seed,
    /// Name and provider of the cluster: `local/mettle`.
    pub cluster: String,
    pub mettle_version: String,
    /// Wall clock, RFC 3339; for people only, every judgement is on the monotonic clock.
    pub started_at: String,
    pub experiments: Vec<ExperimentReport>,
    /// Parts of the guide that this cluster does not run, since their images cannot be had there.
    #[serde(default)]
    pub not_run_here: Vec<String>,
    /// The figures of every experiment that was run more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<RepeatsReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentReport {
    pub name: String,
    /// Ids of the claims that this experiment proves when it passes.
    pub proves: Vec<String>,
    pub verdict: Verdict,
    pub outcome: RunOutcome,
    pub seed: Seed,
    pub findings: Vec<Finding>,
    pub faults: Vec<FaultReport>,
    pub windows: Windows,
    pub recovery_ms: RecoveryPhases,
    pub ledger: BTreeMap<Store, LedgerTotals>,
    /// What was left behind after the revert; empty is the only good value.
    pub residue: Vec<String>,
    /// Which of several runs of the same experiment this is, from 1. Absent: it was run once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// The largest gap between requests around the edges of what clients saw: no time of theirs is known better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ms: Option<u64>,
    /// What it cost the users, from the first injection on. Absent: nothing was injected, or the baseline gives no measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
    /// The same seed, load and windows without a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Box<ExperimentReport>>,
    /// The files that it was judged by. Absent: they could not be stored, so it cannot be judged again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<EvidenceFiles>,
}

impl ExperimentReport {
    /// One without any figure, to be filled.
    #[must_use]
    pub fn new(name: impl Into<String>, verdict: Verdict, outcome: RunOutcome, seed: Seed) -> Self {
        Self {
            name: name.into(),
            proves: Vec::new(),
            verdict,
            outcome,
            seed,
            findings: Vec::new(),
            faults: Vec::new(),
            windows: Windows::default(),
            recovery_ms: RecoveryPhases::default(),
            ledger: BTreeMap::new(),
            residue: Vec::new(),
            repeat: None,
            resolution_ms: None,
            impact: None,
            control: None,
            judged_by: None,
        }
    }

    /// Something of what it was judged by is amiss: it is no pass.
    pub fn doubt(&mut self, why: String) {
        self.findings.push(Finding::new("evidence", Verdict::Inconclusive, why));
        self.verdict = self.verdict.max(Verdict::Inconclusive);
    }
}

/// Files that a judgement stands on, as they were when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceFiles {
    /// Relative to `report.json`.
    pub directory: String,
    /// Name → SHA-256 of its content.
    pub files: BTreeMap<String, String>,
}

/// What the faults cost the users. Counted by whole seconds from the first injection until the load ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Impact {
    /// Each second's share of requests that were not ok, times the experiment's users.
    pub user_minutes_lost: f64,
    /// Requests that were not ok.
    pub failed_requests: u64,
    pub goodput: GoodputDip,
    /// Seconds that were looked at.
    pub seconds: u64,
    /// Seconds of them that say nothing: the generator was the limit, or nobody wanted anything.
    pub seconds_set_aside: u64,
}

/// How far successful answers fell below the baseline's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoodputDip {
    /// Successful answers a second in the baseline.
    pub baseline_per_second: f64,
    /// Seconds below what the baseline's own seconds reach: its mean less two standard deviations.
    pub seconds_below: u64,
    /// The area between the baseline's rate and theirs: answers that were missing.
    pub missing_answers: f64,
    /// The same as a share of what the baseline's rate would have given in all seconds, 0 to 1.
    pub share: f64,
    /// Of the deepest second, 0 to 1.
    pub deepest_share: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultReport {
    pub kind: String,
    pub target: String,
    pub role: Option<String>,
    pub because: String,
    pub injected_ms: u64,
    pub effective_ms: Option<u64>,
    pub reverted_ms: Option<u64>,
    pub evidence: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Windows {
    pub baseline: WindowReport,
    pub fault: WindowReport,
    pub recovery: WindowReport,
}

/// Latencies are from the intended time. Absent where there were no samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowReport {
    pub start_ms: u64,
    pub end_ms: u64,
    pub requests: u64,
    pub errors: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Seconds in which the generator was the limit, for a part of them or all; requests that were wanted or answered just then
    /// are not counted above.
    pub generator_limited_seconds: u64,
}

/// From injection; each phase ends at the given ms after it. Absent where it does not apply or was not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryPhases {
    /// The cluster noticed.
    pub detect: Option<u64>,
    /// Another leader was there.
    pub elect: Option<u64>,
    /// The service pointed only to members that serve.
    pub route: Option<u64>,
    /// Clients' requests succeeded again, and kept succeeding.
    pub client: Option<u64>,
    /// Every replica was back and in sync.
    pub redundancy: Option<u64>,
    pub total: Option<u64>,
}

impl RecoveryPhases {
    /// Every phase by its name, in the order in which a recovery goes through them; the total last.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<u64>); 6] {
        RecoveryPhase::ALL.map(|phase| (phase.as_str(), self.of(phase)))
    }

    #[must_use]
    pub fn of(&self, phase: RecoveryPhase) -> Option<u64> {
        match phase {
            RecoveryPhase::Detect => self.detect,
            RecoveryPhase::Elect => self.elect,
            RecoveryPhase::Route => self.route,
            RecoveryPhase::Client => self.client,
            RecoveryPhase::Redundancy => self.redundancy,
            RecoveryPhase::Total => self.total,
        }
    }
}

/// What the ledger says of the writes to one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerTotals {
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
    pub indeterminate: u64,
    /// Acknowledged, and not in the store.
    pub lost: u64,
    /// In the store more than once, or counted more than once.
    pub duplicated: u64,
    /// Refused, and yet in the store.
    pub phantom: u64,
    /// Indeterminate ones that the store has.
    pub indeterminate_present: u64,
    /// Reads whose answer says what the store held.
    #[serde(default)]
    pub reads: u64,
    /// Reads that lacked what had been acknowledged before they began, and is in the store in the end.
    #[serde(default)]
    pub stale_reads: u64,
    /// Reads that saw what is not in the store in the end, or in another place of its list.
    #[serde(default)]
    pub dirty_reads: u64,
    /// Of a store that keeps an order: writes that precede one that was acknowledged before they were sent.
    #[serde(default)]
    pub reordered: u64,
    /// Acknowledged and in the store's lists, and no read saw it. No anomaly: reads say nothing of it.
    #[serde(default)]
    pub never_read: u64,
    /// Up to 100 ids of each of the six, as `lost ID`, `duplicated ID`, `phantom ID`, `stale ID`, `dirty ID`, `reordered ID`.
    pub examples: Vec<String>,
    /// What the store's own figures contradict: sums that differ, writes that cannot be looked up. Bounded.
    #[serde(default)]
    pub violations: Vec<String>,
}
