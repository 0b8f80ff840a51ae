//! The declarative files: experiments and suites. Unknown fields are errors, with their path.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stop_when::{STOP_CONDITIONS_MAX, StopCondition};
use super::{CheckKind, CheckSpec, FaultSpec, FileError, Limits, Seed, read_yaml};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PhaseSeconds {
    #[serde(default = "five")]
    pub warm: u32,
    #[serde(default = "twelve")]
    pub baseline: u32,
    /// The fault window lasts at least this long, and until every fault was held for its time.
    #[serde(default = "twelve")]
    pub fault: u32,
    /// At the most; ends earlier when everything has been steady for `stable`.
    #[serde(default = "ninety")]
    pub recovery_max: u32,
    #[serde(default = "five")]
    pub stable: u32,
}

fn five() -> u32 {
    5
}
fn twelve() -> u32 {
    12
}
fn ninety() -> u32 {
    90
}

impl Default for PhaseSeconds {
    fn default() -> Self {
        Self { warm: five(), baseline: twelve(), fault: twelve(), recovery_max: ninety(), stable: five() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadSpec {
    /// Logical users, open loop: each waits its think time, then wants its next step, whatever the stack does.
    #[serde(default = "users_default")]
    pub users: u32,
    /// Goose users that carry the requests of all logical users; bounds requests in flight. Absent: enough for
    /// every user to wait for a full timeout.
    #[serde(default)]
    pub lanes: Option<u32>,
    /// A window with fewer requests carries no judgement.
    #[serde(default = "floor_default")]
    pub requests_min: u64,
    /// More users for a while: a disturbance like a fault, and one that changes nothing in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<LoadStep>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadStep {
    /// So many in all while it is held.
    pub users: u32,
    /// After the start of the fault window.
    #[serde(default)]
    pub at_seconds: u32,
    pub hold_seconds: u32,
}

fn users_default() -> u32 {
    120
}
fn floor_default() -> u64 {
    100
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self { users: users_default(), lanes: None, requests_min: floor_default(), step: None }
    }
}

/// One experiment file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Experiment {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Path of the scenario, relative to this file.
    pub scenario: PathBuf,
    /// Ids of the claims that a pass proves.
    #[serde(default)]
    pub proves: Vec<String>,
    #[serde(default)]
    pub load: LoadSpec,
    #[serde(default)]
    pub phases: PhaseSeconds,
    /// May be none when the load takes a step.
    #[serde(default)]
    pub faults: Vec<FaultSpec>,
    pub expect: Vec<CheckSpec>,
    #[serde(default)]
    pub limits: Limits,
    /// Any of these ends the run early, while faults are on or in recovery.
    #[serde(default)]
    pub stop_when: Vec<StopCondition>,
}

/// An ordered list of experiment files, relative to the suite's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suite {
    pub suite: String,
    #[serde(default)]
    pub description: String,
    pub experiments: Vec<PathBuf>,
}

impl Suite {
    /// Reads and validates one file.
    ///
    /// # Errors
    /// When the file cannot be read, has another shape, or lists nothing.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        read_yaml(path, |suite: &Self| {
            let empty = suite.experiments.is_empty();
            empty.then(|| ("experiments".to_owned(), "must list at least one experiment".to_owned()))
        })
    }
}

const FAULTS_MAX: usize = 16;
const CHECKS_MAX: usize = 32;
const SECONDS_MAX: u32 = 3600;

