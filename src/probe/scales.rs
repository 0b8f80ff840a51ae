//! Reads what a component's autoscaler wants, and how many of its replicas are ready.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::every::every;
use crate::cluster::NAME_LABEL;
use crate::model::{Component, Observation};

const EVERY: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(2);
const SCALERS_MAX: u32 = 200;

/// Runs until `end`.
pub async fn observe_scales<S: Sink>(
    component: Component,
    client: Client,
    namespace: String,
    sink: S,
    end: CancellationToken,
) {
    let told: Mutex<Option<Observation>> = Mutex::new(None);
    every(EVERY, &end, |_| async {
        let looked = tokio::time::timeout(DEADLINE, look(component, &client, &namespace)).await;
        let Ok(Some(seen)) = looked else { return };
        let before = told.lock().unwrap_or_else(PoisonError::into_inner).replace(seen.clone());
        if before.as_ref() != Some(&seen) {
            sink.observe(seen);
        }
        sink.observe(Observation::Heartbeat { probe: format!("scale {component}") });
    })
    .await;
}

async fn look(component: Component, client: &Client, namespace: &str) -> Option<Observation> {
    let scalers = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    let list = scalers.list(&ListParams::default().limit(SCALERS_MAX)).await.ok()?;
    let scaler = list
        .items
        .iter()
        .find(|scaler| scaler.labels().get(NAME_LABEL).map(String::as_str) == Some(component.as_str()))?;
    let target = &scaler.spec.as_ref()?.scale_target_ref.name;
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace).get(target).await.ok()?;
    seen(component, scaler, &deployment)
}

/// What is wanted is the Deployment's word: the autoscaler writes it there.
fn seen(
    component: Component,
    scaler: &HorizontalPodAutoscaler,
    deployment: &Deployment,
) -> Option<Observation> {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let bounds = scaler.spec.as_ref()?;
    Some(Observation::Scale {
        component,
        desired: count(deployment.spec.as_ref()?.replicas.unwrap_or(1)),
        ready: count(deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)),
        // The API server's own default is 1.
        minimum: count(bounds.min_replicas.unwrap_or(1)),
        maximum: count(bounds.max_replicas),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wish_and_truth_are_told_apart() {
        let scaler = json!({ "spec": { "minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": { "kind": "Deployment", "name": "x" } } });
        let deployment = |status| {
            let template =
                json!({ "spec": { "replicas": 3, "selector": {}, "template": {} }, "status": status });
            serde_json::from_value::<Deployment>(template).unwrap()
        };
        let scaler = serde_json::from_value(scaler).unwrap();
        let of = |status| seen(Component::Edge, &scaler, &deployment(status));
        let scale = |ready| {
            let component = Component::Edge;
            Some(Observation::Scale { component, desired: 3, ready, minimum: 2, maximum: 4 })
        };
        assert_eq!(of(json!({ "readyReplicas": 2 })), scale(2));
        assert_eq!(of(json!({})), scale(0));
    }
}
