//! The loop that every work runs in: start, look, report each second, end for a reason, and undo whatever happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::say::{Evidence, say};
use crate::switch::{Limits, Switch};

const TICK: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(1);
const UNDO_ATTEMPTS: u32 = 3;

/// One thing that is broken. Making one changes nothing yet.
pub trait Work {
    /// Breaks it. What a failed start left half-done is for `undo` to take back.
    fn start(&mut self) -> Result<(), String>;

    /// Every 200 ms or sooner. True: something changed that is worth a report now.
    fn tick(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    /// What is measured now; asked about every second.
    fn report(&mut self) -> Evidence;

    /// Whether it is over by itself: well, and why; or not, and why.
    fn finished(&mut self) -> Option<Result<String, String>> {
        None
    }

    /// Takes everything back, and says what. May be called again after it failed.
    fn undo(&mut self) -> Result<String, String>;
}

/// Runs until it is time, then undoes. The only way that a work is run.
pub fn run(work: &mut dyn Work, limits: Limits) -> ExitCode {
    let mut switch = match Switch::new(limits) {
        Ok(switch) => switch,
        Err(error) => {
            say("failed", &error);
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = guarded(|| work.start()) {
        let left = undo(work).err().map(|left| format!("; and undoing it: {left}")).unwrap_or_default();
        say("failed", &format!("{error}{left}"));
        return ExitCode::FAILURE;
    }
    let ended = guarded(|| drive(work, &mut switch));
    if let Err(error) = &ended {
        say("failed", error);
    }
    let why = ended.as_ref().map_or("it failed", String::as_str);
    match undo(work) {
        Ok(what) => say("undone", &format!("{what}: {why}")),
        Err(error) => {
            say("failed", &format!("not undone ({why}): {error}"));
            return ExitCode::FAILURE;
        }
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn drive(work: &mut dyn Work, switch: &mut Switch) -> Result<String, String> {
    let mut last_note = String::new();
    let mut reported = Instant::now();
    work.report().say();
    loop {
        if let Some(why) = switch.wait(TICK) {
            return Ok(why.to_owned());
        }
        let now = work.tick().unwrap_or_else(|error| {
            if error != last_note {
                say("note", &error);
                last_note = error;
            }
            false
        });
        // Again and again: the first word may have been said before anybody was attached to hear it.
        if now || reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            work.report().say();
        }
        if let Some(end) = work.finished() {
            return end;
        }
    }
}

/// Nobody comes after us to undo: what fails is tried again.
fn undo(work: &mut dyn Work) -> Result<String, String> {
    let mut result = guarded(|| work.undo());
    for _ in 1..UNDO_ATTEMPTS {
        if result.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
        result = guarded(|| work.undo());
    }
    result
}

/// A bug of ours must not keep the target broken.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a bug in the agent: it panicked".to_owned()))
}
