//! Experiments of Chaos Toolkit.

use serde_json::Value;

use super::configuration::Names;
use super::fields::Fields;
use super::{Out, Surroundings, actions};
use crate::model::FaultSpec;

/// For a fault that says no time.
const HOLD_SECONDS: u32 = 5;

/// Name and description; faults and remarks go to `out`.
pub fn experiment(file: &Value, around: &Surroundings, out: &mut Out) -> (String, String) {
    let Some(mut fields) = Fields::of(file, "", out) else { return Default::default() };
    let title = fields.text("title", out).unwrap_or_default().to_owned();
    let description = fields.text("description", out).unwrap_or_default().to_owned();
    if let Some(version) = fields.word("version", out).filter(|version| version != "1.0.0") {
        out.note("version", format!("{version:?} is read as 1.0.0"));
    }
    for key in ["tags", "contributions", "extensions"] {
        fields.note_given(key, "has no meaning here", out);
    }
    fields.note_given("secrets", "mettle reads none: the cluster is that of its kubeconfig", out);
    fields.note_given("runtime", "mettle reverts each fault at its end, and always", out);
    fields.refuse_given("controls", "mettle calls nothing around its faults: take them out", out);
    let checks =
        "a rehearsal judges whether a fault bit and is gone: `mettle run FILE` plays the whole experiment";
    fields.refuse_given("steady-state-hypothesis", checks, out);
    fields.refuse_given(
        "rollbacks",
        "a rehearsal reverts each fault by itself: `mettle run FILE` plays the whole experiment, and these, too",
        out,
    );
    let names = Names::read(&mut fields, around, out);
    match fields.get("method") {
        Some(Value::Array(method)) => {
            for (i, value) in method.iter().enumerate() {
                activity(value, &format!("method[{i}]"), &names, around, out);
            }
        }
        _ => out.refuse("method", "must be a list of activities"),
    }
    names.finish(out);
    fields.finish(out);
    (title, description)
}

fn activity(value: &Value, path: &str, names: &Names, around: &Surroundings, out: &mut Out) {
    let kind = value.get("type").and_then(Value::as_str);
    if kind == Some("probe") {
        let why = "a probe is no fault: `mettle run FILE` plays it";
        return out.note(path, why);
    }
    let before = out.refused.len();
    let value = names.fill(value, path, out);
    let Some(mut fields) = Fields::of(&value, path, out) else { return };
    if fields.get("ref").is_some() {
        return out.refuse(fields.at("ref"), "a rehearsal follows no reference: `mettle run FILE` does");
    }
    if fields.text("type", out) != Some("action") {
        return out.refuse(fields.at("type"), "must be action or probe");
    }
    // A name for people.
    fields.text("name", out);
    if fields.flag("background", out) {
        let why = "a rehearsal takes one fault after another: `mettle run FILE` plays activities beside one another";
        out.refuse(fields.at("background"), why);
    }
    fields.refuse_given("controls", "mettle calls nothing around its faults: take them out", out);
    let at = fields.at("provider");
    let fault = match fields.below("provider", out) {
        Some(provider) => action(provider, around, out),
        None => return out.refuse(at, "is missing"),
    };
    let held = pauses(&mut fields, fault.as_ref(), out);
    fields.finish(out);
    if let Some(mut fault) = fault {
        fault.hold_seconds = held;
        out.fault(before, path, fault);
    }
}

fn action(mut provider: Fields, around: &Surroundings, out: &mut Out) -> Option<FaultSpec> {
    let at = provider.at("type");
    match provider.text("type", out) {
        Some("python") => {}
        Some(kind @ ("http" | "process")) => {
            let why = format!(
                "{kind}: a rehearsal calls and runs nothing of yours: `mettle run FILE` does, when it may"
            );
            out.refuse(at, why);
            return None;
        }
        _ => {
            out.refuse(at, "must be python");
            return None;
        }
    }
    let (module, func) = (provider.text("module", out), provider.text("func", out));
    let (Some(module), Some(func)) = (module, func) else {
        out.refuse(provider.path(), "module and func must be given");
        return None;
    };
    provider.note_given("secrets", "mettle reads none: the cluster is that of its kubeconfig", out);
    let empty = Value::Object(serde_json::Map::new());
    let path = provider.at("arguments");
    let arguments = provider.get("arguments").unwrap_or(&empty);
    let mut arguments = Fields::of(arguments, &path, out)?;
    let name = format!("{module}.{func}");
    let fault = actions::fault(&name, &provider.at("func"), &mut arguments, &around.namespace, out)?;
    arguments.finish(out);
    provider.finish(out);
    Some(fault)
}

/// How long the fault is held: for as long as the toolkit would wait after it.
fn pauses(fields: &mut Fields, fault: Option<&FaultSpec>, out: &mut Out) -> u32 {
    let path = fields.at("pauses");
    let held = fault.filter(|fault| fault.kind.shape().held);
    let mut after = None;
    if let Some(mut pauses) = fields.below("pauses", out) {
        let wait = "mettle waits until the stack is whole between two faults, not for a time";
        pauses.note_given("before", wait, out);
        if held.is_some() {
            after = seconds(&mut pauses, out);
        } else {
            pauses.note_given("after", wait, out);
        }
        pauses.finish(out);
    }
    let Some(fault) = held else { return 0 };
    let kind = fault.kind.as_str();
    if after.is_some() {
        out.note(format!("{path}.after"), format!("{kind} is held so long, and reverted"));
    } else {
        let why = format!("names no time after it: {kind} is held for {HOLD_SECONDS} s, and reverted");
        out.note(path, why);
    }
    after.unwrap_or(HOLD_SECONDS)
}

fn seconds(pauses: &mut Fields, out: &mut Out) -> Option<u32> {
    let word = pauses.word("after", out)?;
    let rounded = super::quantity::duration(&format!("{word}s"), super::quantity::SECONDS.0);
    if rounded.is_none() {
        out.refuse(pauses.at("after"), format!("{word:?} is no number of seconds"));
    }
    rounded.map(super::quantity::Rounded::value)
}
