//! Edits of objects that can be taken back, and objects that are made and deleted.
//!
//! # Guarantees
//! - An edit and the note of how it is taken back are one request, bound to the version that was read.
//! - A field that others changed since is left alone: [`Applied::Conflict`].

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::read::{deployment_info, pod_info, set_info};
use super::{Applied, ClusterError, expired, poll_until, remove};
use crate::model::{self, Edit, ObjectRef, OnConflict, Restored, RunId, TOUCHED_LABEL, WorkloadInfo};

/// Somebody else writes at the same moment: so often it is tried again.
const TRIES: u32 = 8;
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(170);
const GONE_DEADLINE: Duration = Duration::from_secs(30);
/// Kinds that an edit or a creation of ours may be found on.
const KINDS: [(&str, &str); 10] = [
    ("v1", "Node"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
];

pub fn api(client: &Client, object: &ObjectRef) -> Api<DynamicObject> {
    let (group, version) = object.group_version();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &object.kind));
    match &object.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn malformed(object: &ObjectRef) -> impl Fn(serde_json::Error) -> ClusterError + use<'_> {
    move |error| ClusterError::state(format!("read {object}"), error.to_string())
}

/// All objects of the kind and namespace of `any`. A kind that the cluster does not know, or hides from us, has none.
pub async fn list(
    client: &Client,
    any: &ObjectRef,
    parameters: &ListParams,
) -> Result<Vec<DynamicObject>, ClusterError> {
    match api(client, any).list(parameters).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(Vec::new()),
        Err(error) => Err(ClusterError::api(format!("list objects of kind {}", any.kind))(error)),
    }
}

/// Reads, changes and writes an object until nobody came between; `None`: there is nothing to be written.
async fn rewrite<T>(
    client: &Client,
    object: &ObjectRef,
    what: &str,
    mut change: impl FnMut(&mut Value) -> Result<(bool, T), ClusterError>,
) -> Result<Option<T>, ClusterError> {
    let api = api(client, object);
    for attempt in 0..TRIES {
        let found = api.get_opt(&object.name).await.map_err(ClusterError::api(what))?;
        let Some(found) = found else { return Ok(None) };
        let mut value = serde_json::to_value(&found).map_err(malformed(object))?;
        let (write, answer) = change(&mut value)?;
        if !write {
            return Ok(Some(answer));
        }
        let changed: DynamicObject = serde_json::from_value(value).map_err(malformed(object))?;
        match api.replace(&object.name, &PostParams::default(), &changed).await {
            Ok(_) => return Ok(Some(answer)),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tokio::time::sleep(Duration::from_millis(50 * 2u64.pow(attempt.min(5)))).await;
            }
            Err(error) => return Err(ClusterError::api(what)(error)),
        }
    }
    Err(ClusterError::state(what, format!("somebody else changed it {TRIES} times meanwhile")))
}

/// Makes the edits; what the server says of them then.
pub async fn edit(
    client: &Client,
    object: &ObjectRef,
    edits: &[Edit],
    run: &RunId,
) -> Result<String, ClusterError> {
    let what = format!("edit {object}");
    let edited = rewrite(client, object, &what, |value| {
        let made = expired::made(edits, value);
        made.and_then(|edits| model::edit(value, &edits, &run.0))
            .map_err(|why| ClusterError::state(what.clone(), why))?;
        Ok((true, ()))
    });
    edited.await?.ok_or_else(|| ClusterError::state(what.clone(), "it is not there"))?;
    let found = api(client, object).get(&object.name).await.map_err(ClusterError::api(what))?;
    let value = serde_json::to_value(&found).map_err(malformed(object))?;
    let says = edits.iter().map(|edit| match edit {
        Edit::Set { path, .. } | Edit::Add { path, .. } | Edit::Expire { certificate: path, .. } => {
            let found = value.pointer(path).map_or_else(|| "absent".to_owned(), Value::to_string);
            format!("{path} = {}", found.chars().take(120).collect::<String>())
        }
    });
    Ok(format!("read back: {}", says.collect::<Vec<_>>().join("; ")))
}

/// Puts the fields back that the object says were edited; waits until a workload's pods are as they should be.
pub async fn restore(
    client: &Client,
    object: &ObjectRef,
    on_conflict: OnConflict,
) -> Result<Applied, ClusterError> {
    let what = format!("restore {object}");
    let restored = rewrite(client, object, &what, |value| {
        let restored = model::restore(value, on_conflict);
        let restored = restored.map_err(|why| ClusterError::state(what.clone(), why))?;
        Ok((!matches!(restored, Restored::Clean | Restored::Conflict(_)), restored))
    });
    let how = match restored.await? {
        None => return Ok(Applied::AlreadyClean(format!("{object} is gone"))),
        Some(Restored::Conflict(why)) => return Ok(Applied::Conflict(format!("{object}: {why}"))),
        // How somebody else's state is to come to rest is not ours to know.
        Some(Restored::Accepted(why)) => {
            return Ok(Applied::Done(format!("abandoned: {object} stays as it is, though {why}")));
        }
        Some(Restored::Clean) => Applied::AlreadyClean(format!("{object} bears no edit of ours")),
        Some(Restored::Done) => Applied::Done(format!("{object} is as it was")),
        Some(Restored::Overwrote(what)) => {
            Applied::Done(format!("forced: {object} is as it was; overwritten: {}", what.join("; ")))
        }
    };
    rollout(client, object).await?;
    Ok(how)
}

