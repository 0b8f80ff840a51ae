//! What a file of this directory says: a weakness of the stack, made on purpose, and the check that has to see it.

use std::path::{Path, PathBuf};

use mettle::model::{FileError, read_yaml};
use serde::Deserialize;
use serde_json::Value;

/// One thing that is done to the stack.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// Words of a command of kubectl, in the stack's namespace.
    Kubectl(Vec<String>),
    Edit(Edit),
}

/// A text within a file of a ConfigMap is replaced by another; mending replaces it back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub configmap: String,
    pub file: String,
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sabotage {
    pub sabotage: String,
    /// What is weak then, in one sentence.
    pub does: String,
    /// Claims that are broken by it.
    pub claims: Vec<String>,
    /// One after another; each has to succeed.
    #[serde(rename = "break")]
    pub breaks: Vec<Step>,
    /// Puts back what `mettle up` does not put back by itself; edits of files are taken back before it.
    #[serde(default)]
    pub mend: Vec<Step>,
    pub seen: Seen,
}

/// Who has to see it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seen {
    pub by: By,
    /// `run`, `drill`: relative to the project's root.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The finding's name, as reports have it.
    pub check: String,
    pub verdict: Word,
    /// Part of the finding's reason, or of its evidence.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Verify,
    VerifyDeep,
    Run,
    Drill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Fail,
    /// A check that refuses to judge: the breaker that cannot trip.
    Inconclusive,
}

impl Word {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl Seen {
    /// Whether a finding, or a row of `verify`, is the one that was meant, and says the right thing.
    pub fn is(&self, finding: &Value) -> bool {
        let said = format!("{} {}", finding["reason"].as_str().unwrap_or_default(), finding["evidence"]);
        let meant = finding["check"] == *self.check && finding["verdict"] == self.verdict.as_str();
        meant && said.contains(&self.reason)
    }
}

impl Sabotage {
    fn problem(&self) -> Option<(String, String)> {
        let with_file = matches!(self.seen.by, By::Run | By::Drill);
        let at = |field: &str, message: &str| Some((field.to_owned(), message.to_owned()));
        if self.breaks.is_empty() {
            return at("break", "must list what is done");
        }
        if self.claims.is_empty() {
            return at("claims", "must name what is broken");
        }
        if self.seen.reason.is_empty() {
            return at("seen.reason", "any failure would do: name the right one");
        }
        if with_file != self.seen.file.is_some() {
            return at("seen.file", "is for run and drill, and needed there");
        }
        None
    }
}

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sabotage")
}

/// Every sabotage, by its name.
pub fn all() -> Vec<Sabotage> {
    let entries = std::fs::read_dir(directory()).expect("tests/sabotage");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    let read = |path: &PathBuf| -> Result<Sabotage, FileError> { read_yaml(path, Sabotage::problem) };
    let found = paths.iter().map(|path| read(path).unwrap_or_else(|why| panic!("{why}")));
    let found: Vec<Sabotage> = found.collect();
    for (sabotage, path) in found.iter().zip(&paths) {
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(sabotage.sabotage.as_str()));
    }
    found
}
