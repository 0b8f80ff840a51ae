//! `mettle revert`: undoes what an interrupted run left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::{Global, RevertArgs};
use crate::command::{CommandResult, Failure, drill, provider_failure, session};
use crate::exit::Exit;
use crate::model::{OnConflict, StoreRestore, Undo};
use crate::provider;
use crate::run::{
    Journal, JournalError, LiveWorld, Recorder, Reverted, RunClock, World, find_unreverted, open_changes,
    revert_all,
};

pub async fn execute(global: &Global, args: &RevertArgs) -> CommandResult {
    if let Some(journal) = args.journal.as_ref().filter(|journal| !journal.is_file()) {
        let error = anyhow::anyhow!("there is no journal {}", journal.display());
        return Err(Failure::new(Exit::Usage, error).hint("without --journal every open journal is reverted"));
    }
    let on_conflict = match (args.force, args.abandon) {
        (true, _) => OnConflict::Overwrite,
        (false, true) => OnConflict::Accept,
        (false, false) => OnConflict::Tell,
    };
    let journals = match &args.journal {
        Some(journal) => vec![journal.clone()],
        None => find_unreverted(&session::journals_of(global)).map_err(set_up)?,
    };
    let undos = undos(&journals)?;
    resume_servers(global, &undos).await?;
    let session = session::open(global).await?;
    let world = session.world().await?;
    let mut open = 0;
    let mut conflict = false;
    for journal in &journals {
        let reverted = revert_one(&world, journal, on_conflict).await?;
        open += reverted.open.len();
        conflict |= reverted.has_conflict();
    }
    sweep(&session.journals);
    if open == 0 {
        drill::clear_after(&session, &restores(&undos)).await;
    }
    let residue = world.residue().await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    if global.json {
        println!("{}", serde_json::json!({ "journals": journals.len(), "open": open, "residue": residue }));
    } else {
        residue.iter().for_each(|left| println!("residue: {left}"));
        if journals.is_empty() && residue.is_empty() {
            println!("nothing to revert");
        }
    }
    if conflict {
        eprintln!(
            "hint: `mettle revert --force` puts back what was before the fault, `--abandon` leaves what is there now"
        );
    }
    Ok(if open == 0 && residue.is_empty() { Exit::Pass } else { Exit::RevertIncomplete })
}

/// What is open in them.
fn undos(journals: &[PathBuf]) -> Result<Vec<Undo>, Failure> {
    let mut undos = Vec::new();
    for journal in journals {
        undos.extend(open_changes(journal).map_err(set_up)?.into_iter().map(|change| change.undo));
    }
    Ok(undos)
}

fn restores(undos: &[Undo]) -> Vec<StoreRestore> {
    let restore = undos.iter().filter_map(|undo| match undo {
        Undo::RestoreStore { restore } => Some(restore.clone()),
        _ => None,
    });
    restore.collect()
}

/// A run that died may have left the API server stopped: it is resumed before anybody asks it anything. What was stopped
/// stays open in the journal, and is reverted with the rest.
async fn resume_servers(global: &Global, undos: &[Undo]) -> Result<(), Failure> {
    let parts: BTreeSet<_> = undos
        .iter()
        .filter_map(|undo| match undo {
            Undo::ResumeControlPlane { part } => Some(*part),
            _ => None,
        })
        .collect();
    if parts.is_empty() {
        return Ok(());
    }
    let (kind, name) = (global.cluster, global.name.clone());
    let resumed = tokio::task::spawn_blocking(move || {
        let handle = provider::open(kind, &name)?;
        parts.into_iter().try_for_each(|part| provider::power::resume(&handle, part))
    });
    let resumed = resumed.await.map_err(|error| Failure::new(Exit::Internal, error))?;
    resumed.map_err(provider_failure)
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

async fn revert_one(world: &LiveWorld, path: &Path, on_conflict: OnConflict) -> Result<Reverted, Failure> {
    let mut journal = Journal::open(path, None).map_err(set_up)?;
    let recorder = Recorder::in_memory(RunClock::start());
    eprintln!("mettle: reverting {}", path.display());
    // A restore takes minutes: what is going on is told before it is over.
    open_changes(path)
        .map_err(set_up)?
        .iter()
        .for_each(|open| eprintln!("mettle:   {} …", open.undo.describe()));
    let reverted = revert_all(world, &mut journal, &recorder, on_conflict).await.map_err(set_up)?;
    reverted.undone.iter().for_each(|how| eprintln!("mettle:   {how}"));
    reverted.open.iter().for_each(|why| eprintln!("mettle:   not reverted: {why}"));
    Ok(reverted)
}

fn set_up(error: JournalError) -> Failure {
    Failure::new(Exit::SetUp, error)
}
