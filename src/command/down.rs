//! `mettle down`.

use tokio::task::spawn_blocking;

use crate::cli::{DownArgs, Global, ProviderKind};
use crate::command::{CommandResult, Failure, elsewhere, need_root, provider_failure, session, up};
use crate::exit::Exit;
use crate::provider::docker::Flavour;
use crate::provider::error::ProviderError;
use crate::provider::local::{down, layout::Layout};
use crate::provider::progress::Step;

pub async fn execute(global: &Global, args: &DownArgs) -> CommandResult {
    match global.cluster {
        ProviderKind::Local => {}
        ProviderKind::Kind => return elsewhere::take_down(global, args, Flavour::Kind).await,
        ProviderKind::K3d => return elsewhere::take_down(global, args, Flavour::K3d).await,
        ProviderKind::Current => {
            let overlay = up::overlay(global, args.overlay.as_deref());
            return elsewhere::take_off(global, args, &overlay).await;
        }
    }
    need_root("`mettle down`")?;
    let (name, all) = (global.name.clone(), args.all);
    let done = spawn_blocking(move || take_down(&name, all)).await;
    done.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    Ok(Exit::Pass)
}

fn take_down(name: &str, all: bool) -> Result<(), ProviderError> {
    let names = if all { down::names()? } else { vec![name.to_owned()] };
    for name in &names {
        let step = Step::spinner(format!("taking cluster {name} down"));
        let stood = down::down(&Layout::new(name)?)?;
        step.done(if stood { "nothing of it is left" } else { "there was nothing of it" });
        // What its runs changed went with it; a new cluster of that name must not be held up by them.
        if let Err(error) = session::retire_journals(&format!("local/{name}")) {
            eprintln!("mettle: the journals of cluster {name} could not be set aside: {error}");
        }
    }
    Ok(())
}
