//! Chaos Toolkit's `configuration` and `secrets`, and `${name}` in its texts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::Fields;
use super::{Out, Surroundings};
use crate::model::Hidden;

/// A value of a file of 1 MiB may come a hundred thousand times.
const VALUE_MAX: usize = 1024;

/// What names stand for, and which of them were used.
#[derive(Debug, Default)]
pub struct Names {
    values: BTreeMap<String, Value>,
    /// Only calls and programs get them.
    secrets: BTreeMap<String, Value>,
    hidden: Hidden,
    used: RefCell<BTreeSet<String>>,
}

impl Names {
    /// Reads `configuration`. What has no value is refused, whether it is used or not.
    pub fn read(fields: &mut Fields, around: &Surroundings, out: &mut Out) -> Self {
        let mut names = Self::default();
        let Some(mut entries) = fields.below("configuration", out) else { return names };
        for key in entries.keys() {
            let path = entries.at(key);
            let value = match entries.get(key) {
                Some(Value::Object(map)) if map.contains_key("type") => {
                    entries.below(key, out).and_then(|entry| from_outside(entry, around, out))
                }
                Some(value) if value.to_string().len() <= VALUE_MAX => Some(value.clone()),
                Some(_) => {
                    out.refuse(path, format!("is longer than {VALUE_MAX} bytes"));
                    None
                }
                None => {
                    out.refuse(path, "has no value");
                    None
                }
            };
            names.values.extend(value.map(|value| (key.clone(), value)));
        }
        names
    }

    /// Reads `secrets`: groups of values, or of `type: env`. What is in them is never told.
    pub fn read_secrets(&mut self, fields: &mut Fields, around: &Surroundings, out: &mut Out) {
        let Some(mut groups) = fields.below("secrets", out) else { return };
        for group in groups.keys() {
            let whole =
                groups.get(group).is_some_and(|value| value.get("type").is_some_and(Value::is_string));
            if whole || !groups.get(group).is_some_and(Value::is_object) {
                let why = "must be a mapping of names to values: the toolkit fills in nothing else";
                out.refuse(groups.at(group), why);
                continue;
            }
            let Some(mut entries) = groups.below(group, out) else { continue };
            for key in entries.keys() {
                let path = entries.at(key);
                let value = match entries.get(key) {
                    Some(Value::Object(map)) if map.contains_key("type") => {
                        entries.below(key, out).and_then(|entry| from_outside(entry, around, out))
                    }
                    Some(value @ (Value::String(_) | Value::Number(_))) => Some(value.clone()),
                    _ => {
                        out.refuse(path, "must be text, a number, or of type: env");
                        None
                    }
                };
                let Some(value) = value.filter(|value| value.to_string().len() <= VALUE_MAX) else {
                    continue;
                };
                self.hidden.hide(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                self.secrets.entry(key.clone()).or_insert(value);
            }
        }
    }

    /// What was read as secret.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// A copy as the toolkit fills it in: `${name}` and `$name` where there is such a name, `$$` as `$`, and any
    /// other `$` as it is. A `${name}` without a value is refused, unless `unknown` says that it may stay: a shell
    /// has names of its own.
    pub fn fill_template(&self, value: &Value, path: &str, unknown: Unknown, out: &mut Out) -> Value {
        match value {
            Value::String(text) => self.template(text, path, unknown, out),
            Value::Array(list) => {
                let filled = list.iter().enumerate();
                filled
                    .map(|(i, value)| self.fill_template(value, &format!("{path}[{i}]"), unknown, out))
                    .collect()
            }
            Value::Object(map) => {
                let filled = map.iter().map(|(key, value)| {
                    (key.clone(), self.fill_template(value, &format!("{path}.{key}"), unknown, out))
                });
                filled.collect()
            }
            other => other.clone(),
        }
    }

    fn template(&self, text: &str, path: &str, unknown: Unknown, out: &mut Out) -> Value {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                filled.push('$');
                rest = after;
                continue;
            }
            let (name, braced, after_name) = match after.strip_prefix('{') {
                Some(inner) => match inner.split_once('}') {
                    Some((name, after)) if identifier(name) == name.len() => (name, true, after),
                    _ => ("", false, after),
                },
                None => (&after[..identifier(after)], false, &after[identifier(after)..]),
            };
            let value = self.values.get(name).or_else(|| self.secrets.get(name));
            let Some(value) = value.filter(|_| !name.is_empty()) else {
                match unknown {
                    Unknown::Refused if braced => {
                        out.refuse(path, format!("{name:?} has no value in configuration or secrets"));
                        return Value::Null;
                    }
                    Unknown::Kept if braced => {
                        out.note(
                            path,
                            format!("${{{name}}} has no value in configuration: it is left as it is"),
                        );
                    }
                    _ => {}
                }
                filled.push('$');
                rest = after;
                continue;
            };
            self.used.borrow_mut().insert(name.to_owned());
            if filled.is_empty() && after_name.is_empty() {
                return value.clone();
            }
            match value {
                Value::String(text) => filled.push_str(text),
                other => filled.push_str(&other.to_string()),
            }
            rest = after_name;
        }
        filled.push_str(rest);
        Value::String(filled)
    }

    /// A copy with every `${name}` replaced.
    pub fn fill(&self, value: &Value, path: &str, out: &mut Out) -> Value {
        match value {
            Value::String(text) => self.fill_text(text, path, out),
            Value::Array(list) => {
                let filled = list.iter().enumerate();
                filled.map(|(i, value)| self.fill(value, &format!("{path}[{i}]"), out)).collect()
            }
            Value::Object(map) => {
                let filled = map.iter();
                filled
                    .map(|(key, value)| (key.clone(), self.fill(value, &format!("{path}.{key}"), out)))
                    .collect()
            }
            other => other.clone(),
        }
    }

    /// Text that is a name and nothing else keeps the type of what it stands for.
    fn fill_text(&self, text: &str, path: &str, out: &mut Out) -> Value {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                filled.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                out.refuse(path, "a $ that is not ${name}: write $$ for the sign itself");
                return Value::Null;
            };
            let Some(value) = self.values.get(name) else {
                out.refuse(path, format!("{name:?} has no value in configuration: mettle reads no secrets"));
                return Value::Null;
            };
            self.used.borrow_mut().insert(name.to_owned());
            if filled.is_empty() && after.is_empty() {
                return value.clone();
            }
            match value {
                Value::String(text) => filled.push_str(text),
                Value::Number(number) => filled.push_str(&number.to_string()),
                _ => {
                    out.refuse(
                        path,
                        format!("{name:?} is neither text nor a number, and cannot be a part of a text"),
                    );
                    return Value::Null;
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Value::String(filled)
    }

    /// Notes what stands for nothing.
    pub fn finish(&self, out: &mut Out) {
        let used = self.used.borrow();
        for name in self.values.keys().filter(|name| !used.contains(*name)) {
            out.note(format!("configuration.{name}"), "is used by nothing that is translated");
        }
    }
}

