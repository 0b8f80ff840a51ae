//! Objects of the in-memory cluster that are neither pods nor nodes.

use mettle::model::{Command, ObjectRef};
use serde_json::{Value, json};

/// What an object is before anybody edits it.
pub fn object_before(object: &ObjectRef) -> Value {
    json!({
        "metadata": { "name": object.name },
        "spec": {
            "replicas": 3,
            "selector": { "a": "b" },
            "template": { "spec": { "containers": [{ "name": "x", "image": "i" }] } },
            "http": [{ "route": [{ "destination": { "host": "ai-platform-inference" } }] }],
            "ingress": [{}],
        },
        "subjects": [{ "name": "x" }],
    })
}

pub fn key(command: &Command) -> (String, String) {
    (command.pod.uid.clone(), command.container.clone())
}
