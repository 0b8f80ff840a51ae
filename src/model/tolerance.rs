//! What a probe's answer must be, as Chaos Toolkit defines it.

use std::cmp::Ordering;

use jsonpath_rust::JsonPath;
use jsonpath_rust::parser::parse_json_path;
use regex::Regex;
use serde_json::Value;

use super::Hidden;

/// A pattern or a path of a file is no longer than that.
const TEXT_MAX: usize = 4096;
const PATH_MAX: usize = 512;
/// Compiled, in bytes: a pattern of a few characters can ask for more.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Whether an answer is what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Within {
    Yes,
    /// What it is, and what it should be.
    No(String),
    /// The two cannot be compared: that proves nothing.
    Unfit(String),
}

/// One tolerance.
#[derive(Debug, Clone)]
pub enum Tolerance {
    /// Equal to it.
    Same(Value),
    /// Equal to it, or an answer with that `status`.
    Status(Value),
    /// An answer whose `status` is one of them; else between two bounds; else one of them.
    Listed(Vec<Value>),
    Regex {
        pattern: Regex,
        target: Option<String>,
    },
    JsonPath {
        path: String,
        target: Option<String>,
        count: Option<u64>,
        expect: Option<Vec<Value>>,
    },
    Range {
        low: f64,
        high: f64,
        target: Option<String>,
    },
}

/// The field that is wrong, below the tolerance, and a sentence.
pub type Wrong = (&'static str, String);

impl Tolerance {
    /// Reads one out of a file.
    ///
    /// # Errors
    /// When it cannot be meant, or is of a kind that is not judged here.
    pub fn read(value: &Value) -> Result<Self, Wrong> {
        match value {
            Value::Bool(_) | Value::String(_) => Ok(Self::Same(value.clone())),
            Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Self::Status(value.clone())),
            Value::Number(_) => Err(("", "must be a whole number: write a range for any other".to_owned())),
            Value::Array(list) if list.is_empty() => {
                Err(("", "is an empty list: nothing would be within it".to_owned()))
            }
            Value::Array(list) => Ok(Self::Listed(list.clone())),
            Value::Object(map) => {
                let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
                let known: &[&str] = match kind {
                    "regex" => &["type", "pattern", "target"],
                    "jsonpath" => &["type", "path", "target", "count", "expect"],
                    "range" => &["type", "range", "target"],
                    "probe" => {
                        let why = "probe: mettle asks no probe about another's answer: use regex, jsonpath or range";
                        return Err(("type", why.to_owned()));
                    }
                    other => return Err(("type", format!("{other:?} is none of regex, jsonpath, range"))),
                };
                if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
                    return Err(("", format!("{kind} takes no {key:?}")));
                }
                let target = text(map.get("target"), "target")?;
                match kind {
                    "regex" => regex(map.get("pattern"), target),
                    "jsonpath" => jsonpath(map, target),
                    _ => range(map.get("range"), target),
                }
            }
            Value::Null => Err(("", "is missing".to_owned())),
        }
    }

    /// Judges an answer. Nothing secret is in what it says.
    #[must_use]
    pub fn judge(&self, answer: &Value, hidden: &Hidden) -> Within {
        let shown = |value: &Value| short(&hidden.scrub(&value.to_string()));
        let status = answer.get("status");
        let no = |value: &Value, wanted: String| {
            Within::No(format!("is {}, and must be {}", shown(value), hidden.scrub(&wanted)))
        };
        match self {
            Self::Same(wanted) if same(answer, wanted) => Within::Yes,
            Self::Same(wanted) => no(answer, wanted.to_string()),
            Self::Status(wanted) => {
                let value = status.unwrap_or(answer);
                if same(value, wanted) { Within::Yes } else { no(value, wanted.to_string()) }
            }
            Self::Listed(list) => {
                let all = Value::Array(list.clone()).to_string();
                if let (None, [low, high]) = (status, &list[..]) {
                    return match (order(low, answer), order(answer, high)) {
                        (Some(a), Some(b)) if a != Ordering::Greater && b != Ordering::Greater => Within::Yes,
                        (Some(_), Some(_)) => no(answer, format!("from {low} to {high}")),
                        _ => Within::Unfit(format!("{} has no order with {all}", shown(answer))),
                    };
                }
                let value = status.unwrap_or(answer);
                let found = list.iter().any(|wanted| same(value, wanted));
                if found { Within::Yes } else { no(value, format!("one of {all}")) }
            }
            Self::Regex { pattern, target } => match picked(answer, target.as_deref()) {
                Ok(Value::String(text)) if is_match(pattern, text) => Within::Yes,
                Ok(value @ Value::String(_)) => no(value, format!("what {pattern} matches")),
                Ok(value) => Within::Unfit(format!("{} is no text to match", shown(value))),
                Err(why) => Within::Unfit(why),
            },
            Self::JsonPath { path, target, count, expect } => match picked(answer, target.as_deref()) {
                Ok(value) => {
                    let within = along(value, path, *count, expect.as_deref());
                    match within {
                        Within::No(why) => Within::No(short(&hidden.scrub(&why))),
                        Within::Unfit(why) => Within::Unfit(short(&hidden.scrub(&why))),
                        Within::Yes => Within::Yes,
                    }
                }
                Err(why) => Within::Unfit(why),
            },
            Self::Range { low, high, target } => match picked(answer, target.as_deref()) {
                Ok(value) => match number(value) {
                    Some(figure) if *low <= figure && figure <= *high => Within::Yes,
                    Some(_) => no(value, format!("from {low} to {high}")),
                    None if value.is_string() => no(value, format!("a number from {low} to {high}")),
                    None => Within::Unfit(format!("{} is no number", shown(value))),
                },
                Err(why) => Within::Unfit(why),
            },
        }
    }

    /// For people: what must hold.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Same(value) => format!("is {value}"),
            Self::Status(value) => format!("is, or has status, {value}"),
            Self::Listed(list) if list.len() == 2 => {
                format!("has a status of {0}, or is between the two of {0}", Value::Array(list.clone()))
            }
            Self::Listed(list) => format!("is, or has a status, of {}", Value::Array(list.clone())),
            Self::Regex { pattern, .. } => format!("matches {pattern}"),
            Self::JsonPath { path, .. } => format!("has what {path} finds"),
            Self::Range { low, high, .. } => format!("is from {low} to {high}"),
        }
    }
}

