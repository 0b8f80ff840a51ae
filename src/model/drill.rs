//! A drill: data of the stack is destroyed on purpose and made again from its backup.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CheckSpec, Experiment, FileError, Limits, LoadSpec, PhaseSeconds, Store, read_yaml};

/// How the data are destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillMethod {
    /// Every member loses its volume and its processes at once. What comes up after it is empty.
    Volumes,
    /// The platform's tables are dropped on the primary; every member follows.
    Tables,
}

impl DrillMethod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Volumes => "volumes",
            Self::Tables => "tables",
        }
    }
}

/// Up to where the data are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillTarget {
    /// As much as there is.
    Latest,
    /// A moment that is noted while writes go on, by the database's own clock.
    Time,
}

/// One drill file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drill {
    /// Names directories, journals and the report.
    pub drill: String,
    #[serde(default)]
    pub description: String,
    pub store: Store,
    pub method: DrillMethod,
    pub target: DrillTarget,
    /// Path of the scenario, relative to this file. Its load runs from before the backup until the end.
    pub scenario: PathBuf,
    #[serde(default = "load_default")]
    pub load: LoadSpec,
    /// Each stretch of writes: before the backup, after it, and after the noted moment.
    #[serde(default = "write_default")]
    pub write_seconds: u32,
    /// With fewer acknowledged writes in a stretch nothing is destroyed.
    #[serde(default = "writes_default")]
    pub writes_min: u64,
    /// How long the load is judged once everything is back.
    #[serde(default = "smoke_default")]
    pub smoke_seconds: u32,
    /// Writes that were acknowledged and are gone may reach back so far, at the most. With `latest` only: what was
    /// acknowledged before a noted moment must all be there.
    #[serde(default)]
    pub rpo_max_seconds: Option<u32>,
    /// From the destruction until clients are served with the data again, and until every member is back.
    pub rto_max_seconds: u32,
    /// Ids of the claims that a pass proves.
    #[serde(default)]
    pub proves: Vec<String>,
}

fn load_default() -> LoadSpec {
    LoadSpec { users: 30, ..LoadSpec::default() }
}
fn write_default() -> u32 {
    20
}
fn writes_default() -> u64 {
    50
}
fn smoke_default() -> u32 {
    20
}

const SECONDS_MAX: u32 = 3600;
const SECONDS_MIN: u32 = 5;

