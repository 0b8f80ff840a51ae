//! The pods of a namespace, kept current by a watch: probes look several times a second and must not list each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::{PodAddress, pod_info};
use crate::model::{Component, PodInfo};

/// Cheap to clone. When the API is away it keeps the last it knew.
#[derive(Clone, Default)]
pub struct PodCache {
    /// Absent until the first list is complete: before that, a missing pod means nothing.
    pods: Arc<Mutex<Option<BTreeMap<String, PodInfo>>>>,
}

impl PodCache {
    /// Starts the watch; it ends with `end`.
    #[must_use]
    pub fn start(client: Client, namespace: &str, end: CancellationToken) -> Self {
        let cache = Self::default();
        let api = Api::<Pod>::namespaced(client, namespace);
        let filling = cache.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = filling.fill(api) => {}
            }
        });
        cache
    }

    async fn fill(&self, api: Api<Pod>) {
        let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            let Ok(event) = event else { continue };
            let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(pod) => {
                    listed.insert(pod.name_any(), pod_info(&pod));
                }
                watcher::Event::InitDone => *pods = Some(std::mem::take(&mut listed)),
                watcher::Event::Apply(pod) => {
                    pods.get_or_insert_default().insert(pod.name_any(), pod_info(&pod));
                }
                watcher::Event::Delete(pod) => {
                    pods.get_or_insert_default().remove(&pod.name_any());
                }
            }
        }
    }

    /// All of them. Absent while nothing is known.
    #[must_use]
    pub fn pods(&self) -> Option<Vec<PodInfo>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        Some(pods.as_ref()?.values().cloned().collect())
    }

    /// Addresses of the members of a component; those without an address are left out. Absent while nothing is known.
    #[must_use]
    pub fn members(&self, component: Component) -> Option<Vec<PodAddress>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let members =
            pods.as_ref()?.values().filter(|pod| pod.component == Some(component) && pod.ip.is_some());
        Some(members.map(PodAddress::from).collect())
    }
}
