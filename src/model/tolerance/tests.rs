//! What is within, what is not, and what cannot be meant.

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
        (json!({ "type": "jsonpath", "path": "$.items[*].name", "target": "body" }), http(200, items), "yes"),
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
        let (at, said) = Tolerance::read(&tolerance).err().unwrap_or_else(|| panic!("{tolerance} is read"));
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
                    "type", "pattern", "path", "range", "count", "expect", "target", "status", "body", "zz"
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
