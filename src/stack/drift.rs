//! Whether what stands is still what the manifests state: each object is applied without being stored (a dry run of the
//! server), and what that would give is compared with what is there. So the server itself says what a manifest means, with
//! its defaults and its spelling of quantities.

use std::path::Path;

use futures::stream::{self, StreamExt};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::apply::{Kinds, dry_run, read};
use super::render::{Images, PREFIX, kustomize, set_images};
use super::scale::{self, Scaled};
use super::up::HARNESS_POLICY;
use super::{NAMESPACE, StackError};
use crate::cluster::ClusterError;

/// Requests at once.
const AT_ONCE: usize = 8;
/// What differs within one object is named so often.
const PATHS_MAX: usize = 3;
/// Not stated by manifests, or set by others as they go.
const NOT_COMPARED: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// What was compared, and one line for each object that is not as it is stated.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    pub objects: usize,
    pub lines: Vec<String>,
    /// Why some could not be compared: an account that may not ask, a webhook that bears no dry run.
    pub unread: Vec<String>,
}

/// # Errors
/// When the overlay does not render, or the API does not answer.
pub async fn drift(client: &Client, kubectl: &Path, overlay: &Path) -> Result<Drift, StackError> {
    let documents = kustomize(kubectl, overlay).await?;
    let mut objects = Vec::with_capacity(documents.len());
    let images = images_of(client).await?;
    for mut document in documents {
        // Definitions are large and everybody's; the harness' own way in is written by `up`.
        let skipped = document["kind"] == "CustomResourceDefinition"
            || (document["kind"] == "NetworkPolicy" && document["metadata"]["name"] == HARNESS_POLICY);
        if skipped {
            continue;
        }
        set_images(&mut document, &images)?;
        let object = serde_json::from_value::<DynamicObject>(document)
            .map_err(|error| ClusterError::state("read a rendered object", error.to_string()))?;
        objects.push(object);
    }
    let kinds = Kinds::of(client, &objects).await?;
    let scaled: Scaled = objects.iter().filter_map(scale::bounds).collect();
    let looks = stream::iter(objects.iter().map(|object| look(client, &kinds, object, &scaled)));
    let found: Vec<Result<Option<String>, ClusterError>> = looks.buffered(AT_ONCE).collect().await;
    let mut drift = Drift { objects: objects.len(), ..Drift::default() };
    for look in found {
        match look {
            Ok(line) => drift.lines.extend(line),
            Err(error) => drift.unread.push(error.to_string()),
        }
    }
    Ok(drift)
}

async fn look(
    client: &Client,
    kinds: &Kinds,
    object: &DynamicObject,
    scaled: &Scaled,
) -> Result<Option<String>, ClusterError> {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let name = format!("{kind} {}", object.name_any());
    let Some(there) = read(client, kinds, object).await? else {
        return Ok(Some(format!("{name} is not there")));
    };
    let mut object = object.clone();
    scale::keep(&mut object, &there, scaled);
    let stated = dry_run(client, kinds, &object).await?;
    let mut paths = Vec::new();
    for (field, value) in fields(&stated.data) {
        differences(value, there.data.get(field).unwrap_or(&Value::Null), field, &mut paths);
    }
    paths.truncate(PATHS_MAX);
    Ok((!paths.is_empty()).then(|| format!("{name}: {}", paths.join(", "))))
}

fn fields(data: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = data.as_object().into_iter().flatten();
    fields.map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| !NOT_COMPARED.contains(key))
}

/// Where two values differ, as `spec.replicas is 2, not 3`.
fn differences(stated: &Value, there: &Value, path: &str, paths: &mut Vec<String>) {
    match (stated, there) {
        (Value::Object(stated), Value::Object(there)) => {
            for (key, value) in stated {
                let path = format!("{path}.{key}");
                differences(value, there.get(key).unwrap_or(&Value::Null), &path, paths);
            }
        }
        (Value::Array(stated), Value::Array(there)) if stated.len() == there.len() => {
            for (i, (stated, there)) in stated.iter().zip(there).enumerate() {
                differences(stated, there, &format!("{path}[{i}]"), paths);
            }
        }
        (stated, there) if stated != there => {
            paths.push(format!("{path} is {}, not {}", short(there), short(stated)));
        }
        _ => {}
    }
}

/// Never a whole file, and nothing of a value's inside that could be more than a number or a word.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "not there".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.len() > 60 => format!("a text of {} bytes", text.len()),
        other => other.to_string(),
    }
}

/// The images of ours that run now: the manifests have a tag in the place of each.
async fn images_of(client: &Client) -> Result<Images, ClusterError> {
    let mut images = Images::new();
    let mut texts = Vec::new();
    for (group, version, kind) in [
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "StatefulSet"),
        ("batch", "v1", "CronJob"),
        ("", "v1", "ConfigMap"),
    ] {
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = kube::discovery::ApiResource::from_gvk(&gvk);
        for api in [
            kube::Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource),
            kube::Api::<DynamicObject>::namespaced_with(client.clone(), "istio-system", &resource),
        ] {
            let list = api.list(&kube::api::ListParams::default().limit(500)).await;
            let list = list.map_err(ClusterError::api(format!("list every {kind}")))?;
            texts.extend(list.items.into_iter().map(|item| item.data.to_string()));
        }
    }
    for text in &texts {
        for piece in text.split(PREFIX).skip(1) {
            let end = piece.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c)));
            let piece = &piece[..end.unwrap_or(piece.len())];
            if let Some((name, _)) = piece.split_once(':') {
                images.entry(name.to_owned()).or_insert_with(|| format!("{PREFIX}{piece}"));
            }
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(stated: Value, there: Value) -> Vec<String> {
        let mut paths = Vec::new();
        differences(&stated, &there, "spec", &mut paths);
        paths
    }

    #[test]
    fn what_is_stated_must_be_there_and_what_others_add_is_theirs() {
        assert!(found(json!({ "a": 1 }), json!({ "a": 1, "b": 2 })).is_empty());
        assert_eq!(found(json!({ "replicas": 3 }), json!({ "replicas": 2 })), ["spec.replicas is 2, not 3"]);
        assert_eq!(found(json!({ "a": { "b": 1 } }), json!({})), ["spec.a is not there, not an object"]);
        assert_eq!(found(json!([1, 2]), json!([1])), ["spec is a list of 1, not a list of 2"]);
        assert_eq!(found(json!([1, 2]), json!([1, 3])), ["spec[1] is 3, not 2"]);
        let long = "x".repeat(100);
        assert_eq!(found(json!(long), json!("y")), ["spec is \"y\", not a text of 100 bytes"]);
    }
}
