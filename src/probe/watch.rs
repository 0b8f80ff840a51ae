//! Watches pods, nodes and endpoints through the API. Only changes are recorded, and a heartbeat a second.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::Sink;
use crate::cluster::{deployment_info, is_current, node_info, pod_info, set_info};
use crate::model::{Component, Leadership, Observation, PodInfo, WorkloadInfo};

const BEAT: Duration = Duration::from_secs(1);
/// Pods behind one service that are named in an event.
const ENDPOINTS_MAX: usize = 200;

/// Runs until `end`.
pub async fn observe_api<S: Sink>(client: Client, namespace: String, sink: S, end: CancellationToken) {
    tokio::select! {
        () = end.cancelled() => {}
        _ = futures::future::join5(
            pods(&client, &namespace, sink.clone()),
            nodes(&client, sink.clone()),
            endpoints(&client, &namespace, sink.clone()),
            replicas(&client, &namespace, sink.clone()),
            beat(&client, sink),
        ) => {}
    }
}

fn stream<K>(api: Api<K>) -> impl Stream<Item = watcher::Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    // An error backs off and reconnects: an API server that is away is a thing to be seen, not to die of.
    watcher(api, watcher::Config::default()).default_backoff().filter_map(|event| async move { event.ok() })
}

async fn pods<S: Sink>(client: &Client, namespace: &str, sink: S) {
    let mut events = Box::pin(stream(Api::<Pod>::namespaced(client.clone(), namespace)));
    let mut known: BTreeMap<String, (String, Observation)> = BTreeMap::new();
    let mut listed: Option<Vec<String>> = None;
    let mut restarts = Restarts::default();
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::Init => listed = Some(Vec::new()),
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => {
                let info = pod_info(&pod);
                if let Some(listed) = &mut listed {
                    listed.push(info.name.clone());
                }
                restarts.tell(&info, &sink);
                let seen = Observation::Pod {
                    namespace: info.namespace,
                    name: info.name.clone(),
                    uid: info.uid.clone(),
                    node: info.node,
                    component: info.component,
                    ready: info.ready,
                    terminating: info.terminating,
                };
                if known.get(&info.name).is_none_or(|(_, before)| *before != seen) {
                    known.insert(info.name, (info.uid, seen.clone()));
                    sink.observe(seen);
                }
            }
            watcher::Event::Delete(pod) => gone(&mut known, &pod.name_any(), &sink),
            watcher::Event::InitDone => {
                // What was deleted while the watch was down is not told by it.
                let listed = listed.take().unwrap_or_default();
                let missing: Vec<String> =
                    known.keys().filter(|name| !listed.contains(name)).cloned().collect();
                missing.iter().for_each(|name| gone(&mut known, name, &sink));
            }
        }
    }
}

/// Restart counts as last seen, by uid and container.
#[derive(Default)]
struct Restarts(BTreeMap<(String, String), i32>);

impl Restarts {
    fn tell<S: Sink>(&mut self, pod: &PodInfo, sink: &S) {
        for (container, (_, restarts)) in &pod.containers {
            let before = self.0.insert((pod.uid.clone(), container.clone()), *restarts);
            if before.is_some_and(|before| before < *restarts) {
                sink.observe(Observation::Restarted {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                    container: container.clone(),
                    restarts: *restarts,
                });
            }
        }
    }
}

fn gone<S: Sink>(known: &mut BTreeMap<String, (String, Observation)>, name: &str, sink: &S) {
    if let Some((uid, Observation::Pod { namespace, name, component, .. })) = known.remove(name) {
        sink.observe(Observation::PodGone { namespace, name, uid, component });
    }
}

async fn nodes<S: Sink>(client: &Client, sink: S) {
    let mut events = Box::pin(stream(Api::<Node>::all(client.clone())));
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let (watcher::Event::Apply(node) | watcher::Event::InitApply(node)) = event else { continue };
        let info = node_info(&node);
        if known.insert(info.name.clone(), info.ready) != Some(info.ready) {
            sink.observe(Observation::Node { name: info.name, ready: info.ready });
        }
    }
}

