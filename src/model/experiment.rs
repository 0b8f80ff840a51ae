//! The declarative files: experiments and suites. Unknown fields are errors, with their path.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fault_spec::one;
use super::{Component, FaultSpec, FileError, Seed, Store, read_yaml};

/// The checks. Each has a file in `check/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    ErrorRate,
    Latency,
    RecoveryTime,
    LostWrites,
    DuplicatedWrites,
    ReplicasRestored,
    StaleReads,
    DirtyReads,
    ReorderedWrites,
}

impl CheckKind {
    pub const ALL: [Self; 9] = [
        Self::ErrorRate,
        Self::Latency,
        Self::RecoveryTime,
        Self::LostWrites,
        Self::DuplicatedWrites,
        Self::ReplicasRestored,
        Self::StaleReads,
        Self::DirtyReads,
        Self::ReorderedWrites,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error-rate",
            Self::Latency => "latency",
            Self::RecoveryTime => "recovery-time",
            Self::LostWrites => "lost-writes",
            Self::DuplicatedWrites => "duplicated-writes",
            Self::ReplicasRestored => "replicas-restored",
            Self::StaleReads => "stale-reads",
            Self::DirtyReads => "dirty-reads",
            Self::ReorderedWrites => "reordered-writes",
        }
    }
}

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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckSpec {
    pub check: CheckKind,
    /// `error-rate`, `latency`: which window is judged.
    #[serde(default)]
    pub window: Option<WindowName>,
    /// `error-rate`: share of requests that were not ok, in percent.
    #[serde(default)]
    pub max_percent: Option<f64>,
    /// `latency`: the quantile, for example 0.99.
    #[serde(default)]
    pub quantile: Option<f64>,
    /// `latency`: bound in ms.
    #[serde(default)]
    pub max_ms: Option<f64>,
    /// `latency`: bound as a multiple of the same quantile of the baseline.
    #[serde(default)]
    pub max_ratio_to_baseline: Option<f64>,
    /// `recovery-time`, `replicas-restored`: bound from injection.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// `recovery-time`: how long it must hold to count.
    #[serde(default)]
    pub stable_for_seconds: Option<f64>,
    /// `lost-writes`, `duplicated-writes`, `reordered-writes`, `stale-reads`, `dirty-reads`.
    #[serde(default)]
    pub store: Option<Store>,
    /// With `store`: how many are allowed; 0 when absent.
    #[serde(default)]
    pub max: Option<u64>,
    /// `replicas-restored`: which component; that of the fault's target when absent.
    #[serde(default)]
    pub component: Option<Component>,
}

/// How much a run may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Pods hit at the most, all faults together; pods of a killed node count under `nodes`.
    #[serde(default = "one")]
    pub pods: u32,
    #[serde(default)]
    pub nodes: u32,
    /// Deployments and StatefulSets that are changed.
    #[serde(default)]
    pub workloads: u32,
    /// Other objects of the API that are changed or made.
    #[serde(default)]
    pub objects: u32,
    /// Share of a component's pods that is hit, in percent; a changed workload counts with all of its pods.
    #[serde(default = "hundred")]
    pub share_percent: u32,
    /// Servers of the control plane may be stopped.
    #[serde(default)]
    pub control_plane: bool,
}

fn hundred() -> u32 {
    100
}

impl Default for Limits {
    fn default() -> Self {
        Self { pods: 1, nodes: 0, workloads: 0, objects: 0, share_percent: 100, control_plane: false }
    }
}

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
}

fn users_default() -> u32 {
    120
}
fn floor_default() -> u64 {
    100
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self { users: users_default(), lanes: None, requests_min: floor_default() }
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
    pub faults: Vec<FaultSpec>,
    pub expect: Vec<CheckSpec>,
    #[serde(default)]
    pub limits: Limits,
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
        if self.faults.is_empty() || self.faults.len() > FAULTS_MAX {
            return at("faults", "must list 1 to 16 faults");
        }
        if self.expect.is_empty() || self.expect.len() > CHECKS_MAX {
            return at("expect", "must list 1 to 32 checks: a run without a check proves nothing");
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
        faults.chain(checks).next()
    }
}

