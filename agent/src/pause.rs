//! Stops every process of one name and keeps those stopped that appear later; continues all of them at the end.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{self, Process};
use crate::say;
use crate::switch::{Limits, Switch};

const TICK: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Runs until the switch says that it is time, then undoes.
pub fn run(name: &str, limits: Limits) -> Result<(), String> {
    let mut switch = Switch::new(limits);
    let mut stopped: Vec<Process> = Vec::new();
    stop_new(name, &mut stopped)?;
    if stopped.is_empty() {
        return Err(format!("no process is named {name}"));
    }
    let mut reported = Instant::now();
    report(&stopped);
    let why = loop {
        if let Some(why) = switch.wait(TICK) {
            break why;
        }
        let before = stopped.len();
        // Again and again: the first word may have been said before anybody was attached to hear it.
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report(&stopped);
        }
        // One that cannot be stopped any more must not keep the others from being continued.
        if let Err(error) = stop_new(name, &mut stopped) {
            say("note", &error);
        }
        if stopped.len() > before {
            report(&stopped);
        }
    };
    let continued = resume(&stopped);
    say("resumed", &format!("{continued} of {} processes: {why}", stopped.len()));
    Ok(())
}

fn stop_new(name: &str, stopped: &mut Vec<Process>) -> Result<(), String> {
    for found in process::named(name) {
        if stopped.iter().any(|known| known.pid == found.pid && known.started == found.started) {
            continue;
        }
        // Process 1 of its namespace cannot be stopped from inside: the kernel ignores the signal.
        kill(Pid::from_raw(found.pid), Signal::SIGSTOP)
            .map_err(|error| format!("failed to stop process {} ({name}): {error}", found.pid))?;
        stopped.push(found);
    }
    Ok(())
}

/// What the kernel says of them, not what we asked for.
fn report(stopped: &[Process]) {
    std::thread::sleep(Duration::from_millis(50));
    let in_t = stopped.iter().filter(|known| alive(known).is_some_and(|now| now.state == 'T')).count();
    let pids: Vec<String> = stopped.iter().take(50).map(|known| known.pid.to_string()).collect();
    let event = if in_t == 0 { "failed" } else { "stopped" };
    say(event, &format!("{in_t} of {} processes are in state T: {}", stopped.len(), pids.join(" ")));
}

/// Absent when it is gone, or its number is another process' now.
fn alive(known: &Process) -> Option<Process> {
    process::read(known.pid).filter(|now| now.started == known.started)
}

fn resume(stopped: &[Process]) -> usize {
    let living = stopped.iter().filter(|known| alive(known).is_some());
    living.filter(|known| kill(Pid::from_raw(known.pid), Signal::SIGCONT).is_ok()).count()
}
