//! `Workflow` and `Schedule`: several faults, or one again and again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::chaos::{KINDS, is_translated, no_such, one};
use super::fields::Fields;
use super::quantity::SECONDS;
use super::selector::Scope;
use super::{Out, Remark};

/// Steps of a workflow, each time that it comes: lists of lists of lists grow fast.
const STEPS_MAX: usize = 1000;
/// Lists within lists.
const DEPTH_MAX: usize = 32;

pub fn workflow(spec: &Value, path: &str, scope: &Scope, out: &mut Out) {
    let Some(mut fields) = Fields::of(spec, path, out) else { return };
    let entry = fields.text("entry", out);
    fields.needs("entry", "is missing", out);
    let list = fields.at("templates");
    let templates = match fields.get("templates") {
        Some(Value::Array(templates)) => templates.as_slice(),
        _ => {
            out.refuse(&list, "must be a list of templates");
            &[]
        }
    };
    let mut walk = Walk {
        templates: BTreeMap::new(),
        reached: BTreeSet::new(),
        refused: BTreeSet::new(),
        steps: 0,
        scope,
    };
    for (i, template) in templates.iter().enumerate() {
        let path = format!("{list}[{i}]");
        match template.get("name").and_then(Value::as_str) {
            Some(name) if walk.templates.contains_key(name) => {
                out.refuse(format!("{path}.name"), "is given twice");
            }
            Some(name) => drop(walk.templates.insert(name, (path, template))),
            None => out.refuse(format!("{path}.name"), "is missing or wrong"),
        }
    }
    if let Some(entry) = entry {
        let begin = out.at_seconds;
        walk.step(entry, &fields.at("entry"), &mut Vec::new(), out);
        out.at_seconds = begin;
    }
    for (name, (path, _)) in &walk.templates {
        if !walk.reached.contains(name) {
            out.note(path, format!("no step that is translated leads to {name}"));
        }
    }
    fields.finish(out);
}

struct Walk<'a> {
    /// By name, with path.
    templates: BTreeMap<&'a str, (String, &'a Value)>,
    reached: BTreeSet<&'a str>,
    /// Of these something was refused: once is enough.
    refused: BTreeSet<&'a str>,
    steps: usize,
    scope: &'a Scope,
}

impl<'a> Walk<'a> {
    /// `at` is where the template is named, `above` the lists that it is in. Gives how long it takes, where the file
    /// says so; it begins at `out.at_seconds`.
    fn step(&mut self, name: &'a str, at: &str, above: &mut Vec<&'a str>, out: &mut Out) -> Option<u32> {
        self.steps += 1;
        if self.steps > STEPS_MAX || above.len() > DEPTH_MAX {
            // Once is enough.
            if self.steps <= STEPS_MAX + 1 {
                out.refuse(
                    at,
                    format!("more than {STEPS_MAX} steps, or lists {DEPTH_MAX} deep: split the file"),
                );
            }
            self.steps = STEPS_MAX + 1;
            return None;
        }
        if above.contains(&name) {
            out.refuse(at, format!("{name} leads to itself"));
            return None;
        }
        let Some((path, value)) = self.templates.get(name).cloned() else {
            out.refuse(at, format!("there is no template {name:?}"));
            return None;
        };
        self.reached.insert(name);
        if self.refused.contains(name) {
            return None;
        }
        let before = out.refused.len();
        let seconds = self.template(name, value, &path, above, out);
        if out.refused.len() > before {
            self.refused.insert(name);
        }
        seconds
    }

    fn template(
        &mut self,
        name: &'a str,
        value: &'a Value,
        path: &str,
        above: &mut Vec<&'a str>,
        out: &mut Out,
    ) -> Option<u32> {
        let mut fields = Fields::of(value, path, out)?;
        fields.get("name");
        let deadline = fields.duration("deadline", SECONDS, out);
        let kind = fields.text("templateType", out).unwrap_or_default();
        let why = match kind {
            "Serial" | "Parallel" => {
                let at = fields.at("deadline");
                let before = out.refused.len();
                let seconds = self.children(&mut fields, name, kind == "Parallel", above, out);
                fields.finish(out);
                bounded(at, seconds, deadline, out.refused.len() == before, out);
                return seconds;
            }
            "Suspend" | "StatusCheck" => {
                pause(kind, fields, out);
                return deadline;
            }
            "Task" => "mettle runs no container of yours: take it out".to_owned(),
            "Schedule" => {
                let at = fields.at("schedule");
                match fields.get("schedule") {
                    Some(spec) => schedule(spec, &at, deadline, self.scope, out),
                    None => out.refuse(at, "is missing"),
                }
                fields.finish(out);
                return deadline;
            }
            kind if is_translated(kind) => {
                embedded(kind, &mut fields, deadline, self.scope, out);
                fields.finish(out);
                return deadline;
            }
            kind => no_such(kind),
        };
        out.refuse(fields.at("templateType"), why);
        None
    }

