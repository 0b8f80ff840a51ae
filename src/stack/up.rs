//! Stands the stack up: in the guide's order, waiting where the next stage depends on the one before.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::time::Instant;

use super::apply::apply;
use super::parts::{Parts, stages, tier};
use super::ready::{Row, culprit, rows};
use super::render::{Images, RenderError, render};
use super::{NAMESPACE, secret};
use crate::cluster::ClusterError;

const TICK: Duration = Duration::from_millis(500);
/// A stage that is not ready by then is told with its reason.
const STAGE_DEADLINE: Duration = Duration::from_secs(420);

#[derive(Debug, Error)]
pub enum StackError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the stack is not ready after {seconds} s: {waiting}\n{reason}")]
    NotReady { seconds: u64, waiting: String, reason: String },
}

pub struct UpRequest<'a> {
    pub kubectl: &'a Path,
    pub overlay: PathBuf,
    pub parts: &'a Parts,
    pub images: &'a Images,
    /// Addresses that the harness is seen with: the stack's policies let its direct reads in.
    pub harness: Vec<IpAddr>,
}

/// What a person sees meanwhile: what is being done, and the workloads that are waited for.
pub type Progress<'a> = &'a (dyn Fn(&str, &[Row]) + Send + Sync);

/// Renders, applies and waits until every workload is ready. Idempotent.
///
/// # Errors
/// When it cannot be rendered or applied, or a stage is not ready in time.
pub async fn up(client: &Client, request: &UpRequest<'_>, progress: Progress<'_>) -> Result<(), StackError> {
    progress("rendering the stack", &[]);
    let mut objects = render(request.kubectl, &request.overlay, request.parts, request.images).await?;
    objects.iter_mut().for_each(|object| let_harness_in(object, &request.harness));
    let (namespaces, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| kind(object) == "Namespace");
    apply(client, &namespaces).await?;
    remember_agent(client, request.images).await?;
    secret::ensure(client).await?;
    // The guide's order is the files' order. Stores, queues and the mesh do not depend on each other and start side by
    // side; the services wait for them.
    let (first, last) = stages(objects, |object| (kind(object).to_owned(), tier(object.labels())));
    let mut applied = BTreeSet::new();
    for stage in [first, last] {
        progress(&format!("applying {} objects", stage.len()), &[]);
        apply(client, &stage).await?;
        applied.extend(stage.iter().filter_map(workload));
        await_ready(client, progress, &applied).await?;
    }
    Ok(())
}

/// Namespace and `Kind/name`, as a row has them.
type Workload = (String, String);

fn workload(object: &DynamicObject) -> Option<Workload> {
    let name = format!("{}/{}", kind(object), object.name_any());
    matches!(kind(object), "Deployment" | "StatefulSet")
        .then(|| (object.namespace().unwrap_or_default(), name))
}

const HARNESS_POLICY: &str = "harness-access";

/// The overlay's policy names a block that stands for this machine's own addresses on the cluster's network.
fn let_harness_in(object: &mut DynamicObject, addresses: &[IpAddr]) {
    if addresses.is_empty() || kind(object) != "NetworkPolicy" || object.name_any() != HARNESS_POLICY {
        return;
    }
    let from: Vec<_> = addresses
        .iter()
        .map(|address| serde_json::json!({ "ipBlock": { "cidr": format!("{address}/32") } }))
        .collect();
    object.data["spec"]["ingress"] = serde_json::json!([{ "from": from }]);
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

async fn await_ready(
    client: &Client,
    progress: Progress<'_>,
    applied: &BTreeSet<Workload>,
) -> Result<(), StackError> {
    let start = Instant::now();
    loop {
        let mut mine = rows(client).await?;
        mine.retain(|row| applied.contains(&(row.namespace.clone(), row.workload.clone())));
        // The API lists a workload as soon as it was applied.
        if mine.len() >= applied.len() && mine.iter().all(Row::is_ready) {
            return Ok(());
        }
        progress("waiting for", &mine);
        if start.elapsed() > STAGE_DEADLINE {
            let waiting: Vec<String> =
                mine.iter().filter(|row| !row.is_ready()).map(Row::to_string).collect();
            let reason =
                culprit(client).await.unwrap_or_else(|| "every pod is ready; the controllers lag".to_owned());
            let waiting = waiting.join(", ");
            return Err(StackError::NotReady { seconds: STAGE_DEADLINE.as_secs(), waiting, reason });
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Runs find the agent's image on the namespace: the stack that stands says which one belongs to it.
const AGENT_ANNOTATION: &str = "mettle.dev/agent-image";

async fn remember_agent(client: &Client, images: &Images) -> Result<(), StackError> {
    let Some(image) = images.get("agent") else {
        return Err(RenderError::NoImage("agent".to_owned()).into());
    };
    let patch = serde_json::json!({ "metadata": { "annotations": { AGENT_ANNOTATION: image } } });
    let namespaces = Api::<Namespace>::all(client.clone());
    let patched = namespaces.patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched
        .map(|_| ())
        .map_err(|error| ClusterError::api(format!("annotate namespace {NAMESPACE}"))(error).into())
}

/// The agent's image; absent when the stack was not brought up by us.
///
/// # Errors
/// When the API does not answer.
pub async fn agent_image(client: &Client) -> Result<Option<String>, ClusterError> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let found = namespaces.get_opt(NAMESPACE).await;
    let found = found.map_err(ClusterError::api(format!("read namespace {NAMESPACE}")))?;
    Ok(found.and_then(|namespace| namespace.annotations().get(AGENT_ANNOTATION).cloned()))
}
