//! Undoes what a journal holds open. The same code after a normal end, a failure, a panic, a stop,
//! and `mettle revert` after a crash: last change first, idempotent, retried, with its own deadline.

use std::time::Duration;

use tokio::time::Instant;

use super::{Entry, Journal, JournalError, OpenChange, Recorder, Undone, World, open_changes};
use crate::cluster::chain;
use crate::model::{Fact, OnConflict};

/// One undo, waits for readiness included.
const UNDO_DEADLINE: Duration = Duration::from_secs(180);
/// A store that is made again from its backup: the Job, and the members that copy from the first.
const RESTORE_DEADLINE: Duration = Duration::from_secs(1500);
/// A server that was started again is not ready at once: half a minute in all.
const TRIES: u32 = 7;
const BACK_OFF: Duration = Duration::from_millis(500);

/// How the word on an undo begins that must not overwrite what somebody else did.
const CONFLICT: &str = "conflict: ";

/// What a revert left: both empty is the only good value.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Undone now, for people.
    pub undone: Vec<String>,
    /// Still open in the journal.
    pub open: Vec<String>,
}

impl Reverted {
    /// Somebody else changed since what was to be put back: only a person can decide that.
    #[must_use]
    pub fn has_conflict(&self) -> bool {
        self.open.iter().any(|why| why.contains(CONFLICT))
    }
}

/// One undo that was tried: how it went, or why it is not done.
pub(super) struct Undo {
    open: OpenChange,
    how: Result<String, String>,
}

/// Reverts every open change of the journal.
///
/// # Errors
/// When the journal cannot be read. An undo that fails, or that the journal does not take, is no error: it
/// is in `open`, and the others are still undone.
pub async fn revert_all<W: World>(
    world: &W,
    journal: &mut Journal,
    recorder: &Recorder,
    on_conflict: OnConflict,
) -> Result<Reverted, JournalError> {
    let mut reverted = Reverted::default();
    let mut open = open_changes(journal.path())?;
    // Last first, but before all the servers that the others are undone through, and after all what only waits.
    open.sort_by_key(|open| (!open.undo.comes_first(), open.undo.only_waits()));
    for open in open {
        match settle(journal, recorder, undo(world, open, on_conflict).await).await {
            Ok(how) => reverted.undone.push(how),
            Err(why) => reverted.open.push(why),
        }
    }
    if reverted.open.is_empty()
        && let Err(error) = journal.append(&Entry::Closed).await
    {
        // Nothing is open any more: only the mark that says so is missing.
        recorder.note(chain(&error));
    }
    Ok(reverted)
}

/// Writes down how an undo went; `Err` says what is still open.
pub(super) async fn settle(
    journal: &mut Journal,
    recorder: &Recorder,
    Undo { open, how }: Undo,
) -> Result<String, String> {
    let sequence = open.sequence;
    let failed = match how {
        Ok(how) => match journal.append(&Entry::Reverted { sequence, how: how.clone() }).await {
            Ok(()) => {
                recorder.record(Fact::ChangeReverted { sequence, text: how.clone() });
                return Ok(how);
            }
            Err(error) => format!("{how}, but the journal does not say so: {}", chain(&error)),
        },
        Err(why) => why,
    };
    recorder.note(format!("change {sequence} is not reverted: {failed}"));
    Err(format!("{}: {failed}", open.undo.describe()))
}

pub(super) async fn undo<W: World>(world: &W, open: OpenChange, on_conflict: OnConflict) -> Undo {
    let how = try_undo(world, &open, on_conflict).await;
    Undo { open, how }
}

async fn try_undo<W: World>(world: &W, open: &OpenChange, on_conflict: OnConflict) -> Result<String, String> {
    let deadline = match open.undo {
        crate::model::Undo::RestoreStore { .. } => RESTORE_DEADLINE,
        _ => UNDO_DEADLINE,
    };
    let end = Instant::now() + deadline;
    let mut why = String::from("never tried");
    for attempt in 0..TRIES {
        match tokio::time::timeout_at(end, world.undo(&open.undo, on_conflict)).await {
            Ok(Ok(Undone::Reverted(how) | Undone::AlreadyClean(how))) => return Ok(how),
            // Somebody else's object now: not ours to restore, and a person must know.
            Ok(Ok(Undone::Conflict(text))) => return Err(format!("{CONFLICT}{text}")),
            Ok(Err(error)) => why = error.chain(),
            Err(_) => return Err(format!("not done within {} s; last: {why}", deadline.as_secs())),
        }
        if attempt + 1 < TRIES {
            tokio::time::sleep(BACK_OFF * 2u32.pow(attempt)).await;
        }
    }
    Err(why)
}
