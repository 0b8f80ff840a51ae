//! Objects of the API as values: which one, and edits that can be taken back.
//!
//! An edited object carries what its fields were in an annotation, written by the same request as the edit: with the
//! journal lost, the object alone is enough to restore it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Fields as they were before the edit.
pub const UNDO_ANNOTATION: &str = "mettle.dev/undo";
/// What we edited or made, so that it can be listed.
pub const TOUCHED_LABEL: (&str, &str) = ("mettle.dev/touched", "true");

/// One field of an object. `path` is a JSON pointer (RFC 6901); missing objects on the way are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "edit", rename_all = "lowercase")]
pub enum Edit {
    /// The field has this value.
    Set { path: String, value: Value },
    /// The list at this path has one element more.
    Add { path: String, value: Value },
    /// The certificate at this path is one that has expired, made for the private key at the other: both as a Secret holds
    /// them. So the key stays where it is, and the note of what was there is of a certificate only, which everybody may see.
    Expire { certificate: String, key: String },
}

impl Edit {
    #[must_use]
    pub fn set(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Set { path: path.into(), value: value.into() }
    }

    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Set { path, value } => format!("{path} = {}", short(value)),
            Self::Add { path, value } => format!("{path} += {}", short(value)),
            Self::Expire { certificate, .. } => format!("{certificate} = one that has expired"),
        }
    }
}

/// How one edit is taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "lowercase")]
enum Was {
    /// `path` held `old`, and holds `new` since.
    Value { path: String, old: Value, new: Value },
    /// `made`, a prefix of `path`, was not there.
    Absent { path: String, made: String, new: Value },
    /// The list had one element less.
    Shorter { path: String, new: Value },
}

/// What becomes of a field that somebody else changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// It is left alone, and the edit stays open: a person decides.
    #[default]
    Tell,
    /// It gets what it held before the edit.
    Overwrite,
    /// It is left alone, and so is everything else: the edit is over.
    Accept,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    Done,
    /// It bears no mark of ours: never edited, or restored before.
    Clean,
    /// Somebody else changed the field since; the object is as it was found.
    Conflict(String),
    /// It is as it was, and what somebody else had made of these fields is gone.
    Overwrote(Vec<String>),
    /// It stays as somebody else left it, without our marks.
    Accepted(String),
}

/// Makes the edits and notes in the object how they are taken back.
///
/// # Errors
/// When a path leads through what is no object or list, or the object is edited already.
pub fn edit(object: &mut Value, edits: &[Edit], run: &str) -> Result<(), String> {
    if annotation(object).is_some() {
        return Err("it bears an edit that was not taken back; `mettle revert` does that".to_owned());
    }
    let mut edited = object.clone();
    let mut undo = Vec::with_capacity(edits.len());
    for edit in edits {
        undo.push(match edit {
            Edit::Set { path, value } => set(&mut edited, path, value)?,
            Edit::Add { path, value } => add(&mut edited, path, value)?,
            Edit::Expire { certificate, .. } => {
                return Err(format!("the certificate for {certificate} was not made before"));
            }
        });
    }
    let note = json!({ "run": run, "undo": undo }).to_string();
    mark(&mut edited, "annotations", UNDO_ANNOTATION, Some(&note))?;
    mark(&mut edited, "labels", TOUCHED_LABEL.0, Some(TOUCHED_LABEL.1))?;
    *object = edited;
    Ok(())
}

/// Takes the edits back that the object says were made.
///
/// # Errors
/// When the note in the object cannot be read.
pub fn restore(object: &mut Value, on_conflict: OnConflict) -> Result<Restored, String> {
    let Some(note) = annotation(object) else { return Ok(Restored::Clean) };
    let note: Value = serde_json::from_str(note).map_err(|error| format!("its note is not ours: {error}"))?;
    let undo: Vec<Was> = serde_json::from_value(note["undo"].clone())
        .map_err(|error| format!("its note is not ours: {error}"))?;
    let mut restored = object.clone();
    let mut overwritten = Vec::new();
    for was in undo.iter().rev() {
        let Err(conflict) = take_back(&mut restored, was) else { continue };
        match on_conflict {
            OnConflict::Tell => return Ok(Restored::Conflict(conflict)),
            OnConflict::Overwrite => overwritten.push(overwrite(&mut restored, was)?),
            OnConflict::Accept => {
                forget(object);
                return Ok(Restored::Accepted(conflict));
            }
        }
    }
    mark(&mut restored, "annotations", UNDO_ANNOTATION, None)?;
    mark(&mut restored, "labels", TOUCHED_LABEL.0, None)?;
    *object = restored;
    Ok(if overwritten.is_empty() { Restored::Done } else { Restored::Overwrote(overwritten) })
}

/// Takes our marks off an object whose edits are to stay; whether it bore any.
pub fn forget(object: &mut Value) -> bool {
    let bore = annotation(object).is_some();
    // Both are strings in mappings of strings, or not there.
    let _ = mark(object, "annotations", UNDO_ANNOTATION, None);
    let _ = mark(object, "labels", TOUCHED_LABEL.0, None);
    bore
}

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][UNDO_ANNOTATION].as_str()
}