/// Waits for a rollout that is to stay, and takes our marks off its object.
pub async fn settle(client: &Client, object: &ObjectRef) -> Result<Applied, ClusterError> {
    rollout(client, object).await?;
    let what = format!("take our marks off {object}");
    rewrite(client, object, &what, |value| Ok((model::forget(value), ()))).await?;
    Ok(Applied::Done(format!("the rollout of {object} is over")))
}

/// Waits until a Deployment or StatefulSet has all its pods of its present template Ready.
async fn rollout(client: &Client, object: &ObjectRef) -> Result<(), ClusterError> {
    if !matches!(object.kind.as_str(), "Deployment" | "StatefulSet") {
        return Ok(());
    }
    let what = format!("the rollout of {object}");
    poll_until(&what, ROLLOUT_DEADLINE, || async {
        let Some(workload) = workload(client, object).await? else { return Ok(Ok(())) };
        if workload.ready >= workload.desired {
            return Ok(Ok(()));
        }
        unstick(client, object).await?;
        Ok(Err(format!("{} of {} pods are ready", workload.ready, workload.desired)))
    })
    .await
}

async fn workload(client: &Client, object: &ObjectRef) -> Result<Option<WorkloadInfo>, ClusterError> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let read = || ClusterError::api(format!("read {object}"));
    if object.kind == "StatefulSet" {
        let set = Api::<StatefulSet>::namespaced(client.clone(), namespace).get_opt(&object.name).await;
        return Ok(set.map_err(read())?.as_ref().map(set_info));
    }
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace).get_opt(&object.name).await;
    Ok(deployment.map_err(read())?.as_ref().map(deployment_info))
}

/// A StatefulSet never replaces a pod that its earlier template left broken (kubernetes #67250): that is on us.
async fn unstick(client: &Client, object: &ObjectRef) -> Result<(), ClusterError> {
    if object.kind != "StatefulSet" {
        return Ok(());
    }
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let what = format!("replace broken pods of {object}");
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let set = sets.get(&object.name).await.map_err(ClusterError::api(what.clone()))?;
    let present = set.status.and_then(|status| status.update_revision).unwrap_or_default();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let all = pods.list(&ListParams::default().limit(500)).await.map_err(ClusterError::api(what.clone()))?;
    for pod in &all.items {
        let info = pod_info(pod);
        let owned = info.controller.as_deref() == Some(&format!("StatefulSet/{}", object.name));
        let revision = info.labels.get("controller-revision-hash");
        if !owned || info.ready || info.terminating || revision.is_none_or(|revision| *revision == present) {
            continue;
        }
        match pods.delete(&info.name, &DeleteParams::default()).await {
            Ok(_) => {}
            // Gone by itself, or not ours to delete: the wait goes on either way.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
            Err(error) => return Err(ClusterError::api(what)(error)),
        }
    }
    Ok(())
}

pub async fn create(client: &Client, object: &ObjectRef, manifest: &Value) -> Result<(), ClusterError> {
    let what = format!("create {object}");
    let made: DynamicObject = serde_json::from_value(manifest.clone()).map_err(malformed(object))?;
    api(client, object).create(&PostParams::default(), &made).await.map_err(ClusterError::api(what))?;
    Ok(())
}

/// Deletes what we made, and nothing else of that name.
pub async fn delete(
    client: &Client,
    object: &ObjectRef,
    on_conflict: OnConflict,
) -> Result<Applied, ClusterError> {
    let what = format!("delete {object}");
    let api = api(client, object);
    let found = api.get_opt(&object.name).await.map_err(ClusterError::api(what.clone()))?;
    let Some(found) = found else { return Ok(Applied::AlreadyClean(format!("{object} is not there"))) };
    if found.labels().get(TOUCHED_LABEL.0).map(String::as_str) != Some(TOUCHED_LABEL.1) {
        // Somebody else's altogether: not even by force is it deleted.
        let why = format!("{object} does not bear our label");
        return Ok(match on_conflict {
            OnConflict::Accept => Applied::Done(format!("abandoned: {why}, and stays")),
            OnConflict::Tell | OnConflict::Overwrite => Applied::Conflict(why),
        });
    }
    remove(&api, &object.name, &object.to_string(), &DeleteParams::default(), GONE_DEADLINE).await?;
    Ok(Applied::Done(format!("{object} is gone")))
}

/// Objects that still bear our label.
pub async fn touched(client: &Client, namespace: &str) -> Result<Vec<ObjectRef>, ClusterError> {
    let ours = ListParams::default().labels(&format!("{}={}", TOUCHED_LABEL.0, TOUCHED_LABEL.1)).limit(500);
    let mut found = Vec::new();
    for (api_version, kind) in KINDS {
        let namespace = (kind != "Node").then_some(namespace);
        let any = ObjectRef::new(api_version, kind, namespace, "");
        let items = list(client, &any, &ours).await?;
        found.extend(items.iter().map(|item| ObjectRef { name: item.name_any(), ..any.clone() }));
    }
    Ok(found)
}
