//! What of an overlay is wanted: its components, the images that they use, and the stages that they come up in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::NAMESPACE;
use super::render::{PREFIX, RenderError};
use crate::cluster::NAME_LABEL;

const KUSTOMIZATION: &str = "kustomization.yaml";
const DEPTH_MAX: usize = 6;
/// Objects of the stack as a whole: the namespace, the default policies, the harness' own way in.
const WHOLE: [&str; 2] = [NAMESPACE, "harness-access"];
const TIER_LABEL: &str = "app.kubernetes.io/component";
/// Workloads that need those before them in the guide's order to be ready.
const DEPENDENT_TIERS: [&str; 2] = ["service", "worker"];
/// Istio's own objects belong to its control plane: without it their kinds do not exist.
const MESH: &str = "istiod";

/// Which components are wanted; every one when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(BTreeSet<String>);

impl Parts {
    #[must_use]
    pub fn named(names: &[String]) -> Self {
        Self(names.iter().cloned().collect())
    }

    /// Is this object, as JSON, wanted?
    #[must_use]
    pub fn want(&self, object: &Value) -> bool {
        let part = part_of(object);
        self.0.is_empty() || part.is_none_or(|part| WHOLE.contains(&part) || self.0.contains(part))
    }

    /// A name that no object bears, with those that are borne.
    fn unknown(&self, objects: &[Value]) -> Option<RenderError> {
        let known: BTreeSet<&str> =
            objects.iter().filter_map(part_of).filter(|part| !WHOLE.contains(part)).collect();
        let name = self.0.iter().find(|name| !known.contains(name.as_str()))?;
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Some(RenderError::NoComponent { name: name.clone(), known })
    }
}

fn part_of(object: &Value) -> Option<&str> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group.ends_with("istio.io") {
        return Some(MESH);
    }
    object["metadata"]["labels"][NAME_LABEL].as_str()
}

/// Names of the images of ours that the wanted parts of an overlay use. Read from its files, before there is a
/// kubectl that could render them.
///
/// # Errors
/// When a file cannot be read, or a wanted component is not in any.
pub fn images(overlay: &Path, parts: &Parts) -> Result<Vec<String>, RenderError> {
    let mut objects = Vec::new();
    read_kustomization(overlay, DEPTH_MAX, &mut objects, &mut BTreeSet::new())?;
    if let Some(error) = parts.unknown(&objects) {
        return Err(error);
    }
    let mut names = BTreeSet::new();
    objects.iter().filter(|object| parts.want(object)).for_each(|object| collect(object, &mut names));
    Ok(names.into_iter().collect())
}

/// Names of the components that an overlay holds, and of the manifest files that it is made of.
///
/// # Errors
/// When a file cannot be read.
pub fn inventory(overlay: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>), RenderError> {
    let (mut objects, mut files) = (Vec::new(), BTreeSet::from([KUSTOMIZATION.to_owned()]));
    read_kustomization(overlay, DEPTH_MAX, &mut objects, &mut files)?;
    let components = objects.iter().filter_map(part_of).map(str::to_owned).collect();
    Ok((components, files))
}

fn read_kustomization(
    dir: &Path,
    depth: usize,
    into: &mut Vec<Value>,
    files: &mut BTreeSet<String>,
) -> Result<(), RenderError> {
    let path = dir.join(KUSTOMIZATION);
    if !path.is_file() {
        return Err(RenderError::NoOverlay(dir.to_owned()));
    }
    if depth == 0 {
        return Err(unreadable(&path, format!("stands on more than {DEPTH_MAX} others")));
    }
    for document in documents(&path)? {
        for field in ["resources", "components"] {
            for entry in document[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let target: PathBuf = dir.join(entry);
                if target.is_dir() {
                    read_kustomization(&target, depth - 1, into, files)?;
                } else {
                    files.insert(entry.rsplit('/').next().unwrap_or(entry).to_owned());
                    into.extend(documents(&target)?);
                }
            }
        }
    }
    Ok(())
}

