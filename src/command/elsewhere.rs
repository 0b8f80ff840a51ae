//! `up`, `down` and `status` where the cluster is not made of our own processes: containers of kind or k3d, or whatever
//! a kubeconfig names.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tabled::builder::Builder;
use tabled::settings::Style;
use tokio::task::spawn_blocking;

use crate::cli::{DownArgs, Global, ProviderKind};
use crate::cluster::{ClusterError, connect, node_info};
use crate::command::{CommandResult, Failure, provider_failure, session};
use crate::exit::Exit;
use crate::provider::ProviderError;
use crate::provider::docker::{self, Flavour, down, status::ClusterStatus, up};
use crate::provider::host::Host;
use crate::provider::images::Image;
use crate::provider::progress::Step;
use crate::stack::{self, Images, Parts, Removal};

const NODES_MAX: u32 = 500;

/// Makes the cluster of containers, and loads the images into it.
pub fn bring_up(flavour: Flavour, name: String, images: Vec<Image>) -> Result<(), ProviderError> {
    let node_image = std::env::var("METTLE_NODE_IMAGE").ok().filter(|image| !image.is_empty());
    let cluster = up::up(&Host::this(), flavour, &up::Options { name, node_image, images })?;
    eprintln!("kubectl --kubeconfig {} get nodes", cluster.kubeconfig.display());
    Ok(())
}

pub async fn take_down(global: &Global, args: &DownArgs, flavour: Flavour) -> CommandResult {
    let (name, all) = (global.name.clone(), args.all);
    let done = spawn_blocking(move || {
        let host = Host::this();
        let names = if all { docker::record::names(&host, flavour)? } else { vec![name] };
        for name in &names {
            let step = Step::spinner(format!("taking {} cluster {name} down", flavour.name()));
            let stood = down::down(&host, flavour, name)?;
            step.done(if stood { "nothing of it is left" } else { "there was nothing of it" });
            if let Err(error) = session::retire_journals(&format!("{}/{name}", flavour.name())) {
                eprintln!("mettle: the journals of cluster {name} could not be set aside: {error}");
            }
        }
        Ok(())
    });
    done.await.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    Ok(Exit::Pass)
}

/// Takes the stack off the cluster of a kubeconfig; never the cluster.
pub async fn take_off(global: &Global, args: &DownArgs, overlay: &Path) -> CommandResult {
    let session = session::open(global).await?;
    session.refuse_unreverted()?;
    let set_up = |error: ClusterError| Failure::new(Exit::SetUp, error);
    let rendered = |error| Failure::new(Exit::SetUp, anyhow::Error::new(error));
    let parts = Parts::default();
    // Only names matter here.
    let names = stack::images(overlay, &parts).map_err(rendered)?;
    let images: Images = names.into_iter().map(|name| (name.clone(), name)).collect();
    let objects =
        stack::render(&PathBuf::from("kubectl"), overlay, &parts, &images).await.map_err(rendered)?;
    let removal = Removal::plan(&session.client, &objects, args.adopt_namespaces).await.map_err(set_up)?;
    let names = removal.names();
    removal.kept.iter().for_each(|kept| eprintln!("mettle: {kept} was there before mettle: it stays"));
    if names.is_empty() {
        eprintln!("mettle: there is nothing that mettle made");
        return Ok(Exit::Pass);
    }
    if !global.yes {
        names.iter().for_each(|name| println!("would remove {name}"));
        let error = anyhow::anyhow!("{} objects would be removed; nothing was", names.len());
        return Err(Failure::new(Exit::Usage, error).hint("--yes removes them, with all data in them"));
    }
    let step = Step::spinner(format!("removing {} objects and what is in them", names.len()));
    removal.carry_out(&session.client).await.map_err(set_up)?;
    step.done("all of them are gone");
    Ok(Exit::Pass)
}

