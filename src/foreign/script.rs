//! A whole experiment of Chaos Toolkit as a script: hypothesis, method, rollbacks. The counterpart of
//! `toolkit.rs`, which takes the faults alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::configuration::{Names, Unknown};
use super::fields::Fields;
use super::providers::{http, milliseconds, process};
use super::undo::{self, Undoes};
use super::{Out, Remark, Surroundings, Tool, actions, limits_together, probes};
use crate::model::{Activity, Deed, Probe, Script, Tolerance};

/// More are no experiment that somebody wrote.
const ACTIVITIES_MAX: usize = 200;

const NO_CONTROLS: &str = "mettle calls nothing around what it does: take them out";
const OWN_CLUSTER: &str = "mettle's own faults and questions use its own kubeconfig, and no secret";

/// What an experiment became.
#[derive(Debug, Clone)]
pub struct Scripted {
    /// Only meant when nothing was refused.
    pub script: Script,
    pub refused: Vec<Remark>,
    pub notes: Vec<Remark>,
}

/// Reads a whole experiment; nothing when it is none of Chaos Toolkit.
#[must_use]
pub fn script(file: &Value, around: &Surroundings) -> Option<Scripted> {
    if Tool::of(file)? != Tool::ChaosToolkit {
        return None;
    }
    let mut out = Out::default();
    let mut names = Names::default();
    let mut script = whole(file, around, &mut names, &mut out).unwrap_or_default();
    script.hidden = names.hidden().clone();
    script.source = file.clone();
    // Faults of a script may all be held at the same time.
    script.limits = limits_together(&out.faults);
    let scrubbed = |remarks: Vec<Remark>| {
        let scrubbed =
            remarks.into_iter().map(|remark| Remark { why: script.hidden.scrub(&remark.why), ..remark });
        // What a reference names is read again.
        let mut told = BTreeSet::new();
        scrubbed.filter(|remark| told.insert(remark.clone())).collect()
    };
    let (refused, notes) = (scrubbed(out.refused), scrubbed(out.notes));
    Some(Scripted { script, refused, notes })
}

fn whole(file: &Value, around: &Surroundings, names: &mut Names, out: &mut Out) -> Option<Script> {
    let mut fields = Fields::of(file, "", out)?;
    let title = fields.text("title", out).unwrap_or_default().to_owned();
    let description = fields.text("description", out).unwrap_or_default().to_owned();
    if let Some(version) = fields.word("version", out).filter(|version| version != "1.0.0") {
        out.note("version", format!("{version:?} is read as 1.0.0"));
    }
    for key in ["tags", "contributions", "extensions"] {
        fields.note_given(key, "has no meaning here", out);
    }
    fields.refuse_given("controls", NO_CONTROLS, out);
    fields.refuse_given("dry", "mettle plan FILE shows what would be done: take it out", out);
    *names = Names::read(&mut fields, around, out);
    names.read_secrets(&mut fields, around, out);
    runtime(&mut fields, out);
    let mut reading = Reading { names, around, by_name: by_name(file), open: Vec::new() };
    let mut script = Script { title, description, ..Script::default() };
    hypothesis(&mut fields, &mut reading, &mut script, out);
    match fields.get("method") {
        Some(Value::Array(_)) => {
            script.method = reading.list(&mut fields, "method", Place::Method, out);
        }
        _ => out.refuse("method", "must be a list of activities"),
    }
    if fields.get("rollbacks").is_some() {
        script.rollbacks = reading.list(&mut fields, "rollbacks", Place::Rollbacks, out);
    }
    names.finish(out);
    fields.finish(out);
    Some(script)
}

/// When rollbacks are played, and when the hypothesis is asked.
fn runtime(fields: &mut Fields, out: &mut Out) {
    let Some(mut runtime) = fields.below("runtime", out) else { return };
    if let Some(mut rollbacks) = runtime.below("rollbacks", out) {
        if rollbacks.text("strategy", out).is_some_and(|strategy| strategy != "always") {
            out.note(rollbacks.at("strategy"), "is read as always: mettle plays rollbacks whatever happened");
        }
        rollbacks.finish(out);
    }
    if let Some(mut hypothesis) = runtime.below("hypothesis", out) {
        if let Some(strategy) = hypothesis.text("strategy", out).filter(|strategy| *strategy != "default") {
            let why = format!(
                "{strategy:?}: mettle asks before and after the method, so that neither is taken on trust"
            );
            out.refuse(hypothesis.at("strategy"), why);
        }
        hypothesis.finish(out);
    }
    runtime.finish(out);
}

