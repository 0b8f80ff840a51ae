//! `mettle node`.

use tokio::task::spawn_blocking;

use crate::cli::{Global, NodeAction, NodeArgs};
use crate::command::{CommandResult, Failure, provider_failure};
use crate::exit::Exit;
use crate::provider::error::ProviderError;
use crate::provider::power::{self, NodeState};
use crate::provider::{ClusterHandle, open};

pub async fn execute(global: &Global, args: &NodeArgs) -> CommandResult {
    let (kind, name, json) = (global.cluster, global.name.clone(), global.json);
    let action = args.action.clone();
    let done = spawn_blocking(move || act(&open(kind, &name)?, &action, json)).await;
    done.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    Ok(Exit::Pass)
}

fn act(cluster: &ClusterHandle, action: &NodeAction, json: bool) -> Result<(), ProviderError> {
    match action {
        NodeAction::Kill { node } => power::kill(cluster, node),
        NodeAction::Start { node } => power::start(cluster, node),
        NodeAction::List => {
            let states = cluster.nodes.iter().map(|name| Ok((name.clone(), power::state(cluster, name)?)));
            let states: Vec<(String, NodeState)> = states.collect::<Result<_, ProviderError>>()?;
            print(&states, json);
            Ok(())
        }
    }
}

fn print(states: &[(String, NodeState)], json: bool) {
    if json {
        let list: Vec<_> =
            states.iter().map(|(name, state)| serde_json::json!({ "name": name, "state": state })).collect();
        println!("{:#}", serde_json::Value::from(list));
        return;
    }
    for (name, state) in states {
        let state = if *state == NodeState::On { "on" } else { "off" };
        println!("{name}  {state}");
    }
}
