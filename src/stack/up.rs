//! Stands the stack up: in the guide's order, waiting where the next stage depends on the one before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::time::Instant;

use super::apply::apply;
use super::parts::{Parts, stages, tier};
use super::ready::{Row, culprit, rows};
use super::render::{Images, RenderError, render};
use super::scale::{self, Scaled, Workload};
use super::{NAMESPACE, certificate, ownership, secret};
use crate::cluster::ClusterError;

const TICK: Duration = Duration::from_millis(500);
const ESTABLISHED_DEADLINE: Duration = Duration::from_secs(30);
/// A stage that is not ready by then is told with its reason.
const STAGE_DEADLINE: Duration = Duration::from_secs(420);

#[derive(Debug, Error)]
pub enum StackError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the cluster has what mettle did not make: {0}")]
    Foreign(String),
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
    pub ground: Ground,
}

/// Whose the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    Ours,
    /// Somebody else's: what was there before is not touched, unless it is adopted.
    Shared {
        adopt: bool,
    },
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
    if let Ground::Shared { adopt } = request.ground {
        let foreign = ownership::mark(client, &mut objects).await?;
        if !foreign.is_empty() && !adopt {
            return Err(StackError::Foreign(foreign.join(", ")));
        }
    }
    let (namespaces, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| kind(object) == "Namespace");
    apply(client, &namespaces).await?;
    remember_agent(client, request.images).await?;
    secret::ensure(client).await?;
    certificate::ensure(client).await?;
    // The guide's order is the files' order. Stores, queues and the mesh do not depend on each other and start side by
    // side; the services wait for them.
    let (definitions, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| kind(object) == "CustomResourceDefinition");
    apply(client, &definitions).await?;
    await_established(client, &definitions).await?;
    let (first, last) = stages(objects, |object| (kind(object).to_owned(), tier(object.labels())));
    let scaled: Scaled = first.iter().chain(&last).filter_map(scale::bounds).collect();
    let mut applied = BTreeMap::new();
    for mut stage in [first, last] {
        progress(&format!("applying {} objects", stage.len()), &[]);
        scale::keep_all(client, &mut stage, &scaled).await?;
        apply(client, &stage).await?;
        applied.extend(stage.iter().filter_map(scale::workload).map(|workload| (workload, 0)));
        // Until an autoscaler has acted, the workload asks for fewer than it will have.
        for (workload, wants) in stage.iter().filter_map(scale::bounds) {
            applied.entry(workload).and_modify(|known| *known = *wants.start());
        }
        await_ready(client, progress, &applied).await?;
    }
    Ok(())
}

/// The API serves a new kind a moment after it accepted its definition.
async fn await_established(client: &Client, definitions: &[DynamicObject]) -> Result<(), StackError> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let deadline = Instant::now() + ESTABLISHED_DEADLINE;
    for name in definitions.iter().map(ResourceExt::name_any) {
        loop {
            let found = api.get_opt(&name).await.map_err(ClusterError::api(format!("read {name}")))?;
            let conditions = found.and_then(|definition| definition.status?.conditions).unwrap_or_default();
            if conditions.iter().any(|one| one.type_ == "Established" && one.status == "True") {
                break;
            }
            if Instant::now() >= deadline {
                let what = format!("establish the kind {name}");
                return Err(ClusterError::Deadline { what, seconds: ESTABLISHED_DEADLINE.as_secs() }.into());
            }
            tokio::time::sleep(TICK).await;
        }
    }
    Ok(())
}

pub(super) const HARNESS_POLICY: &str = "harness-access";

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
    applied: &BTreeMap<Workload, i32>,
) -> Result<(), StackError> {
    let start = Instant::now();
    loop {
        let mut mine = rows(client).await?;
        mine.retain_mut(|row| {
            let least = applied.get(&(row.namespace.clone(), row.workload.clone()));
            row.desired = row.desired.max(least.copied().unwrap_or(0));
            least.is_some()
        });
        progress("waiting for", &mine);
        // The API lists a workload as soon as it was applied.
        if mine.len() >= applied.len() && mine.iter().all(Row::is_ready) {
            return Ok(());
        }
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
