//! `mettle revert`: undoes what an interrupted run left behind.

use std::path::Path;

use crate::cli::{Global, RevertArgs};
use crate::command::{CommandResult, Failure, session};
use crate::exit::Exit;
use crate::run::{Journal, LiveWorld, Recorder, RunClock, World, find_unreverted, revert_all};

pub async fn execute(global: &Global, args: &RevertArgs) -> CommandResult {
    if let Some(journal) = args.journal.as_ref().filter(|journal| !journal.is_file()) {
        let error = anyhow::anyhow!("there is no journal {}", journal.display());
        return Err(Failure::new(Exit::Usage, error).hint("without --journal every open journal is reverted"));
    }
    let session = session::open(global).await?;
    let set_up = |error: crate::run::JournalError| Failure::new(Exit::SetUp, error);
    let journals = match &args.journal {
        Some(journal) => vec![journal.clone()],
        None => find_unreverted(&session.journals).map_err(set_up)?,
    };
    let world = session.world().await?;
    let mut open = 0;
    for journal in &journals {
        open += revert_one(&world, journal).await?;
    }
    sweep(&session.journals);
    let residue = world.residue().await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    if global.json {
        println!("{}", serde_json::json!({ "journals": journals.len(), "open": open, "residue": residue }));
    } else {
        residue.iter().for_each(|left| println!("residue: {left}"));
        if journals.is_empty() && residue.is_empty() {
            println!("nothing to revert");
        }
    }
    Ok(if open == 0 && residue.is_empty() { Exit::Pass } else { Exit::RevertIncomplete })
}

/// Files of the traffic of rehearsals that were killed: nobody reads them.
fn sweep(journals: &Path) {
    for entry in std::fs::read_dir(journals).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.to_string_lossy().ends_with(super::rehearse::LOAD_FILES) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// How many changes stay open.
async fn revert_one(world: &LiveWorld, path: &Path) -> Result<usize, Failure> {
    let set_up = |error| Failure::new(Exit::SetUp, anyhow::Error::new(error));
    let mut journal = Journal::open(path, None).map_err(set_up)?;
    let recorder = Recorder::in_memory(RunClock::start());
    eprintln!("mettle: reverting {}", path.display());
    let reverted = revert_all(world, &mut journal, &recorder).await.map_err(set_up)?;
    reverted.undone.iter().for_each(|how| eprintln!("mettle:   {how}"));
    reverted.open.iter().for_each(|why| eprintln!("mettle:   not reverted: {why}"));
    Ok(reverted.open.len())
}
