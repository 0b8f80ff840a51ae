//! Server-side apply of rendered objects.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind};
use kube::{Api, Client, ResourceExt};

use crate::cluster::ClusterError;

pub(super) const MANAGER: &str = "mettle";
const DEADLINE: Duration = Duration::from_secs(30);

/// Applies objects one by one, in order.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> Result<(), ClusterError> {
    let mut kinds: BTreeMap<String, (ApiResource, ApiCapabilities)> = BTreeMap::new();
    for object in objects {
        let types = object.types.clone().unwrap_or_default();
        let what = format!("apply {} {}", types.kind, object.name_any());
        let key = format!("{}/{}", types.api_version, types.kind);
        if !kinds.contains_key(&key) {
            let gvk = GroupVersionKind::try_from(&types)
                .map_err(|error| ClusterError::state(&what, error.to_string()))?;
            let found = pinned_kind(client, &gvk).await.map_err(ClusterError::api(what.clone()))?;
            kinds.insert(key.clone(), found);
        }
        let (resource, capabilities) = &kinds[&key];
        let api: Api<DynamicObject> = match (&capabilities.scope, object.namespace()) {
            (Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(client.clone(), &namespace, resource)
            }
            (Scope::Namespaced, None) => return Err(ClusterError::state(what, "it names no namespace")),
            (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
        };
        let parameters = PatchParams::apply(MANAGER).force();
        let name = object.name_any();
        let patch = Patch::Apply(object);
        let applying = api.patch(&name, &parameters, &patch);
        match tokio::time::timeout(DEADLINE, applying).await {
            Ok(result) => result.map(|_| ()).map_err(ClusterError::api(what))?,
            Err(_) => return Err(ClusterError::Deadline { what, seconds: DEADLINE.as_secs() }),
        }
    }
    Ok(())
}