/// What is told of an answer fits on a line.
pub(super) fn short(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn text(value: Option<&Value>, field: &'static str) -> Result<Option<String>, Wrong> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_MAX => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err((field, format!("is longer than {TEXT_MAX} bytes"))),
        Some(_) => Err((field, "must be text".to_owned())),
    }
}

fn regex(pattern: Option<&Value>, target: Option<String>) -> Result<Tolerance, Wrong> {
    let Some(pattern) = text(pattern, "pattern")? else { return Err(("pattern", "is missing".to_owned())) };
    let built = regex::RegexBuilder::new(&pattern).size_limit(REGEX_BYTES_MAX).build();
    match built {
        Ok(pattern) => Ok(Tolerance::Regex { pattern, target }),
        Err(error) => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err((
                "pattern",
                format!("is no pattern that mettle can match (no look-around, no back-references): {last}"),
            ))
        }
    }
}

fn jsonpath(map: &serde_json::Map<String, Value>, target: Option<String>) -> Result<Tolerance, Wrong> {
    let path = text(map.get("path"), "path")?.map(|path| path.trim().to_owned());
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return Err(("path", "is missing".to_owned()));
    };
    // Parentheses within parentheses are followed by recursion: no path needs many.
    if path.len() > PATH_MAX {
        return Err(("path", format!("is longer than {PATH_MAX} bytes")));
    }
    if parse_json_path(&path).is_err() {
        return Err(("path", format!("{path:?} is no JSONPath of RFC 9535 (there, equal is ==)")));
    }
    let count = match map.get("count") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64() {
            Some(count) => Some(count),
            None => return Err(("count", "must be a whole number, 0 or more".to_owned())),
        },
    };
    // `expect: null` asks for null.
    let expect = map.get("expect").map(|expect| match expect {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    });
    Ok(Tolerance::JsonPath { path, target, count, expect })
}

fn range(bounds: Option<&Value>, target: Option<String>) -> Result<Tolerance, Wrong> {
    let bounds = bounds.and_then(Value::as_array).map(Vec::as_slice);
    let Some([low, high]) = bounds else { return Err(("range", "must be a list of two numbers".to_owned())) };
    match (low.as_f64(), high.as_f64()) {
        (Some(low), Some(high)) if low <= high => Ok(Tolerance::Range { low, high, target }),
        (Some(_), Some(_)) => Err(("range", "is empty: its first number is the larger".to_owned())),
        _ => Err(("range", "must be a list of two numbers".to_owned())),
    }
}

/// The part of an answer that is meant; the whole when it has no such part.
fn picked<'a>(answer: &'a Value, target: Option<&str>) -> Result<&'a Value, String> {
    match (target, answer) {
        (None, _) => Ok(answer),
        (Some(target), Value::Object(map)) => Ok(map.get(target).unwrap_or(answer)),
        (Some(target), _) => Err(format!("the answer has no parts, so no {target:?}")),
    }
}

/// As Python does it: a line break at the very end does not keep `$` from matching before it.
fn is_match(pattern: &Regex, text: &str) -> bool {
    pattern.is_match(text) || text.strip_suffix('\n').is_some_and(|text| pattern.is_match(text))
}

fn along(value: &Value, path: &str, count: Option<u64>, expect: Option<&[Value]>) -> Within {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        other => other.clone(),
    };
    let found = match parsed.query(path) {
        Ok(found) => found,
        Err(error) => return Within::Unfit(format!("{path} could not be followed: {error}")),
    };
    let list = || Value::Array(found.iter().map(|value| (*value).clone()).collect());
    if let Some(expect) = expect {
        let equal = found.len() == expect.len() && found.iter().zip(expect).all(|(a, b)| same(a, b));
        let wanted = || Value::Array(expect.to_vec());
        return if equal {
            Within::Yes
        } else {
            Within::No(format!("{path} finds {}, and must find {}", list(), wanted()))
        };
    }
    match count {
        Some(count) if found.len() as u64 == count => Within::Yes,
        Some(count) => Within::No(format!("{path} finds {} values, and must find {count}", found.len())),
        None if found.is_empty() => Within::No(format!("{path} finds nothing")),
        None => Within::Yes,
    }
}

/// A number, a number as text, or true and false as 1 and 0.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|figure: &f64| !figure.is_nan()),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => None,
    }
}

/// Equal as Python has it: 1 is 1.0, and is true.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (Value::Bool(_) | Value::Number(_), Value::Bool(_) | Value::Number(_)) => {
            order(a, b) == Some(Ordering::Equal)
        }
        _ => a == b,
    }
}

/// Numbers with numbers, texts with texts.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(_) | Value::Number(_), Value::Bool(_) | Value::Number(_)) => {
            match (whole(a), whole(b)) {
                // Of large ones, neighbours are one and the same as fractions.
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => number(a)?.partial_cmp(&number(b)?),
            }
        }
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i128> {
    let signed = value.as_i64().map(i128::from);
    signed.or_else(|| value.as_u64().map(i128::from)).or_else(|| value.as_bool().map(i128::from))
}

#[cfg(test)]
mod tests;