pub async fn show(global: &Global) -> CommandResult {
    let name = global.name.clone();
    let containers = match Flavour::of(global.cluster) {
        None => None,
        Some(flavour) => {
            let not_standing = ProviderError::NotStanding { name: name.clone() };
            let found = spawn_blocking(move || docker::status::status(&Host::this(), flavour, &name)).await;
            let found = found.map_err(|error| Failure::new(Exit::Internal, error))?;
            Some(found.map_err(provider_failure)?.ok_or_else(|| provider_failure(not_standing))?)
        }
    };
    // A cluster of containers whose API is away still has a status; of another there is nothing but its API.
    let api = match &containers {
        Some(containers) => asked(&containers.kubeconfig).await,
        None => {
            let session = session::open(global).await?;
            Some(read(&session.client).await.map_err(|error| Failure::new(Exit::SetUp, error))?)
        }
    };
    let name = containers.as_ref().map_or("current", |containers| containers.name.as_str());
    if global.json {
        println!("{:#}", json!({ "name": name, "containers": containers, "api": api }));
    } else {
        print(name, containers.as_ref(), api.as_ref());
    }
    Ok(Exit::Pass)
}

async fn asked(kubeconfig: &Path) -> Option<Value> {
    read(&connect(kubeconfig).await.ok()?).await.ok()
}

/// Version and nodes; bounded like every call.
async fn read(client: &Client) -> Result<Value, ClusterError> {
    let deadline = std::time::Duration::from_secs(10);
    let asking = async {
        let version =
            client.apiserver_version().await.map_err(ClusterError::api("read the API's version"))?;
        let list = Api::<Node>::all(client.clone()).list(&ListParams::default().limit(NODES_MAX)).await;
        let nodes = list.map_err(ClusterError::api("list nodes"))?.items;
        let nodes: Vec<Value> = nodes.iter().map(node_row).collect();
        Ok(json!({ "kubernetes": version.git_version, "nodes": nodes }))
    };
    let late = |_| ClusterError::Deadline { what: "read the cluster's status".to_owned(), seconds: 10 };
    tokio::time::timeout(deadline, asking).await.map_err(late)?
}

fn node_row(node: &Node) -> Value {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let kubelet = info.map(|info| info.kubelet_version.clone()).unwrap_or_default();
    let mine = node_info(node);
    json!({
        "name": node.name_any(), "ready": mine.ready, "unschedulable": mine.unschedulable, "kubelet": kubelet,
    })
}

fn print(name: &str, containers: Option<&ClusterStatus>, api: Option<&Value>) {
    match api {
        Some(api) => println!("cluster {name}: Kubernetes {}, API ready", text(&api["kubernetes"])),
        None => println!("cluster {name}: API NOT ready"),
    }
    if let Some(containers) = containers {
        println!("kubeconfig {}", containers.kubeconfig.display());
        let mut table = Builder::default();
        table.push_record(["container", "role", "state", "pid"]);
        for member in &containers.members {
            let state = if member.running { "running" } else { "off" };
            let pid = member.pid.map(|pid| pid.to_string()).unwrap_or_default();
            table.push_record([member.name.as_str(), &member.role, state, &pid]);
        }
        println!("{}", table.build().with(Style::blank()));
    }
    let nodes = api.and_then(|api| api["nodes"].as_array());
    let mut table = Builder::default();
    table.push_record(["node", "state", "kubelet"]);
    for node in nodes.into_iter().flatten() {
        let state = match (node["ready"] == true, node["unschedulable"] == true) {
            (false, _) => "not ready",
            (true, true) => "ready, cordoned",
            (true, false) => "ready",
        };
        table.push_record([text(&node["name"]), state, text(&node["kubelet"])]);
    }
    if nodes.is_some() {
        println!("{}", table.build().with(Style::blank()));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Overlay of the stack for a provider, under `stack/overlays`.
#[must_use]
pub fn overlay_of(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Local => "local",
        // Volumes of the cluster's own default class, requests for a larger machine, no address of ours.
        ProviderKind::Kind | ProviderKind::K3d | ProviderKind::Current => "kind",
    }
}