impl CheckSpec {
    fn problem(&self) -> Option<(&'static str, String)> {
        use CheckKind::{
            DirtyReads, DuplicatedWrites, ErrorRate, Latency, LostWrites, RecoveryTime, ReorderedWrites,
            ReplicasRestored, StaleReads,
        };
        const OF_A_STORE: &[CheckKind] =
            &[LostWrites, DuplicatedWrites, ReorderedWrites, StaleReads, DirtyReads];
        let kind = self.check;
        let fields: [(&'static str, bool, &[CheckKind]); 10] = [
            ("window", self.window.is_some(), &[ErrorRate, Latency]),
            ("maxPercent", self.max_percent.is_some(), &[ErrorRate]),
            ("quantile", self.quantile.is_some(), &[Latency]),
            ("maxMs", self.max_ms.is_some(), &[Latency]),
            ("maxRatioToBaseline", self.max_ratio_to_baseline.is_some(), &[Latency]),
            ("maxSeconds", self.max_seconds.is_some(), &[RecoveryTime, ReplicasRestored]),
            ("stableForSeconds", self.stable_for_seconds.is_some(), &[RecoveryTime]),
            ("store", self.store.is_some(), OF_A_STORE),
            ("max", self.max.is_some(), OF_A_STORE),
            ("component", self.component.is_some(), &[ReplicasRestored]),
        ];
        for (field, given, kinds) in fields {
            if given && !kinds.contains(&kind) {
                return Some((field, format!("{} does not take it", kind.as_str())));
            }
        }
        let needs = |field: &'static str| Some((field, format!("{} needs it", kind.as_str())));
        match kind {
            ErrorRate | Latency if self.window.is_none() => needs("window"),
            ErrorRate if self.max_percent.is_none() => needs("maxPercent"),
            Latency if self.quantile.is_none() => needs("quantile"),
            Latency if self.max_ms.is_none() && self.max_ratio_to_baseline.is_none() => needs("maxMs"),
            RecoveryTime | ReplicasRestored if self.max_seconds.is_none() => needs("maxSeconds"),
            kind if OF_A_STORE.contains(&kind) && self.store.is_none() => needs("store"),
            ReorderedWrites if self.store.is_some_and(|store| !store.keeps_order()) => {
                Some(("store", "must be redis: no other store promises an order".to_owned()))
            }
            StaleReads | DirtyReads if self.store == Some(Store::Kafka) => {
                Some(("store", "must be one that clients read: postgres, redis or jobs".to_owned()))
            }
            _ => self.out_of_range(),
        }
    }

    /// A bound that nothing can break, or that nothing can keep, is a mistake.
    fn out_of_range(&self) -> Option<(&'static str, String)> {
        let outside =
            |value: Option<f64>, low: f64, high: f64| value.is_some_and(|v| !(v >= low && v <= high));
        if outside(self.max_percent, 0.0, 99.9) {
            return Some((
                "maxPercent",
                "must be 0 to 99.9: a bound that nothing can break proves nothing".to_owned(),
            ));
        }
        if outside(self.quantile, 0.01, 0.9999) {
            return Some(("quantile", "must be 0.01 to 0.9999".to_owned()));
        }
        let positive = [
            ("maxMs", self.max_ms),
            ("maxRatioToBaseline", self.max_ratio_to_baseline),
            ("maxSeconds", self.max_seconds),
            ("stableForSeconds", self.stable_for_seconds),
        ];
        positive
            .into_iter()
            .find(|(_, value)| outside(*value, 0.001, 1e7))
            .map(|(field, _)| (field, "must be positive".to_owned()))
    }
}