fn mark(object: &mut Value, map: &str, key: &str, value: Option<&str>) -> Result<(), String> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or("it has no metadata")?;
    let entries = metadata.entry(map).or_insert_with(|| Value::Object(Map::new()));
    let entries = entries.as_object_mut().ok_or_else(|| format!("metadata.{map} is no mapping"))?;
    match value {
        Some(value) => {
            entries.insert(key.to_owned(), Value::String(value.to_owned()));
        }
        None => {
            entries.remove(key);
        }
    }
    if entries.is_empty() {
        metadata.remove(map);
    }
    Ok(())
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

fn joined(parts: &[String]) -> String {
    parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

fn set(object: &mut Value, path: &str, value: &Value) -> Result<Was, String> {
    if let Some(found) = object.pointer_mut(path) {
        let old = std::mem::replace(found, value.clone());
        return Ok(Was::Value { path: path.to_owned(), old, new: value.clone() });
    }
    let parts = parts(path);
    let made = (1..=parts.len()).map(|depth| joined(&parts[..depth])).find(|at| object.pointer(at).is_none());
    let mut at = object;
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        let fresh = || if last { value.clone() } else { Value::Object(Map::new()) };
        let next = match at {
            Value::Object(map) => Some(map.entry(part.clone()).or_insert_with(fresh)),
            // Elements are there, or not: none is made.
            Value::Array(list) => part.parse().ok().and_then(|index: usize| list.get_mut(index)),
            _ => None,
        };
        at = next.ok_or_else(|| format!("{} is not there", joined(&parts[..=i])))?;
    }
    Ok(Was::Absent {
        path: path.to_owned(),
        made: made.unwrap_or_else(|| path.to_owned()),
        new: value.clone(),
    })
}

fn add(object: &mut Value, path: &str, value: &Value) -> Result<Was, String> {
    if object.pointer(path).is_none_or(Value::is_null) {
        return set(object, path, &json!([value]));
    }
    let list = object.pointer_mut(path).and_then(Value::as_array_mut);
    list.ok_or_else(|| format!("{path} is no list"))?.push(value.clone());
    Ok(Was::Shorter { path: path.to_owned(), new: value.clone() })
}

fn take_back(object: &mut Value, was: &Was) -> Result<(), String> {
    match was {
        // The server drops what is empty.
        Was::Value { path, old, new } if is_empty(new) && object.pointer(path).is_none() => {
            set(object, path, old)?;
        }
        Was::Value { path, old, new } => {
            let found = object.pointer_mut(path).filter(|found| holds(found, new));
            *found.ok_or_else(|| format!("{path} is no longer {}", short(new)))? = old.clone();
        }
        Was::Absent { path, made, new } => {
            match object.pointer(path) {
                // The server drops what it finds empty.
                None => {}
                Some(found) if holds(found, new) => remove(object, path, made),
                Some(_) => return Err(format!("{path} is no longer {}", short(new))),
            }
        }
        Was::Shorter { path, new } => {
            let list = object.pointer_mut(path).and_then(Value::as_array_mut);
            // Absent: somebody has taken it back.
            let Some(list) = list else { return Ok(()) };
            // Ours was put last; others may have put an equal one before it.
            let exact = list.iter().rposition(|element| element == new);
            if let Some(at) = exact.or_else(|| list.iter().rposition(|element| holds(element, new))) {
                list.remove(at);
            }
        }
    }
    Ok(())
}

/// Puts back what was, whatever is there now; what that was, for people.
fn overwrite(object: &mut Value, was: &Was) -> Result<String, String> {
    let (Was::Value { path, .. } | Was::Absent { path, .. } | Was::Shorter { path, .. }) = was;
    let found = object.pointer(path).map_or_else(|| "absent".to_owned(), short);
    let now = match was {
        Was::Value { old, .. } => {
            set(object, path, old)?;
            short(old)
        }
        Was::Absent { made, .. } => {
            remove(object, path, made);
            "absent".to_owned()
        }
        // Somebody else's elements are never a conflict.
        Was::Shorter { .. } => found.clone(),
    };
    Ok(format!("{path} was {found}, and is {now} again"))
}

/// Removes the field, and the mappings above it that were made for it and hold nothing else.
fn remove(object: &mut Value, path: &str, made: &str) {
    let mut parts = parts(path);
    while let Some(last) = parts.pop() {
        let Some(map) = object.pointer_mut(&joined(&parts)).and_then(Value::as_object_mut) else { return };
        map.remove(&last);
        if !map.is_empty() || joined(&parts).len() < made.len() {
            return;
        }
    }
}

/// `found` says all that `new` says: a server adds defaults to what it is given.
fn holds(found: &Value, new: &Value) -> bool {
    match (found, new) {
        (Value::Object(found), Value::Object(new)) => {
            new.iter().all(|(key, value)| found.get(key).is_some_and(|other| holds(other, value)))
        }
        (Value::Array(found), Value::Array(new)) => {
            found.len() == new.len() && found.iter().zip(new).all(|(found, new)| holds(found, new))
        }
        // 100 and 100.0 are one number, and servers write it as they like.
        (Value::Number(found), Value::Number(new)) => found.as_f64() == new.as_f64(),
        _ => found == new,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value in a message: its beginning is enough to know it.
fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    format!("{}…", text.chars().take(CHARS_MAX).collect::<String>())
}

#[cfg(test)]
mod tests;
