//! Whole experiments as scripts: what becomes of the examples, and files that nobody meant.

use std::fmt::Write;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{anything, places};
use super::{Remark, Scripted, Surroundings, script};
use crate::model::{Deed, Script, parse_yaml};

fn around() -> Surroundings {
    let environment = [("SHOP_URL", "http://127.0.0.1:8080"), ("SHOP_TOKEN", "hunter2"), ("HOW_MANY", "2")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Surroundings { namespace: "ai-platform".to_owned(), environment }
}

fn examples() -> Vec<(String, Value)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let mut paths: Vec<PathBuf> = [root.join("scripts"), root]
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.to_str().unwrap().contains("mesh-"))
        .collect();
    paths.sort();
    let read = paths.iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, parse_yaml(path, &std::fs::read_to_string(path).unwrap()).unwrap())
    });
    read.collect()
}

/// What holds of every script that is not refused: what it would do is known, and nothing secret is told of it.
fn is_right(scripted: &Scripted) {
    if !scripted.refused.is_empty() {
        return;
    }
    let script = &scripted.script;
    for (index, fault) in script.faults().enumerate() {
        assert_eq!(fault.problem(), None);
        let numbered = script
            .method
            .iter()
            .any(|activity| matches!(activity.deed, Deed::Fault { index: i, .. } if i == index));
        assert!(numbered, "faults are numbered in order");
    }
    for activity in script.activities() {
        assert!(!activity.name.is_empty());
        assert!(activity.pause_before_ms <= 3_600_000 && activity.pause_after_ms <= 3_600_000);
        match &activity.deed {
            Deed::Http(call) => assert!(call.timeout_ms > 0 && call.url.starts_with("http")),
            Deed::Process(call) => assert!(call.timeout_ms > 0 && !call.path.is_empty()),
            Deed::Release { index } | Deed::Reverted { index } => assert!(*index < script.faults().count()),
            Deed::Ask(_) | Deed::Fault { .. } => {}
        }
    }
    assert!(!told(scripted).contains("hunter2"));
}

fn told(scripted: &Scripted) -> String {
    let mut text = String::new();
    let script = &scripted.script;
    if scripted.refused.is_empty() {
        let line = |text: &mut String, when: &str, activity: &crate::model::Activity| {
            let _ = writeln!(text, "{when}: {}: {}", activity.name, activity.describe(&script.hidden));
        };
        for probe in &script.probes {
            line(&mut text, "probe", &probe.activity);
            let _ = writeln!(text, "  {}", script.hidden.scrub(&probe.tolerance.describe()));
        }
        script.method.iter().for_each(|activity| line(&mut text, "method", activity));
        script.rollbacks.iter().for_each(|activity| line(&mut text, "rollback", activity));
    }
    let mut say = |what: &str, remarks: &[Remark]| {
        for remark in remarks {
            let _ = writeln!(text, "{what}: {}: {}", remark.path, remark.why);
        }
    };
    say("refused", &scripted.refused);
    say("note", &scripted.notes);
    text
}

#[test]
fn what_the_examples_become_as_scripts() {
    let mut text = String::new();
    let all = examples();
    assert!(all.len() >= 16);
    for (name, file) in all {
        let scripted = script(&file, &around()).expect("it is of Chaos Toolkit");
        is_right(&scripted);
        let _ = writeln!(text, "## {name}\n{}", told(&scripted));
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!("scripts", text) });
}

