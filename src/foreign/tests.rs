//! Files in the shape of the tools' own first examples, and files that nobody meant.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Remark, Surroundings, Translation, translate, yaml};
use crate::model::{Rehearsal, parse_yaml};

fn around() -> Surroundings {
    let environment = [("HOW_MANY".to_owned(), "2".to_owned())].into();
    Surroundings { namespace: "ai-platform".to_owned(), environment }
}

fn examples() -> Vec<(String, Value)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let examples = paths.iter().filter(|path| path.is_file()).map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, parse_yaml(path, &text).unwrap())
    });
    examples.collect()
}

fn translated(file: &Value) -> Translation {
    translate(file, &around()).expect("it is of one of the tools")
}

/// What holds of every translation: what it gives is a rehearsal of ours, and stays one as a file.
fn is_right(translation: &Translation) {
    let Translation { rehearsal, refused, .. } = translation;
    if rehearsal.faults.is_empty() {
        assert!(!refused.is_empty(), "neither a fault nor a refusal");
        return;
    }
    assert_eq!(rehearsal.problem(), None);
    let text = yaml(rehearsal);
    let again: Rehearsal = parse_yaml(Path::new("x.yaml"), &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(&again, rehearsal, "{text}");
}

#[test]
fn what_the_examples_become() {
    let mut text = String::new();
    let all = examples();
    assert!(all.len() >= 14);
    for (name, file) in all {
        let translation = translated(&file);
        is_right(&translation);
        let _ = writeln!(text, "## {name}");
        if !translation.rehearsal.faults.is_empty() {
            text.push_str(&yaml(&translation.rehearsal));
        }
        let mut say = |what: &str, remarks: &[Remark]| {
            for remark in remarks {
                let _ = writeln!(text, "{what}: {}: {}", remark.path, remark.why);
            }
        };
        say("refused", &translation.refused);
        say("note", &translation.notes);
        text.push('\n');
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!("examples", text) });
}

/// The path of every mapping in a file.
fn mappings(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.push(path.to_owned());
            map.iter().for_each(|(key, value)| {
                mappings(value, &format!("{path}/{}", key.replace('/', "~1")), found)
            });
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| mappings(value, &format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

/// `/method/0/provider` as `method[0].provider`.
fn as_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(part),
            Err(_) => path.push_str(&format!(".{}", part.replace("~1", "/"))),
        }
    }
    path
}