fn hypothesis<'a>(fields: &mut Fields<'a>, reading: &mut Reading<'a>, script: &mut Script, out: &mut Out) {
    let Some(mut fields) = fields.below("steady-state-hypothesis", out) else { return };
    script.hypothesis = fields.text("title", out).unwrap_or_default().to_owned();
    fields.refuse_given("controls", NO_CONTROLS, out);
    let path = fields.at("probes");
    for (i, value) in list_of(&mut fields, "probes", out).iter().enumerate() {
        let path = format!("{path}[{i}]");
        let before = out.refused.len();
        let activity = reading.activity(value, &path, Place::Hypothesis, out);
        let Some((written, path)) = reading.followed(value, &path) else { continue };
        let at = format!("{path}.tolerance");
        let tolerance = written.get("tolerance").unwrap_or(&Value::Null);
        let tolerance = reading.names.fill_template(tolerance, &at, Unknown::Refused, out);
        if out.refused.len() > before {
            continue;
        }
        match Tolerance::read(&tolerance) {
            Ok(tolerance) => script.probes.extend(activity.map(|activity| Probe { activity, tolerance })),
            Err((field, why)) => {
                let at = if field.is_empty() { at } else { format!("{at}.{field}") };
                out.refuse(at, why);
            }
        }
    }
    fields.finish(out);
}

fn list_of<'a>(fields: &mut Fields<'a>, key: &str, out: &mut Out) -> &'a [Value] {
    let path = fields.at(key);
    match fields.get(key) {
        Some(Value::Array(list)) if list.len() <= ACTIVITIES_MAX => list,
        Some(Value::Array(_)) => {
            out.refuse(path, format!("has more than {ACTIVITIES_MAX} activities: split the file"));
            &[]
        }
        Some(_) => {
            out.refuse(path, "must be a list of activities");
            &[]
        }
        None => &[],
    }
}

/// Every activity that has a name, with its path; of several with one name the last, as there.
fn by_name(file: &Value) -> BTreeMap<String, (String, &Value)> {
    let mut found = BTreeMap::new();
    for (path, pointer) in [
        ("steady-state-hypothesis.probes", "/steady-state-hypothesis/probes"),
        ("method", "/method"),
        ("rollbacks", "/rollbacks"),
    ] {
        let list = file.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        for (i, value) in list.enumerate() {
            if let Some(name) = value.get("name").and_then(Value::as_str) {
                found.insert(name.to_owned(), (format!("{path}[{i}]"), value));
            }
        }
    }
    found
}

/// Which list an activity is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Hypothesis,
    Method,
    Rollbacks,
}