/// What becomes of a `${name}` that nobody gave a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Refused,
    Kept,
}

/// Length of the name that a text begins with.
fn identifier(text: &str) -> usize {
    let letter = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    match text.bytes().next() {
        Some(first) if letter(first) => {
            text.bytes().position(|byte| !letter(byte) && !byte.is_ascii_digit()).unwrap_or(text.len())
        }
        _ => 0,
    }
}

/// `type: env`; other sources are none of ours.
fn from_outside(mut entry: Fields, around: &Surroundings, out: &mut Out) -> Option<Value> {
    let path = entry.path().to_owned();
    let source = entry.text("type", out).unwrap_or_default();
    if source != "env" {
        out.refuse(
            entry.at("type"),
            format!("{source:?}: mettle reads the environment, and nothing else: use env"),
        );
        return None;
    }
    let key = entry.text("key", out);
    let default = entry.get("default").cloned();
    let kind = entry.text("env_var_type", out).unwrap_or("str");
    let at = entry.at("env_var_type");
    let given = key.and_then(|key| around.environment.get(key));
    entry.finish(out);
    let Some(key) = key else {
        out.refuse(path, "key is missing: it names the variable");
        return None;
    };
    let value = match (given, default) {
        (Some(text), _) => {
            out.note(path, format!("is {key} of the environment"));
            typed(text, kind)
        }
        (None, Some(default)) => {
            out.note(path, format!("{key} is not in the environment: its default is taken"));
            Some(default)
        }
        (None, None) => {
            out.refuse(path, format!("{key} is not in the environment, and there is no default"));
            return None;
        }
    };
    if value.is_none() {
        out.refuse(at, format!("the environment's {key} is no {kind}"));
    }
    value
}

fn typed(text: &str, kind: &str) -> Option<Value> {
    match kind {
        "str" | "string" => Some(Value::String(text.to_owned())),
        "int" | "integer" => text.parse::<i64>().ok().map(Value::from),
        "json" => serde_json::from_str(text).ok(),
        "float" | "number" => {
            text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        "bool" => text.parse::<bool>().ok().map(Value::Bool),
        _ => None,
    }
}
