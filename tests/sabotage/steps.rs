//! Carries out what a sabotage says.

use serde_json::{Value, json};

use crate::harness::Cluster;
use crate::sabotage::{Edit, Sabotage, Step};

const NAMESPACE: &str = "ai-platform";

/// One after another; each has to succeed.
pub fn run(cluster: &Cluster, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Kubectl(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                kubectl(cluster, &words);
            }
            Step::Edit(edit) => replace(cluster, edit, &edit.from, &edit.to),
        }
    }
}

/// Takes the edits back, and does what the file says for the rest.
pub fn mend(cluster: &Cluster, sabotage: &Sabotage) {
    for step in sabotage.breaks.iter().rev() {
        if let Step::Edit(edit) = step {
            replace(cluster, edit, &edit.to, &edit.from);
        }
    }
    run(cluster, &sabotage.mend);
}

fn replace(cluster: &Cluster, edit: &Edit, from: &str, to: &str) {
    let object = kubectl(cluster, &["get", "configmap", &edit.configmap, "-o", "json"]);
    let object: Value = serde_json::from_str(&object).expect("a ConfigMap");
    let text = object["data"][&edit.file].as_str().unwrap_or_default();
    assert!(text.contains(from), "{} of {} has no {from:?}", edit.file, edit.configmap);
    let patch = json!({ "data": { &edit.file: text.replace(from, to) } });
    kubectl(cluster, &["patch", "configmap", &edit.configmap, "--type=merge", "-p", &patch.to_string()]);
}

fn kubectl(cluster: &Cluster, words: &[&str]) -> String {
    cluster.kubectl(&[&["-n", NAMESPACE], words].concat())
}
