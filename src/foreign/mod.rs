//! Experiment files of other tools, as rehearsals of ours, or as whole scripts. Pure: a parsed file in, faults,
//! activities and remarks out.
//!
//! Nothing of a file is dropped silently: each of its fields is translated, or noted (it changes nothing that the fault
//! does, or a little, and the note says what), or refused. One refusal within a fault, and there is no such fault: half
//! of what a file asks for is another experiment. What becomes of what is in `docs/foreign.md`.

mod actions;
mod chaos;
mod configuration;
mod fields;
mod http;
mod istio;
mod network;
mod pods;
mod probes;
mod providers;
mod quantity;
mod render;
mod script;
mod selector;
mod stress;
mod toolkit;
mod undo;
mod words;
mod workflow;

#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{FaultKind, FaultSpec, Limits, LoadSpec, On, Rehearsal};

pub use render::{json, yaml};
pub use script::{Scripted, script};

/// Something said of one field of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// As in `method[2].provider.func`.
    pub path: String,
    /// One sentence.
    pub why: String,
}

/// What a file became.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// Its faults are those of which nothing was refused; there may be none.
    pub rehearsal: Rehearsal,
    /// What is not in the rehearsal.
    pub refused: Vec<Remark>,
    /// What is in it, but not in every detail; and what has no meaning here.
    pub notes: Vec<Remark>,
}

/// What a translation may know beside the file.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The stack's namespace: faults elsewhere are refused.
    pub namespace: String,
    /// What `configuration` of `type: env` is taken from.
    pub environment: BTreeMap<String, String>,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    ChaosMesh,
    ChaosToolkit,
}

impl Tool {
    /// Told by its fields; nothing when it is no file of theirs.
    #[must_use]
    pub fn of(file: &Value) -> Option<Self> {
        let ours = file.get("rehearsal").is_some() || file.get("faults").is_some();
        let group = file.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if ours {
            None
        } else if group.starts_with("chaos-mesh.org/") {
            Some(Self::ChaosMesh)
        } else {
            let toolkit = file.get("method").is_some() && file.get("title").is_some();
            toolkit.then_some(Self::ChaosToolkit)
        }
    }
}

/// Translates one file; nothing when it is neither tool's.
#[must_use]
pub fn translate(file: &Value, around: &Surroundings) -> Option<Translation> {
    let mut out = Out::default();
    let (rehearsal, description) = match Tool::of(file)? {
        Tool::ChaosMesh => chaos::document(file, around, &mut out),
        Tool::ChaosToolkit => toolkit::experiment(file, around, &mut out),
    };
    if out.overlaps {
        out.refused.append(&mut out.apart);
    } else {
        out.notes.append(&mut out.once);
        out.faults.iter_mut().for_each(|fault| fault.at_seconds = 0);
    }
    if out.faults.is_empty() && out.refused.is_empty() {
        out.refuse("file", "asks for no fault: a rehearsal without one proves nothing");
    }
    // What a workflow comes to again is said again.
    let mut told = BTreeSet::new();
    out.refused.retain(|remark| told.insert(remark.clone()));
    told.clear();
    out.notes.retain(|remark| told.insert(remark.clone()));
    let limits = if out.overlaps { limits_together(&out.faults) } else { limits(&out.faults) };
    let rehearsal = Rehearsal {
        rehearsal,
        schedule: out.overlaps,
        description,
        limits,
        scenario: None,
        load: LoadSpec::default(),
        faults: out.faults,
    };
    Some(Translation { rehearsal, refused: out.refused, notes: out.notes })
}

/// What the faults need, each by itself, and nothing beyond.
#[must_use]
pub fn limits(faults: &[FaultSpec]) -> Limits {
    let mut limits = Limits { pods: 0, ..Limits::default() };
    for fault in faults {
        let (count, of) = (fault.target.count, fault.kind.shape().on);
        match of {
            On::Pods => limits.pods = limits.pods.max(count),
            On::Workloads => limits.workloads = limits.workloads.max(count),
            On::Nodes => limits.nodes = limits.nodes.max(count),
            On::Objects => limits.objects = limits.objects.max(istio::OBJECTS),
            On::Cluster => limits.control_plane = true,
        }
    }
    limits
}

/// What they need when they may be there at the same time.
fn limits_together(faults: &[FaultSpec]) -> Limits {
    let none = Limits { pods: 0, ..Limits::default() };
    faults.iter().fold(none, |sum, fault| {
        let one = limits(std::slice::from_ref(fault));
        Limits {
            pods: sum.pods + one.pods,
            nodes: sum.nodes + one.nodes,
            workloads: sum.workloads + one.workloads,
            objects: sum.objects + one.objects,
            control_plane: sum.control_plane || one.control_plane,
            ..sum
        }
    })
}

/// More are never in one rehearsal.
const FAULTS_MAX: usize = 200;

/// What is found on the way.
#[derive(Debug, Default)]
struct Out {
    faults: Vec<FaultSpec>,
    refused: Vec<Remark>,
    notes: Vec<Remark>,
    /// When the next fault begins, where a file says so.
    at_seconds: u32,
    /// Faults are asked for at the same time.
    overlaps: bool,
    /// Noted when none are.
    once: Vec<Remark>,
    /// Refused when some are.
    apart: Vec<Remark>,
}

impl Out {
    fn refuse(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.refused.push(Remark { path: path.into(), why: why.into() });
    }

    fn note(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Remark { path: path.into(), why: why.into() });
    }

    /// Takes a fault in, unless something of it was refused since `before`, or it cannot be meant.
    fn fault(&mut self, before: usize, path: &str, mut fault: FaultSpec) {
        fault.at_seconds = self.at_seconds;
        if self.refused.len() > before {
            return;
        }
        if let Some((field, message)) = fault.problem() {
            self.refuse(path, format!("{} would be refused: {field} {message}", fault.kind.as_str()));
        } else if self.faults.len() >= FAULTS_MAX {
            self.refuse(path, format!("a rehearsal has at most {FAULTS_MAX} faults: split the file"));
        } else {
            self.faults.push(fault);
        }
    }
}

/// A fault of that kind; what it hits and how long comes later.
fn fault_of(kind: FaultKind) -> FaultSpec {
    FaultSpec {
        hold_seconds: 0,
        ..FaultSpec::new(kind, crate::model::TargetSpec { count: 1, ..Default::default() })
    }
}
