//! `mettle up`.

use std::path::PathBuf;

use tokio::task::spawn_blocking;

use crate::cli::{Global, ProviderKind, UpArgs, UpOnly};
use crate::command::tree::Tree;
use crate::command::{CommandResult, Failure, files, need_root, provider_failure, session};
use crate::exit::Exit;
use crate::provider::error::ProviderError;
use crate::provider::images::{Request, ensure_images};
use crate::provider::local::layout::Layout;
use crate::provider::local::up::{self, Options};
use crate::provider::statics;
use crate::stack::{self, Images, Parts, UpRequest};

/// Carried by no manifest: faults put it beside their targets.
const AGENT: &str = "agent";

pub async fn execute(global: &Global, args: &UpArgs) -> CommandResult {
    if global.cluster == ProviderKind::Local && args.only != Some(UpOnly::Stack) {
        need_root("`mettle up`")?;
        let with_stack = args.only != Some(UpOnly::Cluster);
        let images = if with_stack { requests(args)? } else { Vec::new() };
        let options = Options { name: global.name.clone(), bin_dir: args.bin_dir.clone(), images };
        let cache_only = args.only == Some(UpOnly::Cache);
        let done = spawn_blocking(move || bring_up(&options, cache_only)).await;
        done.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    }
    match args.only {
        Some(UpOnly::Cluster | UpOnly::Cache) if global.cluster != ProviderKind::Local => {
            let error = anyhow::anyhow!(
                "--only is for --cluster local: the other providers' clusters are not made by mettle yet"
            );
            Err(Failure::new(Exit::Usage, error)
                .hint("`mettle up --cluster current` applies the stack to the kubeconfig's cluster"))
        }
        Some(UpOnly::Cluster | UpOnly::Cache) => Ok(Exit::Pass),
        None | Some(UpOnly::Stack) => stack_up(global, args).await,
    }
}

fn bring_up(options: &Options, cache_only: bool) -> Result<(), ProviderError> {
    if cache_only {
        return up::prepare(options).map(drop);
    }
    let cluster = up::up(options)?;
    eprintln!("kubectl --kubeconfig {} get nodes", cluster.kubeconfig.display());
    Ok(())
}

async fn stack_up(global: &Global, args: &UpArgs) -> CommandResult {
    let session = session::open(global).await?;
    let wanted = requests(args)?;
    let images = spawn_blocking(move || stack_images(&wanted)).await;
    let images = images.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    let kubectl = match global.cluster {
        ProviderKind::Local => Layout::new(&global.name).map_err(provider_failure)?.bin().join("kubectl"),
        _ => PathBuf::from("kubectl"),
    };
    let harness = [session.handle.harness_source, session.handle.service_source];
    let request = UpRequest {
        kubectl: &kubectl,
        overlay: overlay(&args.overlay),
        parts: &Parts::named(&args.components),
        images: &images,
        harness: harness.into_iter().flatten().collect(),
    };
    let tree = Tree::new();
    let done = stack::up(&session.client, &request, &|text, rows| tree.show(text, rows)).await;
    let seconds = tree.finish();
    done.map_err(|error| {
        Failure::new(Exit::SetUp, error)
            .hint("`mettle status` shows what stands; `mettle up` goes on where it stopped")
    })?;
    eprintln!("the stack is ready: {seconds:.1} s");
    Ok(Exit::Pass)
}

/// A directory, or the name of one under `stack/overlays`.
fn overlay(given: &str) -> PathBuf {
    let directory = PathBuf::from(given);
    if directory.is_dir() { directory } else { files::home().join("stack/overlays").join(given) }
}

/// The images of the wanted part of the stack, and the agent's.
fn requests(args: &UpArgs) -> Result<Vec<Request>, Failure> {
    let overlay = overlay(&args.overlay);
    let mut names = stack::images(&overlay, &Parts::named(&args.components)).map_err(|error| {
        Failure::new(Exit::Usage, error).hint("`mettle up --help` says what --components takes")
    })?;
    names.push(AGENT.to_owned());
    Ok(names.iter().map(|name| statics::request(name)).collect())
}

fn stack_images(requests: &[Request]) -> Result<Images, ProviderError> {
    statics::ensure(requests)?;
    let built = ensure_images(requests)?;
    Ok(built.into_iter().map(|(name, image)| (name, image.reference)).collect())
}
