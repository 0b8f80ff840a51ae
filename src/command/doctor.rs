//! `mettle doctor`.

use tokio::task::spawn_blocking;

use crate::cli::{DoctorArgs, Global};
use crate::command::{CommandResult, Failure};
use crate::exit::Exit;
use crate::provider::local::doctor::{self, Health, Item};

pub async fn execute(global: &Global, args: &DoctorArgs) -> CommandResult {
    if args.packages {
        for package in doctor::missing_packages() {
            println!("{package}");
        }
        return Ok(Exit::Pass);
    }
    let items = spawn_blocking(doctor::examine).await.map_err(|error| Failure::new(Exit::Internal, error))?;
    if global.json {
        println!("{:#}", serde_json::json!(items));
    } else {
        items.iter().for_each(print);
    }
    let fit = items.iter().all(|item| item.health != Health::Bad);
    Ok(if fit { Exit::Pass } else { Exit::SetUp })
}

fn print(item: &Item) {
    let mark = match item.health {
        Health::Good => "ok  ",
        Health::Warning => "warn",
        Health::Bad => "BAD ",
    };
    println!("{mark}  {:<9} {}", item.what, item.detail);
    if let Some(step) = &item.next_step {
        println!("      next: {step}");
    }
}
