//! From an overlay to objects: `kubectl kustomize` renders, we set the images' tags by content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::Value;
use thiserror::Error;

use super::parts::{Parts, image_names};

/// Image name without registry, for example `redis` → the full reference to use.
pub type Images = BTreeMap<String, String>;

pub(super) const PREFIX: &str = "localhost/mettle/";
/// The tag that manifests have in the place of ours.
const PLACEHOLDER: &str = "dev";
const DEADLINE: Duration = Duration::from_secs(30);
const OBJECTS_MAX: usize = 2000;

#[derive(Debug, Error)]
pub enum RenderError {
    #[error("{} holds no kustomization.yaml", .0.display())]
    NoOverlay(PathBuf),
    #[error("failed to run {}", kubectl.display())]
    Start {
        kubectl: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to render {}: {message}", overlay.display())]
    Kustomize { overlay: PathBuf, message: String },
    #[error("failed to render {}: no answer within {} s", .0.display(), DEADLINE.as_secs())]
    Deadline(PathBuf),
    #[error("{} renders to no object", .0.display())]
    Empty(PathBuf),
    #[error("no image was built for {0}, which the stack uses")]
    NoImage(String),
    #[error("the stack has no component {name}; it has {known}")]
    NoComponent { name: String, known: String },
}

/// Renders the wanted parts of an overlay.
///
/// # Errors
/// When it does not render, renders to nothing, or uses an image that `images` lacks.
pub async fn render(
    kubectl: &Path,
    overlay: &Path,
    parts: &Parts,
    images: &Images,
) -> Result<Vec<DynamicObject>, RenderError> {
    finish(kustomize(kubectl, overlay).await?, parts, images, overlay)
}

/// The objects of an overlay as it stands in its files, images untouched.
///
/// # Errors
/// When it does not render, or renders to nothing.
pub async fn kustomize(kubectl: &Path, overlay: &Path) -> Result<Vec<Value>, RenderError> {
    if !overlay.join("kustomization.yaml").is_file() {
        return Err(RenderError::NoOverlay(overlay.to_owned()));
    }
    let command =
        tokio::process::Command::new(kubectl).arg("kustomize").arg(overlay).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, command)
        .await
        .map_err(|_| RenderError::Deadline(overlay.to_owned()))?;
    let output = output.map_err(|source| RenderError::Start { kubectl: kubectl.to_owned(), source })?;
    let failed = |message: String| RenderError::Kustomize { overlay: overlay.to_owned(), message };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    parse(&String::from_utf8_lossy(&output.stdout), overlay)
}

fn parse(text: &str, overlay: &Path) -> Result<Vec<Value>, RenderError> {
    let failed = |message: String| RenderError::Kustomize { overlay: overlay.to_owned(), message };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| failed(error.to_string()))?;
    if documents.is_empty() {
        return Err(RenderError::Empty(overlay.to_owned()));
    }
    if documents.len() > OBJECTS_MAX {
        return Err(failed(format!("{} objects are more than {OBJECTS_MAX}", documents.len())));
    }
    Ok(documents)
}

fn finish(
    documents: Vec<Value>,
    parts: &Parts,
    images: &Images,
    overlay: &Path,
) -> Result<Vec<DynamicObject>, RenderError> {
    let failed = |message: String| RenderError::Kustomize { overlay: overlay.to_owned(), message };
    documents
        .into_iter()
        .filter(|document| parts.want(document))
        .map(|mut document| {
            set_images(&mut document, images)?;
            serde_json::from_value(document).map_err(|error| failed(error.to_string()))
        })
        .collect()
}

/// Every `localhost/mettle/NAME:dev`, wherever it stands: the sidecar's image is inside the injector's template.
pub(super) fn set_images(value: &mut Value, images: &Images) -> Result<(), RenderError> {
    match value {
        Value::String(text) if text.contains(PREFIX) => {
            for name in image_names(&text.clone()) {
                let image = images.get(name).ok_or_else(|| RenderError::NoImage(name.to_owned()))?;
                *text = text.replace(&format!("{PREFIX}{name}:{PLACEHOLDER}"), image);
            }
            Ok(())
        }
        Value::Object(fields) => fields.values_mut().try_for_each(|field| set_images(field, images)),
        Value::Array(items) => items.iter_mut().try_for_each(|item| set_images(item, images)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c, image: 'localhost/mettle/redis:dev'}]}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n";

    #[test]
    fn images_are_set_and_a_missing_one_is_an_error() {
        let images = Images::from([("redis".to_owned(), "localhost/mettle/redis:abc".to_owned())]);
        let objects =
            finish(parse(TEXT, Path::new("o")).unwrap(), &Parts::default(), &images, Path::new("o")).unwrap();
        assert_eq!(objects.len(), 2);
        assert!(objects[0].data.to_string().contains("localhost/mettle/redis:abc"));
        let inside = "kind: ConfigMap\ndata: {t: 'a image: localhost/mettle/redis:dev b'}\napiVersion: v1\nmetadata: {name: m}\n";
        let objects =
            finish(parse(inside, Path::new("o")).unwrap(), &Parts::default(), &images, Path::new("o"))
                .unwrap();
        assert_eq!(objects[0].data["data"]["t"], "a image: localhost/mettle/redis:abc b");
        let error =
            finish(parse(TEXT, Path::new("o")).unwrap(), &Parts::default(), &Images::new(), Path::new("o"))
                .unwrap_err();
        assert_eq!(error.to_string(), "no image was built for redis, which the stack uses");
    }
}