/// The path of every mapping in a file, but those in which any name is one.
fn mappings(value: &Value, path: &str, found: &mut Vec<String>) {
    let free = ["/configuration", "/headers", "/arguments", "/secrets/shop", "/secrets/k8s"];
    match value {
        Value::Object(map) => {
            if !free.iter().any(|free| path.ends_with(free)) && !path.contains("arguments") {
                found.push(path.to_owned());
            }
            map.iter().for_each(|(key, value)| mappings(value, &format!("{path}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| mappings(value, &format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

#[test]
fn a_key_that_nobody_knows_is_refused() {
    for (name, file) in examples() {
        if !script(&file, &around()).unwrap().refused.is_empty() {
            continue;
        }
        let mut found = Vec::new();
        mappings(&file, "", &mut found);
        for pointer in found {
            let mut changed = file.clone();
            changed.pointer_mut(&pointer).unwrap()["zzUnknown"] = json!("x");
            let after = script(&changed, &around()).unwrap();
            assert!(!after.refused.is_empty(), "{name}: {pointer}/zzUnknown is passed over");
        }
    }
}

/// A script with one activity in its method.
fn with(activity: Value) -> Scripted {
    script(&json!({ "title": "t", "method": [activity] }), &around()).unwrap()
}

#[test]
fn an_activity_has_a_name() {
    let pause = |name: Value| {
        with(json!({ "type": "probe", "name": name, "provider": { "type": "http", "url": "http://h" } }))
    };
    assert_eq!(pause(json!("p")).refused, []);
    for name in [json!(""), json!(7), Value::Null] {
        assert!(pause(name.clone()).refused.iter().any(|refused| refused.path == "method[0].name"), "{name}");
    }
}

#[test]
fn calls_and_programs_as_the_toolkit_makes_them() {
    let provider = |provider: Value| with(json!({ "type": "probe", "name": "p", "provider": provider }));
    let deed = |scripted: Scripted| {
        assert_eq!(scripted.refused, []);
        let Script { mut method, .. } = scripted.script;
        method.remove(0).deed
    };
    let call = |value: Value| match deed(provider(value)) {
        Deed::Http(call) => call,
        other => panic!("{other:?}"),
    };
    let get = call(
        json!({ "type": "http", "url": "http://h/p", "arguments": { "a": "b c", "d": [1, true], "e": null } }),
    );
    assert_eq!((get.url.as_str(), get.method.as_str()), ("http://h/p?a=b+c&d=1&d=True", "GET"));
    let form = call(
        json!({ "type": "http", "url": "http://h/p?x=1", "method": "put", "arguments": { "a": "b c" } }),
    );
    assert_eq!((form.body.as_deref(), form.url.as_str()), (Some(b"a=b+c".as_slice()), "http://h/p?x=1"));
    assert_eq!(form.headers, [("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())]);
    let body = json!({ "type": "http", "url": "https://h", "method": "POST", "headers": { "Content-Type": "application/json" }, "arguments": [1, { "a": 2 }], "timeout": [1, 2.5], "verify_tls": false });
    let body = call(body);
    assert_eq!(body.body.as_deref(), Some(br#"[1,{"a":2}]"#.as_slice()));
    assert_eq!((body.connect_ms, body.timeout_ms, body.verify_tls), (1000, 3500, false));
    let program = |arguments: Value| match deed(provider(
        json!({ "type": "process", "path": "x", "arguments": arguments }),
    )) {
        Deed::Process(call) => call.arguments,
        other => panic!("{other:?}"),
    };
    assert_eq!(program(json!(["a b", 1, 2.5, "", null, true])), ["a b", "1", "2.5", "True"]);
    assert_eq!(program(json!({ "-n": 3 })), ["-n", "3"]);
    assert_eq!(program(json!("-n 'a b'")), ["-n", "a b"]);
}

#[test]
fn a_secret_is_not_for_faults_and_is_told_in_no_remark() {
    let file = |url: &str, ns: &str| {
        json!({
            "title": "t", "secrets": { "s": { "token": { "type": "env", "key": "SHOP_TOKEN" } } },
            "method": [
                { "type": "probe", "name": "a", "provider": { "type": "http", "url": url } },
                { "type": "action", "name": "b", "provider": { "type": "python", "module": "chaosk8s.pod.actions", "func": "terminate_pods", "arguments": { "label_selector": "a=b", "ns": ns } } },
            ],
        })
    };
    let scripted = script(&file("${token}", "${token}"), &around()).unwrap();
    assert_eq!(scripted.refused.len(), 2, "{:?}", scripted.refused);
    assert!(!format!("{scripted:?}").contains("hunter2"), "{scripted:?}");
    let whole = script(&file("http://h/${token}", "ai-platform"), &around()).unwrap();
    assert_eq!(whole.refused, []);
    assert!(whole.script.hidden.scrub("hunter2") == "***");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_is_in_a_file_it_is_a_script_or_refused(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..4),
    ) {
        let all = examples();
        let mut file = which.get(&all[..]).1.clone();
        for (place, value) in edits {
            let mut found = Vec::new();
            places(&file, "", &mut found);
            if let Some(at) = file.pointer_mut(place.get(&found[..]).as_str()) {
                *at = value;
            }
        }
        if let Some(scripted) = script(&file, &around()) {
            is_right(&scripted);
        }
    }
}
