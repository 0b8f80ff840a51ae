//! `mettle up`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::task::spawn_blocking;

use crate::cli::{Global, ProviderKind, UpArgs, UpOnly};
use crate::command::tree::Tree;
use crate::command::{CommandResult, Failure, elsewhere, files, need_root, provider_failure, session};
use crate::exit::Exit;
use crate::provider::docker::{Flavour, engine};
use crate::provider::error::ProviderError;
use crate::provider::host::Host;
use crate::provider::images::{Image, Request, ensure_images};
use crate::provider::local::layout::Layout;
use crate::provider::local::up::{self, Options};
use crate::provider::push::push;
use crate::provider::statics;
use crate::stack::{self, Ground, Images, Parts, StackError, UpRequest};

/// Carried by no manifest: faults put it beside their targets.
const AGENT: &str = "agent";

pub async fn execute(global: &Global, args: &UpArgs) -> CommandResult {
    if args.only != Some(UpOnly::Stack) {
        match global.cluster {
            ProviderKind::Local => local_up(global, args).await?,
            ProviderKind::Kind | ProviderKind::K3d => containers_up(global, args).await?,
            ProviderKind::Current if args.only.is_some() => {
                let error = anyhow::anyhow!("--only makes a cluster, and --cluster current has one already");
                return Err(Failure::new(Exit::Usage, error)
                    .hint("`mettle up --cluster current` applies the stack to the kubeconfig's cluster"));
            }
            ProviderKind::Current => {}
        }
    }
    match args.only {
        Some(UpOnly::Cluster | UpOnly::Cache) => Ok(Exit::Pass),
        None | Some(UpOnly::Stack) => stack_up(global, args).await,
    }
}

async fn local_up(global: &Global, args: &UpArgs) -> Result<(), Failure> {
    need_root("`mettle up`")?;
    let with_stack = args.only != Some(UpOnly::Cluster);
    let images = if with_stack { requests(global, args)? } else { Vec::new() };
    let options = Options { name: global.name.clone(), bin_dir: args.bin_dir.clone(), images };
    let cache_only = args.only == Some(UpOnly::Cache);
    blocking(move || bring_up(&options, cache_only)).await
}

fn bring_up(options: &Options, cache_only: bool) -> Result<(), ProviderError> {
    if cache_only {
        return up::prepare(options).map(drop);
    }
    let cluster = up::up(options)?;
    eprintln!("kubectl --kubeconfig {} get nodes", cluster.kubeconfig.display());
    Ok(())
}

async fn containers_up(global: &Global, args: &UpArgs) -> Result<(), Failure> {
    let Some(flavour) = Flavour::of(global.cluster) else { return Ok(()) };
    let with_stack = args.only != Some(UpOnly::Cluster);
    let wanted = if with_stack { requests(global, args)? } else { Vec::new() };
    let (name, cache_only) = (global.name.clone(), args.only == Some(UpOnly::Cache));
    blocking(move || {
        // What is missing is told before anything is built for half an hour.
        if !cache_only {
            engine::require(&Host::this(), flavour)?;
        }
        let images = if wanted.is_empty() { Vec::new() } else { built(&wanted)?.into_values().collect() };
        if cache_only { Ok(()) } else { elsewhere::bring_up(flavour, name, images) }
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> Result<T, Failure> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)
}

async fn stack_up(global: &Global, args: &UpArgs) -> CommandResult {
    let supply = supply(global, args)?;
    let session = session::open(global).await?;
    let wanted = requests(global, args)?;
    let images = blocking(move || stack_images(&wanted, &supply)).await?;
    let kubectl = match global.cluster {
        ProviderKind::Local => Layout::new(&global.name).map_err(provider_failure)?.bin().join("kubectl"),
        _ => PathBuf::from("kubectl"),
    };
    let harness = [session.handle.harness_source, session.handle.service_source];
    let request = UpRequest {
        kubectl: &kubectl,
        overlay: overlay(global, args.overlay.as_deref()),
        parts: &Parts::named(&args.components),
        images: &images,
        harness: harness.into_iter().flatten().collect(),
        ground: match global.cluster {
            ProviderKind::Current => Ground::Shared { adopt: args.adopt_namespaces },
            _ => Ground::Ours,
        },
    };
    let tree = Tree::new();
    let done = stack::up(&session.client, &request, &|text, rows| tree.show(text, rows)).await;
    let seconds = tree.finish();
    done.map_err(stack_failure)?;
    eprintln!("the stack is ready: {seconds:.1} s");
    Ok(Exit::Pass)
}

fn stack_failure(error: StackError) -> Failure {
    match &error {
        StackError::Foreign(_) => Failure::new(Exit::Usage, error).hint(
            "nothing was changed; --adopt-namespaces puts the stack there all the same, and `down` leaves them",
        ),
        _ => Failure::new(Exit::SetUp, error)
            .hint("`mettle status` shows what stands; `mettle up` goes on where it stopped"),
    }
}

/// How images come to the nodes.
enum Supply {
    /// They are on the nodes, put there by us or by somebody else.
    Loaded,
    /// Pushed there by us, pulled from there by the nodes.
    Registry(String),
}

fn supply(global: &Global, args: &UpArgs) -> Result<Supply, Failure> {
    match (&args.registry, args.preloaded) {
        (Some(registry), _) => Ok(Supply::Registry(registry.clone())),
        (None, preloaded) if preloaded || global.cluster != ProviderKind::Current => Ok(Supply::Loaded),
        (None, _) => {
            let error = anyhow::anyhow!("nothing brings the images to the nodes of a kubeconfig's cluster");
            Err(Failure::new(Exit::Usage, error).hint(
                "--registry PREFIX pushes them to a registry that the nodes pull from; --preloaded when the nodes have them",
            ))
        }
    }
}

/// A directory, or the name of one under `stack/overlays`; the provider's own when none is given.
pub fn overlay(global: &Global, given: Option<&str>) -> PathBuf {
    let given = given.unwrap_or(elsewhere::overlay_of(global.cluster));
    let directory = PathBuf::from(given);
    if directory.is_dir() { directory } else { files::home().join("stack/overlays").join(given) }
}

/// The images of the wanted part of the stack, and the agent's.
fn requests(global: &Global, args: &UpArgs) -> Result<Vec<Request>, Failure> {
    let overlay = overlay(global, args.overlay.as_deref());
    let mut names = stack::images(&overlay, &Parts::named(&args.components)).map_err(|error| {
        Failure::new(Exit::Usage, error).hint("`mettle up --help` says what --components takes")
    })?;
    names.push(AGENT.to_owned());
    Ok(names.iter().map(|name| statics::request(name)).collect())
}

fn built(requests: &[Request]) -> Result<BTreeMap<String, Image>, ProviderError> {
    statics::ensure(requests)?;
    ensure_images(requests)
}

fn stack_images(requests: &[Request], supply: &Supply) -> Result<Images, ProviderError> {
    let (names, images): (Vec<String>, Vec<Image>) = built(requests)?.into_iter().unzip();
    let references = match supply {
        Supply::Loaded => images.into_iter().map(|image| image.reference).collect(),
        Supply::Registry(registry) => push(&Host::this(), &images, registry)?,
    };
    Ok(names.into_iter().zip(references).collect())
}
