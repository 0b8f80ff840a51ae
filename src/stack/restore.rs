//! The stack's restore jobs: not part of it, put there for as long as somebody restores.

use std::path::Path;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};

use super::apply::apply;
use super::render::{Images, render};
use super::{NAMESPACE, Parts, StackError};
use crate::cluster::ClusterError;

/// Stores whose servers' images do the restoring: they are those that stand.
const STORES: [&str; 2] = ["postgres", "redis"];

/// Applies the overlay with the images of the servers that stand; gives its objects.
///
/// # Errors
/// When a store does not stand, or the overlay cannot be rendered or applied.
pub async fn offer_restores(
    client: &Client,
    kubectl: &Path,
    overlay: &Path,
) -> Result<Vec<DynamicObject>, StackError> {
    let objects = restores(client, kubectl, overlay).await?;
    apply(client, &objects).await?;
    Ok(objects)
}

/// What is offered, without offering it.
///
/// # Errors
/// When a store does not stand, or the overlay cannot be rendered.
pub async fn restores(
    client: &Client,
    kubectl: &Path,
    overlay: &Path,
) -> Result<Vec<DynamicObject>, StackError> {
    let mut images = Images::new();
    for store in STORES {
        images.insert(store.to_owned(), image_of(client, store).await?);
    }
    Ok(render(kubectl, overlay, &Parts::default(), &images).await?)
}

async fn image_of(client: &Client, store: &str) -> Result<String, ClusterError> {
    let name = format!("ai-platform-{store}");
    let what = format!("read the image of statefulset {NAMESPACE}/{name}");
    let sets = Api::<StatefulSet>::namespaced(client.clone(), NAMESPACE);
    let set = sets.get(&name).await.map_err(ClusterError::api(what.clone()))?;
    let pod = set.spec.and_then(|spec| spec.template.spec);
    let containers = pod.map(|pod| pod.containers).unwrap_or_default();
    let own = containers.into_iter().find(|container| container.name == store);
    own.and_then(|container| container.image)
        .ok_or_else(|| ClusterError::state(what, format!("it has no container {store}")))
}

/// Takes the restore jobs away again, with the rights that they have.
///
/// # Errors
/// When one cannot be deleted.
pub async fn withdraw_restores(client: &Client, objects: &[DynamicObject]) -> Result<(), ClusterError> {
    for object in objects.iter().rev() {
        let types = object.types.clone().unwrap_or_default();
        let what = format!("delete {} {}", types.kind, object.name_any());
        let gvk = GroupVersionKind::try_from(&types)
            .map_err(|error| ClusterError::state(&what, error.to_string()))?;
        let namespace = object.namespace().unwrap_or_else(|| NAMESPACE.to_owned());
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, &ApiResource::from_gvk(&gvk));
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(ClusterError::api(what)(error)),
        }
    }
    Ok(())
}