/// All slices of a service together: which pods take its traffic.
async fn endpoints<S: Sink>(client: &Client, namespace: &str, sink: S) {
    let mut events = Box::pin(stream(Api::<EndpointSlice>::namespaced(client.clone(), namespace)));
    let mut slices: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let service = match event {
            watcher::Event::Apply(slice) | watcher::Event::InitApply(slice) => {
                let Some(service) = service_of(&slice) else { continue };
                slices.insert(slice.name_any(), (service.clone(), serving(&slice)));
                service
            }
            watcher::Event::Delete(slice) => match slices.remove(&slice.name_any()) {
                Some((service, _)) => service,
                None => continue,
            },
            watcher::Event::Init | watcher::Event::InitDone => continue,
        };
        let of_service = slices.values().filter(|(name, _)| *name == service);
        let mut pods: Vec<String> = of_service.flat_map(|(_, pods)| pods.clone()).collect();
        pods.sort();
        pods.dedup();
        pods.truncate(ENDPOINTS_MAX);
        if told.get(&service) != Some(&pods) {
            told.insert(service.clone(), pods.clone());
            sink.observe(Observation::Endpoints { service, pods });
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    slice.labels().get("kubernetes.io/service-name").cloned()
}

/// Endpoints that are ready; one without a pod is named by its address. A service that publishes pods which are not ready
/// calls each of its endpoints ready, always: there it counts whether the pod serves.
fn serving(slice: &EndpointSlice) -> Vec<String> {
    let ready = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        conditions.ready.unwrap_or(true) && conditions.serving.unwrap_or(true)
    });
    ready
        .map(|endpoint| match &endpoint.target_ref {
            Some(target) => target.name.clone().unwrap_or_default(),
            None => endpoint.addresses.join(","),
        })
        .collect()
}

/// The redundancy of components that are not asked in their own protocol: how many of their pods are ready, and their
/// readiness says "in sync" where there is such a thing.
async fn replicas<S: Sink>(client: &Client, namespace: &str, sink: S) {
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    let deployed = |one: &Deployment| {
        let observed = one.status.as_ref().and_then(|status| status.observed_generation);
        is_current(&one.metadata, observed).then(|| deployment_info(one))
    };
    let set = |one: &StatefulSet| {
        let observed = one.status.as_ref().and_then(|status| status.observed_generation);
        is_current(&one.metadata, observed).then(|| set_info(one))
    };
    futures::future::join(workloads(deployments, deployed, sink.clone()), workloads(sets, set, sink)).await;
}

/// `info` is absent while the controller's word is of an object as it was before: it says nothing of what is wanted now.
async fn workloads<K, S: Sink>(api: Api<K>, info: fn(&K) -> Option<WorkloadInfo>, sink: S)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = Box::pin(stream(api));
    let mut known: BTreeMap<Component, (u32, u32)> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let (watcher::Event::Apply(workload) | watcher::Event::InitApply(workload)) = event else {
            continue;
        };
        let Some(info) = info(&workload) else { continue };
        let Some(component) = info.component else { continue };
        if component.leadership() != Leadership::None {
            continue;
        }
        let seen = (u32::try_from(info.ready).unwrap_or(0), u32::try_from(info.desired).unwrap_or(0));
        if known.insert(component, seen) != Some(seen) {
            sink.observe(Observation::Redundancy { component, have: seen.0, want: seen.1 });
        }
    }
}

/// Says once a second whether the API answers.
async fn beat<S: Sink>(client: &Client, sink: S) {
    let mut tick = tokio::time::interval(BEAT);
    loop {
        tick.tick().await;
        let answered = tokio::time::timeout(BEAT, client.apiserver_version()).await;
        if matches!(answered, Ok(Ok(_))) {
            sink.observe(Observation::Heartbeat { probe: "api".to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_published_and_does_not_serve_takes_no_traffic() {
        let endpoint = |name: &str, ready: Option<bool>, serving: Option<bool>| {
            json!({ "addresses": ["10.0.0.1"], "targetRef": { "name": name },
                "conditions": { "ready": ready, "serving": serving } })
        };
        let slice = json!({ "addressType": "IPv4", "metadata": { "name": "s" }, "endpoints": [
            endpoint("serves", Some(true), Some(true)),
            endpoint("away", Some(false), Some(false)),
            endpoint("ends", Some(false), Some(true)),
            endpoint("published", Some(true), Some(false)),
            endpoint("of-before-there-was-a-word-for-it", None, None),
            json!({ "addresses": ["10.0.0.2", "10.0.0.3"] }),
        ] });
        let slice = serde_json::from_value::<EndpointSlice>(slice).unwrap();
        assert_eq!(serving(&slice), ["serves", "of-before-there-was-a-word-for-it", "10.0.0.2,10.0.0.3"]);
    }
}
