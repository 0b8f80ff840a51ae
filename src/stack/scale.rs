//! Workloads that an autoscaler scales: how many replicas there are is its word, not that of the manifest.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::apply::{Kinds, read};
use crate::cluster::ClusterError;

/// Namespace and `Kind/name`, as a row has them.
pub(super) type Workload = (String, String);

/// What may be scaled, by as whom it is known.
pub(super) fn workload(object: &DynamicObject) -> Option<Workload> {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let name = format!("{kind}/{}", object.name_any());
    matches!(kind, "Deployment" | "StatefulSet").then(|| (object.namespace().unwrap_or_default(), name))
}

/// What an autoscaler is for, and the replicas that it may want.
pub(super) fn bounds(object: &DynamicObject) -> Option<(Workload, RangeInclusive<i32>)> {
    if object.types.as_ref()?.kind != "HorizontalPodAutoscaler" {
        return None;
    }
    let spec = &object.data["spec"];
    let of = &spec["scaleTargetRef"];
    let name = format!("{}/{}", of["kind"].as_str()?, of["name"].as_str()?);
    let (least, most) = (replicas(&spec["minReplicas"]).unwrap_or(1), replicas(&spec["maxReplicas"])?);
    Some(((object.namespace().unwrap_or_default(), name), least..=most))
}

fn replicas(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

/// By workload.
pub(super) type Scaled = BTreeMap<Workload, RangeInclusive<i32>>;

/// A manifest that states replicas is made to state those that are there, when an autoscaler may have wanted them: to apply
/// it would take them back, and whoever serves by them. Left out they cannot be: a field that nobody states any more becomes
/// its default.
pub(super) fn keep(object: &mut DynamicObject, there: &DynamicObject, scaled: &Scaled) {
    let bounds = workload(object).and_then(|workload| scaled.get(&workload));
    let Some((bounds, stated)) = bounds.zip(object.data.pointer_mut("/spec/replicas")) else { return };
    if let Some(there) = replicas(&there.data["spec"]["replicas"]).filter(|there| bounds.contains(there)) {
        *stated = Value::from(there);
    }
}

/// The same for all of them that are there already.
///
/// # Errors
/// When the API does not answer.
pub(super) async fn keep_all(
    client: &Client,
    objects: &mut [DynamicObject],
    scaled: &Scaled,
) -> Result<(), ClusterError> {
    let is_scaled = |object: &DynamicObject| workload(object).is_some_and(|one| scaled.contains_key(&one));
    for object in objects.iter_mut().filter(|object| is_scaled(object)) {
        let kinds = Kinds::of(client, std::slice::from_ref(object)).await?;
        if let Some(there) = read(client, &kinds, object).await? {
            keep(object, &there, scaled);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, spec: &Value) -> DynamicObject {
        let metadata = json!({ "name": "gateway", "namespace": "shop" });
        let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_an_autoscaler_may_have_wanted_stays() {
        let of = json!({ "kind": "Deployment", "name": "gateway" });
        let scaler = json!({ "scaleTargetRef": of, "minReplicas": 2, "maxReplicas": 4 });
        let scaled: Scaled = bounds(&object("HorizontalPodAutoscaler", &scaler)).into_iter().collect();
        for (kind, stated, there, kept) in [
            ("Deployment", Some(2), 3, Some(3)),
            ("Deployment", Some(2), 4, Some(4)),
            ("Deployment", Some(2), 1, Some(2)),
            ("Deployment", Some(2), 5, Some(2)),
            ("Deployment", None, 3, None),
            ("StatefulSet", Some(2), 3, Some(2)),
        ] {
            let spec = |replicas: Option<i64>| json!({ "replicas": replicas, "paused": false });
            let mut one = object(kind, &spec(stated));
            if stated.is_none() {
                one.data["spec"] = json!({ "paused": false });
            }
            keep(&mut one, &object(kind, &spec(Some(there))), &scaled);
            assert_eq!(one.data["spec"]["replicas"].as_i64(), kept, "{kind} {stated:?} {there}");
        }
        let mut alone = object("Deployment", &json!({ "replicas": 2 }));
        keep(&mut alone, &object("Deployment", &json!({ "replicas": 3 })), &Scaled::new());
        assert_eq!(alone.data["spec"]["replicas"], 2, "no autoscaler is for it");
    }
}