impl Experiment {
    /// Reads and validates one file.
    ///
    /// # Errors
    /// When the file cannot be read, has another shape, or asks for what cannot be meant.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        read_yaml(path, Self::problem)
    }

    /// How long the stack must be steady for the recovery to end early: as long as any check asks for, too.
    #[must_use]
    pub fn stable_ms(&self) -> u64 {
        let asked = self.expect.iter().filter_map(|check| check.stable_for_seconds).fold(0.0, f64::max);
        // A check's bound was validated: at most some months.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let asked_ms = (asked * 1000.0).ceil() as u64;
        (u64::from(self.phases.stable) * 1000).max(asked_ms)
    }

    /// With every repeated fault as so many faults, each at its own time, drawn by the seed.
    #[must_use]
    pub fn unrolled(&self, seed: Seed) -> Self {
        let mut faults = Vec::with_capacity(self.faults.len());
        for (index, fault) in self.faults.iter().enumerate() {
            let Some(repeat) = fault.repeat else {
                faults.push(fault.clone());
                continue;
            };
            let part = format!("repeat/{}/{index}", self.name);
            let mut random = ChaCha8Rng::seed_from_u64(seed.derive(&part).0);
            faults.extend((0..repeat.times).map(|i| {
                let later = random.random_range(0..=repeat.jitter_seconds);
                let at_seconds = fault.at_seconds + i * repeat.every_seconds + later;
                FaultSpec { at_seconds, repeat: None, ..fault.clone() }
            }));
        }
        Self { faults, ..self.clone() }
    }

    /// The first thing that cannot be meant: field path and sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let at = |field: &str, message: &str| Some((field.to_owned(), message.to_owned()));
        // It names directories and journals.
        let named = self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !named || self.name.is_empty() || self.name.len() > 63 {
            return at("name", "must be 1 to 63 of a-z, 0-9 and '-'");
        }
        let disturbed = !self.faults.is_empty() || self.load.step.is_some();
        if !disturbed || self.faults.len() > FAULTS_MAX {
            return at("faults", "must list 1 to 16 faults");
        }
        if self.expect.is_empty() || self.expect.len() > CHECKS_MAX {
            return at("expect", "must list 1 to 32 checks: a run without a check proves nothing");
        }
        if self.stop_when.len() > STOP_CONDITIONS_MAX {
            return at("stopWhen", "must list at most 16 conditions");
        }
        if self.load.users == 0 {
            return at("load.users", "must be at least 1: without load nothing is proven");
        }
        if self.load.lanes == Some(0) {
            return at("load.lanes", "must be at least 1: without load nothing is proven");
        }
        if self.load.requests_min == 0 {
            return at("load.requestsMin", "must be at least 1: a window without requests proves nothing");
        }
        if let Some(step) = self.load.step {
            if step.users <= self.load.users {
                return at(
                    "load.step.users",
                    "must be more than load.users: it is how many there are in all",
                );
            }
            if step.hold_seconds == 0 || step.hold_seconds.max(step.at_seconds) > SECONDS_MAX {
                return at("load.step", "is held for 1 to 3600 s, and begins within 3600 s");
            }
        } else if self.expect.iter().any(|check| check.check == CheckKind::Scales) {
            return at("load.step", "is needed by the check scales: it is what autoscalers answer");
        }
        let phases = [self.phases.warm, self.phases.baseline, self.phases.fault, self.phases.recovery_max];
        if phases.into_iter().any(|seconds| seconds > SECONDS_MAX) {
            return at("phases", "a phase lasts at most 3600 s");
        }
        if self.phases.baseline < 3
            || self.phases.fault == 0
            || self.phases.recovery_max <= self.phases.stable
        {
            return at("phases", "baseline needs 3 s, fault 1 s, and recoveryMax more than stable");
        }
        let faults = self.faults.iter().enumerate();
        let faults =
            faults.filter_map(|(i, fault)| fault.problem().map(|(f, m)| (format!("faults[{i}].{f}"), m)));
        let checks = self.expect.iter().enumerate();
        let checks =
            checks.filter_map(|(i, check)| check.problem().map(|(f, m)| (format!("expect[{i}].{f}"), m)));
        let stops = self.stop_when.iter().enumerate();
        let stops =
            stops.filter_map(|(i, stop)| stop.problem().map(|(f, m)| (format!("stopWhen[{i}].{f}"), m)));
        let limits = self.limits.problem().map(|(f, m)| (format!("limits.{f}"), m));
        limits.into_iter().chain(faults).chain(checks).chain(stops).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_watched_for_as_long_as_a_check_wants_it_to_hold() {
        for (stable, asked, wanted_ms) in [(5, 3.0, 5000), (5, 10.0, 10_000), (5, 9.5, 9500)] {
            let text = format!(
                "name: x\nscenario: s.yaml\nfaults: []\nphases: {{ stable: {stable} }}\nexpect:\n  \
                 - {{ check: recovery-time, maxSeconds: 9, stableForSeconds: {asked} }}\n"
            );
            let experiment: Experiment = crate::model::parse_yaml(Path::new("x.yaml"), &text).unwrap();
            assert_eq!(experiment.stable_ms(), wanted_ms, "{stable} {asked}");
        }
    }
}