struct Reading<'a> {
    names: &'a Names,
    around: &'a Surroundings,
    by_name: BTreeMap<String, (String, &'a Value)>,
    /// Faults that were begun and not taken back.
    open: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn list(&mut self, fields: &mut Fields<'a>, key: &str, place: Place, out: &mut Out) -> Vec<Activity> {
        let path = fields.at(key);
        let list = list_of(fields, key, out).iter().enumerate();
        list.filter_map(|(i, value)| self.activity(value, &format!("{path}[{i}]"), place, out)).collect()
    }

    /// The activity that a reference names, with its own path; any other is itself.
    fn followed(&self, value: &'a Value, path: &str) -> Option<(&'a Value, String)> {
        match value.get("ref") {
            None => Some((value, path.to_owned())),
            Some(name) => self.by_name.get(name.as_str()?).map(|(path, value)| (*value, path.clone())),
        }
    }

    fn activity(&mut self, value: &'a Value, path: &str, place: Place, out: &mut Out) -> Option<Activity> {
        let before = out.refused.len();
        let Some((written, path)) = self.followed(value, path) else {
            out.refuse(format!("{path}.ref"), "names no activity of this file");
            return None;
        };
        if value.get("ref").is_some() && value.as_object().is_some_and(|map| map.len() > 1) {
            out.refuse(&path, "a reference has no other field: the activity is what it names");
        }
        let mut fields = Fields::of(written, &path, out)?;
        let name = fields.name(out);
        let is_probe = match fields.text("type", out) {
            Some("probe") => true,
            Some("action") if place != Place::Hypothesis => false,
            _ => {
                let must =
                    if place == Place::Hypothesis { "must be probe" } else { "must be action or probe" };
                out.refuse(fields.at("type"), must);
                return None;
            }
        };
        if place != Place::Hypothesis {
            fields.note_given("tolerance", "is judged in the hypothesis only, as there", out);
        }
        fields.get("tolerance");
        fields.refuse_given("controls", NO_CONTROLS, out);
        fields.refuse_given("dry", "mettle plan FILE shows what would be done: take it out", out);
        let background = fields.flag("background", out);
        if background && place == Place::Hypothesis {
            out.note(fields.at("background"), "has no meaning in the hypothesis, as there");
        }
        let (pause_before_ms, pause_after_ms) = self.pauses(&mut fields, out);
        let deed = self.provider(&mut fields, is_probe, place, out);
        fields.finish(out);
        let deed = deed.filter(|_| out.refused.len() == before)?;
        let background = background && place != Place::Hypothesis;
        Some(Activity {
            name,
            is_probe,
            deed,
            background,
            pause_before_ms,
            pause_after_ms,
            written: written.clone(),
        })
    }

    fn pauses(&self, fields: &mut Fields, out: &mut Out) -> (u64, u64) {
        let Some(mut pauses) = fields.below("pauses", out) else { return (0, 0) };
        let mut ms = |key: &str| {
            let Some(value) = pauses.get(key) else { return 0 };
            let at = pauses.at(key);
            let value = self.names.fill_template(value, &at, Unknown::Refused, out);
            if value.as_f64() == Some(0.0) || value.is_null() {
                return 0;
            }
            milliseconds(&value).unwrap_or_else(|| {
                out.refuse(at, "must be seconds, 0 to 3600");
                0
            })
        };
        let both = (ms("before"), ms("after"));
        pauses.finish(out);
        both
    }

    fn provider(&mut self, fields: &mut Fields, is_probe: bool, place: Place, out: &mut Out) -> Option<Deed> {
        let path = fields.at("provider");
        let Some(written) = fields.get("provider") else {
            out.refuse(path, "is missing");
            return None;
        };
        let kind = written.get("type").and_then(Value::as_str).unwrap_or_default();
        let unknown = if kind == "process" { Unknown::Kept } else { Unknown::Refused };
        let before = out.refused.len();
        let filled = match kind {
            "http" | "process" => self.names.fill_template(written, &path, unknown, out),
            // A fault of ours is told in reports and journals: no secret may be in it.
            "python" => self.names.fill(written, &path, out),
            other => {
                out.refuse(format!("{path}.type"), format!("{other:?} is none of http, process, python"));
                return None;
            }
        };
        if out.refused.len() > before {
            // What has no value would only be refused again.
            return None;
        }
        let mut provider = Fields::of(&filled, &path, out)?;
        provider.get("type");
        let deed = match kind {
            "http" => {
                provider.note_given("secrets", "every secret of the file can be filled in", out);
                http(&mut provider, out).map(Deed::Http)
            }
            "process" => {
                provider.note_given("secrets", "every secret of the file can be filled in", out);
                process(&mut provider, out).map(Deed::Process)
            }
            _ => {
                provider.note_given("secrets", OWN_CLUSTER, out);
                self.python(&mut provider, is_probe, place, out)
            }
        };
        provider.finish(out);
        deed
    }

    fn python(&mut self, provider: &mut Fields, is_probe: bool, place: Place, out: &mut Out) -> Option<Deed> {
        let (module, func) = (provider.text("module", out), provider.text("func", out));
        let (Some(module), Some(func)) = (module, func) else {
            out.refuse(provider.path(), "module and func must be given");
            return None;
        };
        let empty = Value::Object(serde_json::Map::new());
        let path = provider.at("arguments");
        let mut arguments = Fields::of(provider.get("arguments").unwrap_or(&empty), &path, out)?;
        let (name, at) = (format!("{module}.{func}"), provider.at("func"));
        let deed = if is_probe {
            probes::question(&name, &at, &mut arguments, out).map(Deed::Ask)
        } else if let Some(undoes) =
            Undoes::of(&name, &mut arguments, &self.around.namespace, &out.faults, &self.open)
        {
            self.take_back(undoes, &at, place, out)
        } else if place == Place::Method {
            self.fault(&name, &at, provider.path(), &mut arguments, out)
        } else {
            let why = "a rollback of mettle's kind only takes back a fault of this method: http and process do anything";
            out.refuse(at, format!("{name}: {why}"));
            return None;
        };
        // What is refused as a whole says nothing of its arguments.
        if deed.is_some() {
            arguments.finish(out);
        }
        deed
    }

    fn take_back(&mut self, undoes: Undoes, at: &str, place: Place, out: &mut Out) -> Option<Deed> {
        match undoes {
            Undoes::Fault(index) if place == Place::Rollbacks => {
                let why = format!(
                    "mettle reverts fault {index} itself, before the rollbacks: nothing is left to do"
                );
                out.note(at, why);
                Some(Deed::Reverted { index })
            }
            Undoes::Fault(index) => {
                self.open.retain(|open| *open != index);
                Some(Deed::Release { index })
            }
            Undoes::Nothing(name) => {
                out.refuse(at, format!("{name} {}", undo::NOTHING));
                None
            }
            Undoes::Several(name) => {
                out.refuse(at, format!("{name} {}", undo::SEVERAL));
                None
            }
        }
    }

    fn fault(
        &mut self,
        name: &str,
        at: &str,
        path: &str,
        arguments: &mut Fields,
        out: &mut Out,
    ) -> Option<Deed> {
        let (before, known) = (out.refused.len(), out.faults.len());
        let mut fault = actions::fault(name, at, arguments, &self.around.namespace, out)?;
        if fault.kind.shape().held {
            // To the end of the script: only a file of ours says how long.
            fault.hold_seconds = 1;
        }
        if out.refused.len() > before {
            return None;
        }
        out.fault(before, path, fault.clone());
        if out.faults.len() == known {
            return None;
        }
        self.open.push(known);
        Some(Deed::Fault { index: known, spec: Box::new(fault) })
    }
}