fn documents(path: &Path) -> Result<Vec<Value>, RenderError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, error.to_string()))?;
    serde_saphyr::from_multiple(&text).map_err(|error| unreadable(path, error.to_string()))
}

fn unreadable(path: &Path, message: String) -> RenderError {
    RenderError::Kustomize { overlay: path.to_owned(), message }
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        // In any text: the sidecar's image stands inside the injector's template.
        Value::String(text) => names.extend(image_names(text).map(str::to_owned)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, names)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

/// NAME of every `localhost/mettle/NAME:tag` in a text.
pub(super) fn image_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(PREFIX).skip(1).filter_map(|rest| rest.split_once(':').map(|(name, _)| name))
}

/// Cuts objects, in the guide's order, before the first workload that needs what comes before it. What comes first
/// depends on nothing and starts side by side; the rest is applied when it is ready.
pub fn stages<T>(objects: Vec<T>, as_json: impl Fn(&T) -> (String, Option<String>)) -> (Vec<T>, Vec<T>) {
    let dependent = |object: &T| {
        let (kind, tier) = as_json(object);
        let workload = matches!(kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet");
        workload && tier.is_some_and(|tier| DEPENDENT_TIERS.contains(&tier.as_str()))
    };
    let at = objects.iter().position(dependent).unwrap_or(objects.len());
    let mut first = objects;
    let last = first.split_off(at);
    (first, last)
}

/// The tier of a labelled object: `database`, `messaging`, `service` …
#[must_use]
pub fn tier(labels: &std::collections::BTreeMap<String, String>) -> Option<String> {
    labels.get(TIER_LABEL).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("base/kustomization.yaml", "resources: [a.yaml, b.yaml]");
        write("over/kustomization.yaml", "resources: [../base]");
        let workload = |name: &str, image: &str| {
            format!(
                "kind: Deployment\nmetadata: {{labels: {{{NAME_LABEL}: {name}}}}}\nspec: [{{image: '{PREFIX}{image}:dev'}}]\n"
            )
        };
        write("base/a.yaml", &format!("{}---\n{}", workload("redis", "redis"), workload("kafka", "jvm")));
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n";
        write("base/b.yaml", &format!("{}---\n{rule}", workload("istiod", "istiod")));
        dir
    }

    #[test]
    fn images_are_those_of_the_wanted_components() {
        let dir = overlay();
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            images(&dir.path().join("over"), &Parts::named(&names))
        };
        assert_eq!(of(&[]).unwrap(), ["istiod", "jvm", "redis"]);
        assert_eq!(of(&["kafka"]).unwrap(), ["jvm"]);
        let error = of(&["kafak"]).unwrap_err().to_string();
        assert_eq!(error, "the stack has no component kafak; it has istiod, kafka, redis");
        assert!(of(&[]).is_ok() && images(&dir.path().join("none"), &Parts::default()).is_err());
    }

    #[test]
    fn istios_objects_need_its_control_plane() {
        let rule = serde_json::json!({ "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule" });
        assert!(Parts::default().want(&rule));
        assert!(!Parts::named(&["redis".to_owned()]).want(&rule));
        assert!(Parts::named(&[MESH.to_owned()]).want(&rule));
    }

    #[test]
    fn the_cut_is_before_the_first_workload_that_depends_on_others() {
        let object = |kind: &str, tier: &str| (kind.to_owned(), Some(tier.to_owned()));
        let objects = vec![
            object("StatefulSet", "database"),
            object("Service", "service"),
            object("Deployment", "worker"),
            object("Deployment", "edge"),
        ];
        let (first, last) = stages(objects, Clone::clone);
        assert_eq!((first.len(), last.len()), (2, 2));
        let (first, last) = stages(vec![object("StatefulSet", "cache")], Clone::clone);
        assert_eq!((first.len(), last.len()), (1, 0));
    }
}
