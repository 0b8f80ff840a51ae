//! A whole experiment of Chaos Toolkit: what must hold before and after, what is done between, and what is done
//! at the end whatever happened. Not a rehearsal, which holds faults only.

use serde_json::Value;

use super::{FaultSpec, Hidden, Limits, Question, Tolerance};

/// A call of an address that the file names.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCall {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    pub verify_tls: bool,
    /// Until there is a connection.
    pub connect_ms: u64,
    /// In all.
    pub timeout_ms: u64,
    /// Tried so often more when there was no connection.
    pub retries: u32,
}

/// A program that the file names, without a shell around it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessCall {
    pub path: String,
    pub arguments: Vec<String>,
    pub timeout_ms: u64,
}

/// What an activity does.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    Http(HttpCall),
    Process(ProcessCall),
    Ask(Question),
    /// One of our faults; its place among those of the script.
    Fault {
        index: usize,
        spec: Box<FaultSpec>,
    },
    /// Takes a fault back before the end.
    Release {
        index: usize,
    },
    /// A rollback of what mettle reverts itself, and has reverted by then.
    Reverted {
        index: usize,
    },
}

#[derive(Debug, Clone)]
pub struct Activity {
    pub name: String,
    pub is_probe: bool,
    pub deed: Deed,
    /// The next one does not wait for it.
    pub background: bool,
    pub pause_before_ms: u64,
    pub pause_after_ms: u64,
    /// As the file has it, for the journal.
    pub written: Value,
}

/// A probe of the hypothesis.
#[derive(Debug, Clone)]
pub struct Probe {
    pub activity: Activity,
    pub tolerance: Tolerance,
}

#[derive(Debug, Clone, Default)]
pub struct Script {
    pub title: String,
    pub description: String,
    /// Title and probes; nothing is judged without a probe.
    pub hypothesis: String,
    pub probes: Vec<Probe>,
    pub method: Vec<Activity>,
    pub rollbacks: Vec<Activity>,
    pub limits: Limits,
    pub hidden: Hidden,
    /// The file, for the journal.
    pub source: Value,
}

impl Script {
    pub fn activities(&self) -> impl Iterator<Item = &Activity> {
        self.probes.iter().map(|probe| &probe.activity).chain(&self.method).chain(&self.rollbacks)
    }

    /// Our faults, in the order of the method.
    pub fn faults(&self) -> impl Iterator<Item = &FaultSpec> {
        self.method.iter().filter_map(|activity| match &activity.deed {
            Deed::Fault { spec, .. } => Some(&**spec),
            _ => None,
        })
    }

    #[must_use]
    pub fn calls(&self) -> bool {
        self.activities().any(|activity| matches!(activity.deed, Deed::Http(_)))
    }

    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.activities().any(|activity| matches!(activity.deed, Deed::Process(_)))
    }

    /// Whether it breaks, or asks, anything of a cluster by mettle's own hands.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        self.activities().any(|activity| matches!(activity.deed, Deed::Fault { .. } | Deed::Ask(_)))
    }

    /// For directories and journals: 1 to 63 of a-z, 0-9 and '-'.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = String::new();
        for c in self.title.chars().flat_map(char::to_lowercase) {
            if c.is_ascii_alphanumeric() {
                name.push(c);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
            if name.len() >= 60 {
                break;
            }
        }
        let name = name.trim_end_matches('-');
        if name.is_empty() { "experiment".to_owned() } else { name.to_owned() }
    }
}

impl Activity {
    /// For people; without what is hidden.
    #[must_use]
    pub fn describe(&self, hidden: &Hidden) -> String {
        let does = match &self.deed {
            Deed::Http(call) => format!("{} {}", call.method, call.url),
            Deed::Process(call) => {
                format!("run {} {}", call.path, call.arguments.join(" ")).trim_end().to_owned()
            }
            Deed::Ask(question) => question.describe(),
            Deed::Fault { index, spec } => format!("fault {index}: {}", spec.kind.as_str()),
            Deed::Release { index } => format!("revert fault {index}"),
            Deed::Reverted { index } => format!("nothing: fault {index} is reverted by then"),
        };
        let mut does = super::tolerance::short(&hidden.scrub(&does));
        for (pause, when) in [(self.pause_before_ms, "before"), (self.pause_after_ms, "after")] {
            if pause > 0 {
                does.push_str(&format!(", {} s pause {when}", pause as f64 / 1000.0));
            }
        }
        if self.background {
            does.push_str(", in the background");
        }
        does
    }
}

#[cfg(test)]
mod tests {
    use super::Script;

    #[test]
    fn a_title_gives_a_name_for_directories() {
        for (title, name) in [
            ("A pod may go!", "a-pod-may-go"),
            ("../../etc", "etc"),
            ("日本", "experiment"),
            ("", "experiment"),
            (&"x".repeat(200), &"x".repeat(60)),
        ] {
            assert_eq!(Script { title: title.to_owned(), ..Script::default() }.name(), name);
        }
    }
}
