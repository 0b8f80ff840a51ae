//! Which pods: Chaos Mesh' selectors and modes, and label selectors as `kubectl` takes them, as targets of ours.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Out;
use super::fields::Fields;
use crate::model::{Component, TargetSpec};

/// The label that names a component.
const NAME_LABEL: &str = "app.kubernetes.io/name";

/// Chaos Mesh' other ways to pick pods.
const NOT_BY: [&str; 7] = [
    "expressionSelectors",
    "annotationSelectors",
    "fieldSelectors",
    "pods",
    "nodes",
    "nodeSelectors",
    "podPhaseSelectors",
];

/// Where a Chaos Mesh document acts.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The stack's.
    pub namespace: String,
    /// The document's own: that of a selector that names none.
    pub home: Option<String>,
    /// The port that the document's annotation names.
    pub port: Option<u16>,
}

/// Labels as a target: the component that they name when they name nothing else.
pub fn by_labels(labels: BTreeMap<String, String>) -> TargetSpec {
    let component = labels.get(NAME_LABEL).filter(|_| labels.len() == 1);
    match component.and_then(|name| Component::from_label(name)) {
        Some(component) => TargetSpec { component: Some(component), count: 1, ..TargetSpec::default() },
        None => TargetSpec { labels, count: 1, ..TargetSpec::default() },
    }
}

/// `a=b,c=d`.
pub fn equalities(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let (key, value) = (key.trim(), value.trim());
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        // The same key twice with two values matches nothing.
        if !plain(key) || !plain(value) || labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    Some(labels)
}

/// `selector`, `mode` and `value`: how many pods of which.
pub fn target(fields: &mut Fields, scope: &Scope, out: &mut Out) -> TargetSpec {
    let mut target = picked(fields, scope, out);
    let value = fields.word("value", out);
    let mode = fields.text("mode", out);
    let path = fields.at("mode");
    match mode {
        Some("one") => {
            if value.is_some() {
                out.note(fields.at("value"), "has no meaning with mode one");
            }
        }
        Some("fixed") => match value.as_deref().map(str::parse) {
            Some(Ok(count)) => target.count = count,
            _ => out.refuse(fields.at("value"), "must be a whole number with mode fixed"),
        },
        Some("all") => out.refuse(
            path,
            "all is as many pods as there are, which is not known without a cluster: use fixed with a value",
        ),
        Some("fixed-percent" | "random-max-percent") => {
            out.refuse(path, "a share of the pods is not known without a cluster: use fixed with a value")
        }
        Some(other) => out.refuse(path, format!("{other:?} is no mode that mettle knows: use one or fixed")),
        None => out.refuse(path, "is missing: use one, or fixed with a value"),
    }
    target
}

/// The other side of a partition: mettle takes every pod that matches, no draw.
pub fn peers(fields: &mut Fields, scope: &Scope, out: &mut Out) -> TargetSpec {
    let target = picked(fields, scope, out);
    let value = fields.word("value", out);
    match fields.text("mode", out) {
        Some("all") => {
            if value.is_some() {
                out.note(fields.at("value"), "has no meaning with mode all");
            }
        }
        _ => out.refuse(fields.at("mode"), "must be all: mettle's peers are every pod that matches"),
    }
    target
}

fn picked(fields: &mut Fields, scope: &Scope, out: &mut Out) -> TargetSpec {
    let path = fields.at("selector");
    let Some(mut selector) = fields.below("selector", out) else {
        out.refuse(path, "is missing: name labels");
        return TargetSpec::default();
    };
    namespaces(&mut selector, scope, out);
    for key in NOT_BY {
        selector.refuse_given(key, "mettle does not pick pods by it: use labelSelectors", out);
    }
    let path = selector.at("labelSelectors");
    let labels = match selector.get("labelSelectors") {
        Some(Value::Object(map)) => {
            let mut labels = BTreeMap::new();
            for (key, value) in map {
                match value {
                    Value::String(text) => drop(labels.insert(key.clone(), text.clone())),
                    _ => out.refuse(format!("{path}.{key}"), "must be text"),
                }
            }
            labels
        }
        Some(_) => {
            out.refuse(&path, "must be a mapping of labels");
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    selector.finish(out);
    if labels.is_empty() {
        out.refuse(path, "is missing: every pod of a namespace is no target; name labels");
    }
    by_labels(labels)
}

fn namespaces(selector: &mut Fields, scope: &Scope, out: &mut Out) {
    let path = selector.at("namespaces");
    let wanted = &scope.namespace;
    match selector.get("namespaces") {
        Some(Value::Array(list)) if !list.is_empty() => {
            if list.iter().any(|name| name.as_str() != Some(wanted)) {
                out.refuse(path, format!("mettle's targets are in {wanted}, and nowhere else"));
            }
        }
        Some(Value::Array(_)) | None => {
            if scope.home.as_deref() != Some(wanted) {
                let why = format!("is missing, so it is the document's own: name {wanted}");
                out.refuse(path, why);
            }
        }
        Some(_) => out.refuse(path, "must be a list"),
    }
}