    /// One after another, or all at the same time. Gives how long all of them take.
    fn children(
        &mut self,
        fields: &mut Fields<'a>,
        name: &'a str,
        together: bool,
        above: &mut Vec<&'a str>,
        out: &mut Out,
    ) -> Option<u32> {
        let path = fields.at("children");
        let Some(Value::Array(children)) = fields.get("children") else {
            out.refuse(path, "must be a list of names");
            return None;
        };
        out.overlaps |= together && children.len() > 1;
        let (begin, mut whole) = (out.at_seconds, Some(0_u32));
        above.push(name);
        for (i, child) in children.iter().enumerate() {
            let at = format!("{path}[{i}]");
            let Some(child) = child.as_str() else {
                out.refuse(at, "must be text");
                continue;
            };
            let before = out.refused.len();
            let seconds = self.step(child, &at, above, out);
            if together {
                whole = whole.zip(seconds).map(|(whole, seconds)| whole.max(seconds));
                continue;
            }
            let said = out.refused.len() > before || self.refused.contains(child);
            if seconds.is_none() && !said && i + 1 < children.len() {
                let why =
                    format!("{child} has no deadline, so when the next one begins is not said: give it one");
                out.apart.push(Remark { path: at, why });
            }
            whole = whole.zip(seconds).and_then(|(whole, seconds)| whole.checked_add(seconds));
            out.at_seconds = out.at_seconds.saturating_add(seconds.unwrap_or(0));
        }
        above.pop();
        out.at_seconds = begin;
        whole
    }
}

/// A list that is cut short is another list. Where one fault comes after another, each has its own time.
fn bounded(at: String, seconds: Option<u32>, deadline: Option<u32>, whole: bool, out: &mut Out) {
    let Some(deadline) = deadline else { return };
    let why = "mettle does not cut a list short: each fault has its own time".to_owned();
    out.once.push(Remark { path: at.clone(), why });
    // Of a list that is not translated it was said why.
    if whole && seconds.is_none_or(|seconds| seconds > deadline) {
        let why = "would cut its children short: mettle holds each for its whole time".to_owned();
        out.apart.push(Remark { path: at, why });
    }
}

/// Time that passes is no fault; a check of something is none of ours.
fn pause(kind: &str, mut fields: Fields, out: &mut Out) {
    let path = fields.at("templateType");
    if kind == "StatusCheck" && fields.keys().any(|key| key == "statusCheck") {
        return out
            .refuse(path, "StatusCheck is not translated: mettle's checks are in expect of an experiment");
    }
    if fields.get("deadline").is_some() {
        let why = "mettle waits until the stack is whole between two faults, not for a time".to_owned();
        out.once.push(Remark { path, why });
    } else {
        out.refuse(path, format!("{kind} without a deadline has no end: take it out"));
    }
    fields.finish(out);
}

/// The chaos under its kind's own field.
fn embedded(kind: &str, fields: &mut Fields, deadline: Option<u32>, scope: &Scope, out: &mut Out) {
    let key = KINDS.iter().find(|(name, _)| *name == kind).map_or("", |(_, key)| key);
    let path = fields.at(key);
    match fields.get(key) {
        Some(spec) => one(kind, spec, &path, deadline, scope, out),
        None => out.refuse(path, "is missing"),
    }
}

pub fn schedule(spec: &Value, path: &str, deadline: Option<u32>, scope: &Scope, out: &mut Out) {
    let Some(mut fields) = Fields::of(spec, path, out) else { return };
    let why = "the fault comes once: when, and how often, is up to who calls mettle";
    for key in ["schedule", "startingDeadlineSeconds", "concurrencyPolicy", "historyLimit"] {
        fields.note_given(key, why, out);
    }
    let at = fields.at("type");
    match fields.text("type", out).unwrap_or_default() {
        "Workflow" => {
            let at = fields.at("workflow");
            match fields.get("workflow") {
                Some(spec) => workflow(spec, &at, scope, out),
                None => out.refuse(at, "is missing"),
            }
        }
        kind if is_translated(kind) => embedded(kind, &mut fields, deadline, scope, out),
        kind => return out.refuse(at, no_such(kind)),
    }
    fields.finish(out);
}
