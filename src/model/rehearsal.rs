//! A rehearsal: faults one after another, without a judgement of the stack, to see whether each bites here and is gone afterwards.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FaultKind, FaultSpec, FileError, Limits, LoadSpec, Verdict, read_yaml};

/// One rehearsal file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rehearsal {
    pub rehearsal: String,
    #[serde(default)]
    pub description: String,
    /// For each fault by itself; of a schedule, for all of them together.
    #[serde(default)]
    pub limits: Limits,
    /// Traffic meanwhile, as a path relative to this file: faults that need some to be seen.
    #[serde(default)]
    pub scenario: Option<PathBuf>,
    #[serde(default)]
    pub load: LoadSpec,
    /// The faults are one schedule: each comes at its `atSeconds` and is held for its whole `holdSeconds`, beside
    /// the others. Otherwise one comes after another.
    #[serde(default)]
    pub schedule: bool,
    pub faults: Vec<FaultSpec>,
}

const FAULTS_MAX: usize = 200;

impl Rehearsal {
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
        if self.faults.is_empty() || self.faults.len() > FAULTS_MAX {
            return Some(("faults".to_owned(), format!("must list 1 to {FAULTS_MAX} faults")));
        }
        if let Some((field, message)) = self.limits.problem() {
            return Some((format!("limits.{field}"), message));
        }
        if self.limits.deadline_seconds.is_some() {
            let message = "a rehearsal bounds each fault by itself: it takes no deadline";
            return Some(("limits.deadlineSeconds".to_owned(), message.to_owned()));
        }
        self.faults.iter().enumerate().find_map(|(i, fault)| {
            if fault.repeat.is_some() {
                return Some((format!("faults[{i}].repeat"), "a rehearsal takes each fault once".to_owned()));
            }
            if fault.at_seconds > 0 && !self.schedule {
                let message = "takes schedule: true; without it one fault comes after another";
                return Some((format!("faults[{i}].atSeconds"), message.to_owned()));
            }
            fault.problem().map(|(field, message)| (format!("faults[{i}].{field}"), message))
        })
    }
}

/// How one fault went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsalRow {
    pub fault: String,
    pub targets: Vec<String>,
    /// From the decision until the API or the provider had taken the change.
    pub applied_ms: Option<u64>,
    /// From the decision until the effect was seen.
    pub effective_ms: Option<u64>,
    /// From the decision to revert until everything was as before, replacements Ready included.
    pub reverted_ms: Option<u64>,
    pub evidence: Vec<String>,
    pub residue: Vec<String>,
    /// Pass: it bit, and nothing is left. Fail: something is left. Inconclusive: it was not seen to bite.
    pub verdict: Verdict,
    /// Why it is no pass.
    pub why: String,
}

impl RehearsalRow {
    /// Nothing is known yet.
    #[must_use]
    pub fn of(kind: FaultKind) -> Self {
        Self {
            fault: kind.as_str().to_owned(),
            targets: Vec::new(),
            applied_ms: None,
            effective_ms: None,
            reverted_ms: None,
            evidence: Vec::new(),
            residue: Vec::new(),
            verdict: Verdict::Inconclusive,
            why: String::new(),
        }
    }
}
