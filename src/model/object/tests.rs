//! There and back.

use proptest::prelude::*;

use super::*;

fn deployment() -> Value {
    json!({
        "metadata": { "name": "x", "labels": { "a": "b" } },
        "spec": { "replicas": 3, "template": { "spec": { "containers": [{ "name": "x", "image": "i" }] } } },
    })
}

#[test]
fn what_was_edited_is_restored_and_what_was_made_is_gone() {
    let before = deployment();
    let mut object = before.clone();
    let edits = [
        Edit::set("/spec/replicas", 0),
        Edit::set("/spec/template/spec/containers/0/readinessProbe", json!({ "tcpSocket": { "port": 1 } })),
        Edit::set("/spec/template/metadata/annotations/a.b~1c", "now"),
        Edit::Add { path: "/spec/taints".into(), value: json!({ "key": "k" }) },
    ];
    edit(&mut object, &edits, "r1").unwrap();
    assert_eq!(object["spec"]["replicas"], 0);
    assert_eq!(object["spec"]["template"]["metadata"]["annotations"]["a.b/c"], "now");
    assert_eq!(object["spec"]["taints"], json!([{ "key": "k" }]));
    assert!(edit(&mut object, &edits, "r2").unwrap_err().contains("not taken back"));
    // The server adds its defaults.
    object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = json!(10);
    assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Done));
    assert_eq!(object, before);
    assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Clean));
}

#[test]
fn a_field_that_somebody_else_changed_is_left_alone() {
    let mut object = deployment();
    edit(&mut object, &[Edit::set("/spec/replicas", 0)], "r1").unwrap();
    object["spec"]["replicas"] = json!(7);
    let found = object.clone();
    let Restored::Conflict(why) = restore(&mut object, OnConflict::Tell).unwrap() else {
        panic!("no conflict")
    };
    assert_eq!(why, "/spec/replicas is no longer 0");
    assert_eq!(object, found);
}

#[test]
fn a_number_that_is_written_otherwise_is_the_same() {
    let mut object = deployment();
    edit(&mut object, &[Edit::set("/spec/share", json!({ "value": 100.0 }))], "r1").unwrap();
    object["spec"]["share"]["value"] = json!(100);
    assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Done));
    assert_eq!(object, deployment());
}

#[test]
fn what_the_server_drops_for_being_empty_comes_back() {
    for empty in [json!(null), json!([]), json!({})] {
        let mut object = deployment();
        edit(&mut object, &[Edit::set("/spec/template", empty)], "r1").unwrap();
        object["spec"].as_object_mut().unwrap().remove("template");
        assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Done));
        assert_eq!(object, deployment());
    }
}

#[test]
fn others_elements_of_a_list_stay() {
    let mut object = deployment();
    object["spec"]["taints"] = json!([{ "key": "theirs" }]);
    let mine = Edit::Add { path: "/spec/taints".into(), value: json!({ "key": "mine" }) };
    edit(&mut object, &[mine], "r1").unwrap();
    object["spec"]["taints"].as_array_mut().unwrap().insert(0, json!({ "key": "late" }));
    assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Done));
    assert_eq!(object["spec"]["taints"], json!([{ "key": "late" }, { "key": "theirs" }]));
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c~1d", "e~0f", "0"]), 1..4)
        .prop_map(|parts| format!("/spec/{}", parts.join("/")))
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(1)),
        Just(json!("x")),
        Just(json!({})),
        Just(json!([1, 2])),
        Just(json!({"a": {"b": 1}}))
    ]
}

proptest! {
    #[test]
    fn a_restored_object_is_what_it_was(
        start in prop::collection::vec((path(), leaf()), 0..4),
        edits in prop::collection::vec((path(), leaf(), any::<bool>()), 1..5),
    ) {
        let mut object = json!({ "metadata": { "name": "x" }, "spec": { "keep": 1 } });
        for (path, value) in &start {
            let _ = set(&mut object, path, value);
        }
        let edits: Vec<Edit> = edits
            .into_iter()
            .map(|(path, value, add)| if add { Edit::Add { path, value } } else { Edit::Set { path, value } })
            .collect();
        let before = object.clone();
        if edit(&mut object, &edits, "r").is_ok() {
            prop_assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Done));
        }
        prop_assert_eq!(object, before);
    }
}

/// Edited twice over, and one of the fields somebody else's since.
fn in_conflict() -> Value {
    let mut object = deployment();
    let probe = Edit::set("/spec/template/spec/containers/0/readinessProbe", json!({ "periodSeconds": 1 }));
    let edits = [Edit::set("/spec/replicas", 0), Edit::set("/spec/paused", true), probe];
    edit(&mut object, &edits, "r1").unwrap();
    object["spec"]["replicas"] = json!(7);
    object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] = json!(9);
    object
}

#[test]
fn mine_wins_when_that_is_asked_for_and_what_was_overwritten_is_told() {
    let mut object = in_conflict();
    let Restored::Overwrote(what) = restore(&mut object, OnConflict::Overwrite).unwrap() else {
        panic!("nothing was overwritten")
    };
    assert_eq!(
        what,
        [
            "/spec/template/spec/containers/0/readinessProbe was {\"periodSeconds\":9}, and is absent again",
            "/spec/replicas was 7, and is 3 again",
        ]
    );
    assert_eq!(object, deployment());
    // A field that is gone altogether comes back, too.
    let mut object = in_conflict();
    object["spec"].as_object_mut().unwrap().remove("replicas");
    assert!(matches!(restore(&mut object, OnConflict::Overwrite), Ok(Restored::Overwrote(_))));
    assert_eq!(object, deployment());
    // Without a conflict there is nothing to overwrite.
    let mut object = deployment();
    edit(&mut object, &[Edit::set("/spec/replicas", 0)], "r1").unwrap();
    assert_eq!(restore(&mut object, OnConflict::Overwrite), Ok(Restored::Done));
    assert_eq!(restore(&mut object, OnConflict::Overwrite), Ok(Restored::Clean));
}

#[test]
fn what_is_accepted_stays_as_it_is_without_our_marks() {
    let mut object = in_conflict();
    let accepted = restore(&mut object, OnConflict::Accept).unwrap();
    assert!(matches!(&accepted, Restored::Accepted(why) if why.contains("is no longer")), "{accepted:?}");
    let mut wanted = deployment();
    wanted["spec"]["replicas"] = json!(7);
    wanted["spec"]["paused"] = json!(true);
    wanted["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = json!({ "periodSeconds": 9 });
    assert_eq!(object, wanted);
    assert_eq!(restore(&mut object, OnConflict::Tell), Ok(Restored::Clean));
}