impl Drill {
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
        let at = |field: &str, message: &str| Some((field.to_owned(), message.to_owned()));
        let named = self.drill.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        // It is part of the name of a Job, whose pods' names must not be longer than 63.
        if !named || self.drill.is_empty() || self.drill.len() > 40 {
            return at("drill", "must be 1 to 40 of a-z, 0-9 and '-'");
        }
        if !matches!(self.store, Store::Postgres | Store::Redis) {
            return at("store", "must be postgres or redis: only these have a backup of their own");
        }
        if self.store == Store::Redis && self.method == DrillMethod::Tables {
            return at("method", "redis has no tables: use volumes");
        }
        if self.store == Store::Redis && self.target == DrillTarget::Time {
            return at("target", "redis is restored to its newest backup, not to a moment: use latest");
        }
        if self.method == DrillMethod::Tables && self.target == DrillTarget::Latest {
            return at("target", "the latest state is that without the tables: use time");
        }
        match (self.target, self.rpo_max_seconds) {
            (DrillTarget::Latest, None) => return at("rpoMaxSeconds", "latest needs it"),
            (DrillTarget::Time, Some(_)) => {
                return at(
                    "rpoMaxSeconds",
                    "time does not take it: nothing before the moment may be missing",
                );
            }
            (DrillTarget::Latest, Some(rpo))
                if self.store == Store::Postgres && rpo >= self.write_seconds =>
            {
                let message =
                    "must be less than writeSeconds: an archive that stopped at the backup would keep it";
                return at("rpoMaxSeconds", message);
            }
            _ => {}
        }
        if self.load.users == 0 || self.load.lanes == Some(0) || self.load.requests_min == 0 {
            return at(
                "load",
                "users, lanes and requestsMin must be at least 1: without load nothing is proven",
            );
        }
        if self.load.step.is_some() {
            return at("load.step", "a drill takes none: its load is the same all along");
        }
        if self.writes_min == 0 {
            return at("writesMin", "must be at least 1: a drill without writes proves nothing");
        }
        let lasting = [("writeSeconds", self.write_seconds), ("smokeSeconds", self.smoke_seconds)];
        if let Some((field, _)) =
            lasting.into_iter().find(|(_, seconds)| !(SECONDS_MIN..=SECONDS_MAX).contains(seconds))
        {
            return at(field, "must be 5 to 3600");
        }
        let bounds = [("rtoMaxSeconds", Some(self.rto_max_seconds)), ("rpoMaxSeconds", self.rpo_max_seconds)];
        let outside = |seconds: Option<u32>| seconds.is_some_and(|one| one == 0 || one > SECONDS_MAX);
        let (field, _) = bounds.into_iter().find(|(_, seconds)| outside(*seconds))?;
        at(field, "must be 1 to 3600")
    }

    /// What will be destroyed, for a person who is asked.
    #[must_use]
    pub fn destroys(&self) -> String {
        match self.method {
            DrillMethod::Volumes => {
                format!("every volume of {}, with all that is on them", self.store.as_str())
            }
            DrillMethod::Tables => format!("every table of the platform in {}", self.store.as_str()),
        }
    }

    /// As the report's builder wants it.
    #[must_use]
    pub fn as_experiment(&self) -> Experiment {
        Experiment {
            name: self.drill.clone(),
            description: self.description.clone(),
            scenario: self.scenario.clone(),
            proves: self.proves.clone(),
            load: self.load,
            phases: PhaseSeconds::default(),
            faults: Vec::new(),
            expect: Vec::<CheckSpec>::new(),
            stop_when: Vec::new(),
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_yaml;

    const WHOLE: &str = "drill: d\nstore: postgres\nmethod: volumes\ntarget: latest\nscenario: s.yaml\nwriteSeconds: 100\nrpoMaxSeconds: 90\nrtoMaxSeconds: 300\n";

    fn problem(text: &str) -> Option<String> {
        let drill: Drill = parse_yaml(Path::new("d.yaml"), text).unwrap();
        drill.problem().map(|(field, message)| format!("{field}: {message}"))
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_field() {
        assert_eq!(problem(WHOLE), None);
        for (from, to, told) in [
            ("drill: d", "drill: D", "drill: must be"),
            ("store: postgres", "store: redis", ""),
            ("method: volumes", "method: tables", "target: the latest state is that without the tables"),
            ("target: latest", "target: time", "rpoMaxSeconds: time does not take it"),
            ("rpoMaxSeconds: 90", "description: x", "rpoMaxSeconds: latest needs it"),
            ("rpoMaxSeconds: 90", "rpoMaxSeconds: 0", "rpoMaxSeconds: must be 1 to 3600"),
            ("rtoMaxSeconds: 300", "rtoMaxSeconds: 9999", "rtoMaxSeconds: must be 1 to 3600"),
            ("writeSeconds: 100", "writeSeconds: 4000", "writeSeconds: must be 5 to 3600"),
            ("writeSeconds: 100", "writeSeconds: 90", "rpoMaxSeconds: must be less than writeSeconds"),
            ("scenario: s.yaml", "scenario: s.yaml\nwritesMin: 0", "writesMin: must be at least 1"),
            ("scenario: s.yaml", "scenario: s.yaml\nload: { users: 0 }", "load: users"),
            ("store: postgres", "store: kafka", "store: must be postgres or redis"),
            (
                "scenario: s.yaml",
                "scenario: s.yaml\nload: { step: { users: 90, atSeconds: 1, holdSeconds: 9 } }",
                "load.step: a drill takes none",
            ),
        ] {
            let found = problem(&WHOLE.replace(from, to)).unwrap_or_default();
            assert!(
                if told.is_empty() { found.is_empty() } else { found.starts_with(told) },
                "{to}: {found}"
            );
        }
        let redis = WHOLE.replace("store: postgres", "store: redis");
        let tables = problem(&redis.replace("method: volumes", "method: tables")).unwrap();
        assert!(tables.starts_with("method: redis has no tables"), "{tables}");
        let time = problem(&redis.replace("target: latest", "target: time")).unwrap();
        assert!(time.starts_with("target: redis is restored"), "{time}");
        assert!(parse_yaml::<Drill>(Path::new("d.yaml"), &format!("{WHOLE}extra: 1\n")).is_err());
    }

    fn root(path: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    #[test]
    fn the_drills_are_right_and_prove_every_part_of_their_claim() {
        let mut proven = Vec::new();
        for entry in std::fs::read_dir(root("experiments/drills")).unwrap() {
            let path = entry.unwrap().path();
            let drill = Drill::read(&path).unwrap();
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(drill.drill.as_str()));
            assert!(path.with_file_name(&drill.scenario).is_file(), "{}", path.display());
            proven.extend(drill.proves);
        }
        let claims: Vec<crate::model::Claim> =
            crate::model::read_yaml(&root("stack/claims.yaml"), |_| None).unwrap();
        let claim = claims.into_iter().find(|claim| claim.id == "F4").unwrap();
        for part in claim.parts {
            assert!(proven.contains(&format!("F4/{part}")), "no drill proves F4/{part}");
        }
    }
}
