//! `Workflow` and `Schedule`: several faults, or one again and again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Out;
use super::chaos::{KINDS, is_translated, no_such, one};
use super::fields::Fields;
use super::quantity::SECONDS;
use super::selector::Scope;

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
        walk.step(entry, &fields.at("entry"), &mut Vec::new(), out);
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
    /// `at` is where the template is named, `above` the lists that it is in.
    fn step(&mut self, name: &'a str, at: &str, above: &mut Vec<&'a str>, out: &mut Out) {
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
            return;
        }
        if above.contains(&name) {
            return out.refuse(at, format!("{name} leads to itself"));
        }
        let Some((path, value)) = self.templates.get(name).cloned() else {
            return out.refuse(at, format!("there is no template {name:?}"));
        };
        self.reached.insert(name);
        if self.refused.contains(name) {
            return;
        }
        let before = out.refused.len();
        self.template(name, value, &path, above, out);
        if out.refused.len() > before {
            self.refused.insert(name);
        }
    }

    fn template(
        &mut self,
        name: &'a str,
        value: &'a Value,
        path: &str,
        above: &mut Vec<&'a str>,
        out: &mut Out,
    ) {
        let Some(mut fields) = Fields::of(value, path, out) else { return };
        fields.get("name");
        let deadline = fields.duration("deadline", SECONDS, out);
        let kind = fields.text("templateType", out).unwrap_or_default();
        let why = match kind {
            "Serial" => {
                fields.note_given(
                    "deadline",
                    "mettle does not cut a list short: each fault has its own time",
                    out,
                );
                self.children(&mut fields, name, above, out);
                return fields.finish(out);
            }
            "Suspend" | "StatusCheck" => return pause(kind, fields, out),
            "Parallel" => "a rehearsal takes one fault after another: use Serial".to_owned(),
            "Task" => "mettle runs no container of yours: take it out".to_owned(),
            "Schedule" => {
                let at = fields.at("schedule");
                match fields.get("schedule") {
                    Some(spec) => schedule(spec, &at, deadline, self.scope, out),
                    None => out.refuse(at, "is missing"),
                }
                return fields.finish(out);
            }
            kind if is_translated(kind) => {
                embedded(kind, &mut fields, deadline, self.scope, out);
                return fields.finish(out);
            }
            kind => no_such(kind),
        };
        out.refuse(fields.at("templateType"), why);
    }

    fn children(&mut self, fields: &mut Fields<'a>, name: &'a str, above: &mut Vec<&'a str>, out: &mut Out) {
        let path = fields.at("children");
        let Some(Value::Array(children)) = fields.get("children") else {
            return out.refuse(path, "must be a list of names");
        };
        above.push(name);
        for (i, child) in children.iter().enumerate() {
            let at = format!("{path}[{i}]");
            match child.as_str() {
                Some(child) => self.step(child, &at, above, out),
                None => out.refuse(at, "must be text"),
            }
        }
        above.pop();
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
        out.note(path, "mettle waits until the stack is whole between two faults, not for a time");
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
