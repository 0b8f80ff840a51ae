//! Server-side apply of rendered objects.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::{Api, Client, ResourceExt};

use crate::cluster::ClusterError;

pub(super) const MANAGER: &str = "mettle";
const DEADLINE: Duration = Duration::from_secs(30);

/// How the API serves the kinds of some objects; each is asked for once.
pub(super) struct Kinds(BTreeMap<String, (ApiResource, ApiCapabilities)>);

impl Kinds {
    /// # Errors
    /// When the API does not know a kind, or does not answer.
    pub async fn of(client: &Client, objects: &[DynamicObject]) -> Result<Self, ClusterError> {
        let mut kinds = Self(BTreeMap::new());
        for object in objects {
            kinds.learn(client, object).await?;
        }
        Ok(kinds)
    }

    async fn learn(&mut self, client: &Client, object: &DynamicObject) -> Result<(), ClusterError> {
        if let Entry::Vacant(unknown) = self.0.entry(key(object)) {
            let what = what(object);
            let types = object.types.clone().unwrap_or_default();
            let gvk = GroupVersionKind::try_from(&types)
                .map_err(|error| ClusterError::state(&what, error.to_string()))?;
            let found = pinned_kind(client, &gvk).await.map_err(ClusterError::api(what))?;
            unknown.insert(found);
        }
        Ok(())
    }

    fn api(&self, client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, ClusterError> {
        let Some((resource, capabilities)) = self.0.get(&key(object)) else {
            return Err(ClusterError::state(what(object), "its kind was not asked for"));
        };
        match (&capabilities.scope, object.namespace()) {
            (Scope::Namespaced, Some(namespace)) => {
                Ok(Api::namespaced_with(client.clone(), &namespace, resource))
            }
            (Scope::Namespaced, None) => Err(ClusterError::state(what(object), "it names no namespace")),
            (Scope::Cluster, _) => Ok(Api::all_with(client.clone(), resource)),
        }
    }
}

fn key(object: &DynamicObject) -> String {
    object.types.as_ref().map_or_else(String::new, |types| format!("{}/{}", types.api_version, types.kind))
}

fn what(object: &DynamicObject) -> String {
    format!("apply {} {}", object.types.as_ref().map_or("", |types| &types.kind), object.name_any())
}

/// Applies objects one by one, in order.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> Result<(), ClusterError> {
    let mut kinds = Kinds(BTreeMap::new());
    for object in objects {
        // One by one: what an object is of may be defined by the one before it.
        kinds.learn(client, object).await?;
        patch(client, &kinds, object, &PatchParams::apply(MANAGER).force()).await?;
    }
    Ok(())
}

/// What the object would be if it were applied; nothing is stored.
pub(super) async fn dry_run(
    client: &Client,
    kinds: &Kinds,
    object: &DynamicObject,
) -> Result<DynamicObject, ClusterError> {
    patch(client, kinds, object, &PatchParams::apply(MANAGER).force().dry_run()).await
}

/// The object as it is there, if it is.
pub(super) async fn read(
    client: &Client,
    kinds: &Kinds,
    object: &DynamicObject,
) -> Result<Option<DynamicObject>, ClusterError> {
    let (api, name) = (kinds.api(client, object)?, object.name_any());
    let what = format!("read {} {name}", object.types.as_ref().map_or("", |types| &types.kind));
    match tokio::time::timeout(DEADLINE, api.get_opt(&name)).await {
        Ok(result) => result.map_err(ClusterError::api(what)),
        Err(_) => Err(ClusterError::Deadline { what, seconds: DEADLINE.as_secs() }),
    }
}

async fn patch(
    client: &Client,
    kinds: &Kinds,
    object: &DynamicObject,
    parameters: &PatchParams,
) -> Result<DynamicObject, ClusterError> {
    let (api, name, what) = (kinds.api(client, object)?, object.name_any(), what(object));
    let patch = Patch::Apply(object);
    let applying = api.patch(&name, parameters, &patch);
    match tokio::time::timeout(DEADLINE, applying).await {
        Ok(result) => result.map_err(ClusterError::api(what)),
        Err(_) => Err(ClusterError::Deadline { what, seconds: DEADLINE.as_secs() }),
    }
}
