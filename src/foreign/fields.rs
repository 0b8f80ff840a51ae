//! A mapping of a foreign file that knows which of its fields were looked at: what is left at the end is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Out;
use super::quantity::{self, Rounded};

pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    seen: BTreeSet<&'a str>,
}

/// Nothing is in it: as good as not given.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

impl<'a> Fields<'a> {
    /// Anything but a mapping is refused.
    pub fn of(value: &'a Value, path: &str, out: &mut Out) -> Option<Self> {
        let Some(map) = value.as_object() else {
            out.refuse(if path.is_empty() { "file" } else { path }, "must be a mapping of fields");
            return None;
        };
        Some(Self { map, path: path.to_owned(), seen: BTreeSet::new() })
    }

    /// The mapping under a key, when there is one.
    pub fn below(&mut self, key: &str, out: &mut Out) -> Option<Self> {
        let path = self.at(key);
        Self::of(self.get(key)?, &path, out)
    }

    /// Path of a field.
    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn keys(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        self.map.keys()
    }

    /// The value; `null` is as good as nothing.
    pub fn get(&mut self, key: &str) -> Option<&'a Value> {
        let (name, value) = self.map.get_key_value(key)?;
        self.seen.insert(name);
        (!value.is_null()).then_some(value)
    }

    /// Text, and nothing else.
    pub fn text(&mut self, key: &str, out: &mut Out) -> Option<&'a str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            out.refuse(self.at(key), "must be text");
        }
        value.as_str()
    }

    /// Text that may also be written as a number.
    pub fn word(&mut self, key: &str, out: &mut Out) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                out.refuse(self.at(key), "must be text or a number");
                None
            }
        }
    }

    /// A whole number, 0 or more; it may be written as text.
    pub fn whole(&mut self, key: &str, out: &mut Out) -> Option<u32> {
        let word = self.word(key, out)?;
        let number = word.trim().parse().ok();
        if number.is_none() {
            out.refuse(self.at(key), format!("{word:?} is no whole number from 0 to {}", u32::MAX));
        }
        number
    }

    /// A port.
    pub fn port(&mut self, key: &str, out: &mut Out) -> Option<u16> {
        let number = self.whole(key, out)?;
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            out.refuse(self.at(key), "must be 1 to 65535");
        }
        port
    }

    /// A status of HTTP; which ones a fault takes is its own matter.
    pub fn status(&mut self, key: &str, out: &mut Out) -> Option<u16> {
        let number = self.whole(key, out)?;
        let status = u16::try_from(number).ok();
        if status.is_none() {
            out.refuse(self.at(key), "must be 200 to 599");
        }
        status
    }

    /// Refuses that a field is not there; of one that is wrong it was said already.
    pub fn needs(&mut self, key: &str, why: &str, out: &mut Out) {
        if self.get(key).is_none() {
            out.refuse(self.at(key), why);
        }
    }

    /// A name that something has to have; empty when it was refused.
    pub fn name(&mut self, out: &mut Out) -> String {
        let name = self.text("name", out).unwrap_or_default().to_owned();
        self.needs("name", "is missing", out);
        if name.is_empty() && self.get("name").is_some_and(Value::is_string) {
            out.refuse(self.at("name"), "must not be empty");
        }
        name
    }

    /// True or false, and false when it is not there.
    pub fn flag(&mut self, key: &str, out: &mut Out) -> bool {
        let Some(value) = self.get(key) else { return false };
        if !value.is_boolean() {
            out.refuse(self.at(key), "must be true or false");
        }
        value == &Value::Bool(true)
    }

    /// A share in whole percent.
    pub fn percent(&mut self, key: &str, out: &mut Out) -> Option<u8> {
        let word = self.word(key, out)?;
        let percent = quantity::whole_percent(&word);
        if percent.is_none() {
            let why = format!("{word:?} is no share that mettle can draw: 1 to 100, in whole percent");
            out.refuse(self.at(key), why);
        }
        percent
    }

    /// A time in `unit`s of nanoseconds, rounded up; it is noted when it was.
    pub fn duration(&mut self, key: &str, unit: (u128, &str), out: &mut Out) -> Option<u32> {
        let word = self.word(key, out)?;
        let path = self.at(key);
        let Some(rounded) = quantity::duration(&word, unit.0) else {
            out.refuse(path, format!("{word:?} is no time like 30s, 1m30s or 100ms"));
            return None;
        };
        if let Rounded::Up(value) = rounded {
            out.note(path, format!("{word} is rounded up to {value} {}", unit.1));
        }
        Some(rounded.value())
    }

    /// Refuses a field that says anything at all.
    pub fn refuse_given(&mut self, key: &str, why: &str, out: &mut Out) {
        if self.get(key).is_some_and(|value| !is_empty(value)) {
            out.refuse(self.at(key), why);
        }
    }

    /// Notes a field that says anything at all.
    pub fn note_given(&mut self, key: &str, why: &str, out: &mut Out) {
        if self.get(key).is_some_and(|value| !is_empty(value)) {
            out.note(self.at(key), why);
        }
    }

    /// What nobody asked for.
    pub fn finish(self, out: &mut Out) {
        for key in self.map.keys().filter(|key| !self.seen.contains(key.as_str())) {
            out.refuse(self.at(key), "is no field that mettle can translate: take it out if it is not meant");
        }
    }
}
