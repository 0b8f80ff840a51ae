//! `mettle internal`.

use std::path::Path;

use crate::cli::Internal;
use crate::command::{CommandResult, Failure, provider_failure};
use crate::exit::Exit;
use crate::load;
use crate::provider::local::{netpol, supervise};

pub fn execute(internal: &Internal) -> CommandResult {
    match internal {
        Internal::Supervise { spec } => {
            supervise::supervise(spec).map_err(provider_failure)?;
            Ok(Exit::Pass)
        }
        Internal::Load { spec } => match load::run_child(spec) {
            Ok(_) => Ok(Exit::Pass),
            Err(error) => Err(Failure::new(Exit::SetUp, error)),
        },
        Internal::Netpol { kubeconfig, node, nft } => enforce_policies(kubeconfig, node, nft),
    }
}

fn enforce_policies(kubeconfig: &Path, node: &str, nft: &Path) -> CommandResult {
    let options = netpol::run::Options {
        kubeconfig: kubeconfig.to_owned(),
        node: node.to_owned(),
        nft: nft.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    runtime.block_on(netpol::run::run(&options)).map_err(|error| Failure::new(Exit::SetUp, error))?;
    Ok(Exit::Pass)
}
