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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Tolerance, Within};
    use crate::model::Hidden;

    fn judged(tolerance: Value, answer: &Value) -> String {
        let tolerance = Tolerance::read(&tolerance).unwrap_or_else(|(field, why)| panic!("{field}: {why}"));
        match tolerance.judge(answer, &Hidden::default()) {
            Within::Yes => "yes".to_owned(),
            Within::No(_) => "no".to_owned(),
            Within::Unfit(_) => "unfit".to_owned(),
        }
    }

    #[test]
    fn every_kind_holds_does_not_hold_and_cannot_be_compared() {
        let http = |status: u16, body: &str| json!({ "status": status, "headers": {}, "body": body });
        let ran = |status: i32, stdout: &str| json!({ "status": status, "stdout": stdout, "stderr": "" });
        let items = r#"{"items": [{"name": "a", "n": 1}, {"name": "b", "n": 2.0}]}"#;
        for (tolerance, answer, within) in [
            (json!(true), json!(true), "yes"),
            (json!(true), json!(1), "yes"),
            (json!(true), json!(false), "no"),
            (json!(true), http(200, ""), "no"),
            (json!("up"), json!("up"), "yes"),
            (json!("up"), json!("down"), "no"),
            (json!(200), http(200, ""), "yes"),
            (json!(200), http(503, ""), "no"),
            (json!(0), ran(0, ""), "yes"),
            (json!(0), ran(-9, ""), "no"),
            (json!(3), json!(3.0), "yes"),
            (json!(3), json!("3"), "no"),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64), "no"),
            // Of two, a status is one of them, and anything else is between them.
            (json!([200, 204]), http(201, ""), "no"),
            (json!([200, 204]), http(204, ""), "yes"),
            (json!([200, 204]), json!(201), "yes"),
            (json!([200, 204]), json!(199), "no"),
            (json!([200, 204]), json!("x"), "unfit"),
            (json!(["a", "c"]), json!("b"), "yes"),
            (json!([1, 2, 3]), json!(2), "yes"),
            (json!([1, 2, 3]), json!(4), "no"),
            (json!(["one"]), json!("one"), "yes"),
            (json!({ "type": "regex", "pattern": "^ok$", "target": "stdout" }), ran(0, "ok\n"), "yes"),
            (json!({ "type": "regex", "pattern": "^ok$", "target": "stdout" }), ran(0, "not ok"), "no"),
            (json!({ "type": "regex", "pattern": "ok", "target": "nosuch" }), ran(0, "ok"), "unfit"),
            (json!({ "type": "regex", "pattern": "ok" }), json!("it is ok"), "yes"),
            (json!({ "type": "regex", "pattern": "1" }), json!(1), "unfit"),
            (json!({ "type": "regex", "pattern": "1", "target": "body" }), json!(true), "unfit"),
            (
                json!({ "type": "jsonpath", "path": "$.items[*].name", "target": "body" }),
                http(200, items),
                "yes",
            ),
            (
                json!({ "type": "jsonpath", "path": "$.items[?(@.name == 'c')]", "target": "body" }),
                http(200, items),
                "no",
            ),
            (
                json!({ "type": "jsonpath", "path": "$.items[*]", "count": 2, "target": "body" }),
                http(200, items),
                "yes",
            ),
            (
                json!({ "type": "jsonpath", "path": "$.items[*]", "count": 3, "target": "body" }),
                http(200, items),
                "no",
            ),
            (
                json!({ "type": "jsonpath", "path": "$..n", "expect": [1, 2], "target": "body" }),
                http(200, items),
                "yes",
            ),
            (
                json!({ "type": "jsonpath", "path": "$.items[0].name", "expect": "a", "target": "body" }),
                http(200, items),
                "yes",
            ),
            (
                json!({ "type": "jsonpath", "path": "$.items[0].name", "expect": "b", "target": "body" }),
                http(200, items),
                "no",
            ),
            (json!({ "type": "jsonpath", "path": "$.x", "expect": null }), json!({ "x": null }), "yes"),
            (json!({ "type": "jsonpath", "path": "$.x", "expect": [] }), json!({}), "yes"),
            (json!({ "type": "jsonpath", "path": "$.x", "target": "body" }), json!("no parts"), "unfit"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!(2.5), "yes"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!("2"), "yes"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!(3), "no"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!("many"), "no"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!("NaN"), "no"),
            (json!({ "type": "range", "range": [1, 2.5] }), json!([1]), "unfit"),
            (json!({ "type": "range", "range": [0, 9], "target": "stdout" }), ran(0, "4\n"), "yes"),
        ] {
            assert_eq!(judged(tolerance.clone(), &answer), within, "{tolerance} of {answer}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (tolerance, field, why) in [
            (json!(null), "", "missing"),
            (json!(1.5), "", "range"),
            (json!([]), "", "empty list"),
            (json!({ "type": "probe", "name": "x" }), "type", "asks no probe"),
            (json!({ "type": "near" }), "type", "\"near\" is none of"),
            (json!({ "pattern": "x" }), "type", "is none of"),
            (json!({ "type": "regex" }), "pattern", "missing"),
            (json!({ "type": "regex", "pattern": "(?=x)" }), "pattern", "look-around"),
            (json!({ "type": "regex", "pattern": "(" }), "pattern", "unclosed group"),
            (json!({ "type": "regex", "pattern": "a{999}{999}{999}" }), "pattern", "no pattern"),
            (json!({ "type": "regex", "pattern": "x", "flags": "i" }), "", "takes no \"flags\""),
            (json!({ "type": "regex", "pattern": "x", "target": 1 }), "target", "text"),
            (json!({ "type": "jsonpath", "path": " " }), "path", "missing"),
            (json!({ "type": "jsonpath", "path": "$.a[?(@.b = 1)]" }), "path", "RFC 9535"),
            (json!({ "type": "jsonpath", "path": "$.a", "count": -1 }), "count", "0 or more"),
            (json!({ "type": "range", "range": [1] }), "range", "two numbers"),
            (json!({ "type": "range", "range": [2, 1] }), "range", "the larger"),
            (json!({ "type": "range", "range": ["1", 2] }), "range", "two numbers"),
        ] {
            let (at, said) =
                Tolerance::read(&tolerance).err().unwrap_or_else(|| panic!("{tolerance} is read"));
            assert_eq!(at, field, "{tolerance}: {said}");
            assert!(said.contains(why), "{tolerance}: {said}");
        }
    }

    #[test]
    fn what_is_hidden_is_not_told() {
        let mut hidden = Hidden::default();
        hidden.hide("hunter2");
        for tolerance in [
            json!("x"),
            json!("a hunter2"),
            json!(["a", "hunter2", "c"]),
            json!({ "type": "regex", "pattern": "hunter2!" }),
            json!({ "type": "jsonpath", "path": "$.hunter2" }),
            json!({ "type": "range", "range": [1, 2] }),
        ] {
            let told =
                format!("{:?}", Tolerance::read(&tolerance).unwrap().judge(&json!("it is hunter2"), &hidden));
            assert!(!told.contains("hunter2"), "{tolerance}: {told}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e6..1e6f64).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            prop::sample::select(vec![
                "regex",
                "jsonpath",
                "range",
                "probe",
                "$.a",
                "$..*",
                "a|b",
                "[",
                "$[?(@.a == 1)]"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(
                    prop::sample::select(vec![
                        "type", "pattern", "path", "range", "count", "expect", "target", "status", "body",
                        "zz"
                    ])
                    .prop_map(str::to_owned),
                    inner,
                    0..4
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Tolerances in their right shape, so that not every one is refused.
    fn shaped() -> impl Strategy<Value = Value> {
        prop_oneof![
            anything(),
            "\\PC{0,6}".prop_map(|pattern| json!({ "type": "regex", "pattern": pattern })),
            "\\$(\\.[a-z*]|\\[[0-9:*]\\]|\\.\\.[a-z]){0,3}"
                .prop_map(|path| json!({ "type": "jsonpath", "path": path })),
            (any::<i32>(), any::<i32>())
                .prop_map(|(a, b)| json!({ "type": "range", "range": [a.min(b), a.max(b)] })),
            prop::collection::vec(anything(), 1..4).prop_map(Value::from),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn whatever_is_in_a_file_it_is_read_or_refused_and_judges_whatever_comes(
            tolerance in shaped(), answer in anything()
        ) {
            match Tolerance::read(&tolerance) {
                Err((_, why)) => prop_assert!(!why.is_empty()),
                Ok(read) => {
                    let first = read.judge(&answer, &Hidden::default());
                    prop_assert_eq!(&first, &read.judge(&answer, &Hidden::default()));
                    if let Within::No(why) | Within::Unfit(why) = first {
                        prop_assert!(!why.is_empty() && why.chars().count() < 5000);
                    }
                }
            }
        }

        /// What is asked for is itself within it.
        #[test]
        fn a_plain_value_is_within_itself(value in prop_oneof![
            any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), "\\PC{0,9}".prop_map(Value::from)
        ]) {
            let tolerance = Tolerance::read(&value).unwrap();
            prop_assert_eq!(tolerance.judge(&value, &Hidden::default()), Within::Yes);
        }

        #[test]
        fn a_range_is_what_it_says(a in -1000..1000i32, b in -1000..1000i32, x in -1100..1100i32) {
            let (low, high) = (a.min(b), a.max(b));
            let tolerance = Tolerance::read(&json!({ "type": "range", "range": [low, high] })).unwrap();
            let within = tolerance.judge(&json!(x), &Hidden::default()) == Within::Yes;
            prop_assert_eq!(within, low <= x && x <= high);
        }
    }
}