/// A remark speaks for a field when it is of the field itself, or of what it is in; one of the whole that was there
/// before says nothing of the field only when a fault came out of it all the same.
fn speaks(remarks: &[Remark], path: &str) -> bool {
    remarks.iter().any(|remark| {
        path.strip_prefix(&remark.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

/// The parts of a file that decide for all of it, so that nothing below is looked at.
fn refused_as_a_whole(translation: &Translation, path: &str) -> bool {
    let whole = ["action", "templateType", "func", "type", "kind", "stressors", "ref"];
    translation.refused.iter().any(|remark| {
        let (parent, last) = remark.path.rsplit_once('.').unwrap_or(("", &remark.path));
        let parent = parent.strip_suffix(".provider").unwrap_or(parent);
        whole.contains(&last) && path.starts_with(parent)
    })
}

#[test]
fn a_key_that_nobody_knows_is_never_passed_over() {
    for (name, file) in examples() {
        let before = translated(&file);
        let mut found = Vec::new();
        mappings(&file, "", &mut found);
        // There it is a label, of whatever name.
        for pointer in found.iter().filter(|pointer| !pointer.ends_with("/labelSelectors")) {
            for value in [json!("x"), json!(7), json!(true), json!({ "a": "b" }), json!(["a"])] {
                let mut changed = file.clone();
                changed.pointer_mut(pointer).unwrap()["zzUnknown"] = value.clone();
                let after = translated(&changed);
                is_right(&after);
                let path = as_path(&format!("{pointer}/zzUnknown"));
                let new = after.rehearsal.faults != before.rehearsal.faults;
                let told = speaks(&after.refused, &path) || speaks(&after.notes, &path);
                assert!(
                    new || told || refused_as_a_whole(&after, &path),
                    "{name}: {path}: {value} is passed over\n{after:#?}"
                );
            }
        }
    }
}

/// In what is translated as a whole, a key that nobody knows takes the fault away, or is a label that it picks by.
#[test]
fn a_key_that_nobody_knows_in_a_selector_or_a_spec_is_refused() {
    for (name, file) in examples() {
        let before = translated(&file);
        if !before.refused.is_empty() || name.starts_with("toolkit") {
            continue;
        }
        let mut found = Vec::new();
        mappings(&file["spec"], "/spec", &mut found);
        for pointer in found.iter().filter(|pointer| !pointer.ends_with("/labelSelectors")) {
            let mut changed = file.clone();
            changed.pointer_mut(pointer).unwrap()["zzUnknown"] = json!("x");
            let after = translated(&changed);
            let path = as_path(&format!("{pointer}/zzUnknown"));
            assert!(after.refused.iter().any(|remark| remark.path == path), "{name}: {path}: {after:#?}");
        }
    }
}

#[test]
fn only_the_two_tools_files_are_theirs() {
    for ours in ["experiments/redis-primary-loss.yaml", "experiments/rehearsals/catalogue.yaml"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(ours);
        let file: Value = parse_yaml(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(translate(&file, &around()), None, "{ours}");
    }
    for value in [json!(null), json!([]), json!("x"), json!({ "apiVersion": "v1" }), json!({ "method": [] })]
    {
        assert_eq!(translate(&value, &around()), None, "{value}");
    }
}

fn workflow(templates: Value) -> Translation {
    translated(&json!({
        "apiVersion": "chaos-mesh.org/v1alpha1", "kind": "Workflow",
        "metadata": { "name": "w", "namespace": "ai-platform" },
        "spec": { "entry": "t0", "templates": templates },
    }))
}

/// Thirty lists of the next list twice would be a thousand million steps.
#[test]
fn a_workflow_that_grows_without_end_is_refused() {
    let kill = json!({ "action": "pod-kill", "mode": "one", "selector": { "labelSelectors": { "a": "b" } } });
    let list = |i: usize| {
        let next = format!("t{}", i + 1);
        json!({ "name": format!("t{i}"), "templateType": "Serial", "children": [next.clone(), next] })
    };
    let mut templates: Vec<Value> = (0..30).map(list).collect();
    templates.push(json!({ "name": "t30", "templateType": "PodChaos", "podChaos": kill }));
    let translation = workflow(json!(templates));
    is_right(&translation);
    assert!(
        translation.refused.iter().any(|remark| remark.why.contains("at most 200 faults")),
        "{translation:#?}"
    );
}

/// Configuration is not asked of the process: what the caller does not pass is not there.
#[test]
fn the_environment_is_what_the_caller_passes() {
    let file = |kind: &str| json!({ "title": "t", "method": [], "configuration": { "a": { "type": "env", "key": "PATH", "env_var_type": kind } } });
    let why = |file: &Value, around: &Surroundings| {
        translate(file, around).unwrap().refused.into_iter().map(|remark| remark.why).collect::<Vec<_>>()
    };
    assert!(why(&file("str"), &Surroundings::default())[0].contains("PATH is not in the environment"));
    let given = Surroundings { environment: [("PATH".to_owned(), "x".to_owned())].into(), ..around() };
    assert!(why(&file("int"), &given)[0].contains("PATH is no int"));
    // Nothing but that there is no fault.
    assert!(why(&file("str"), &given)[0].contains("no fault"));
}

/// Values that are put where another was.
pub(super) fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{1,25}(ms|s|%|MB|mbps)?".prop_map(Value::from),
        prop::sample::select(vec!["${", "${x}", "$$", "*.", "a=b,", "ai-platform-", "=", "*.a..b", "-1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z${}.]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The path of every value in a file.
pub(super) fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| places(value, &format!("{path}/{}", key.replace('/', "~1")), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_is_in_a_file_it_is_answered(
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
        if let Some(translation) = translate(&file, &around()) {
            is_right(&translation);
        }
    }
}
