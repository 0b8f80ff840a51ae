//! Kills processes: once, or again and again those that come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::process::{self, Process};
use crate::say::Evidence;
use crate::work::Work;

/// How long the final report is repeated, so that one who attaches late hears it.
const REPEAT: Duration = Duration::from_secs(3);
/// How long processes that were asked (TERM) to go may take.
const GRACE: Duration = Duration::from_secs(30);
/// The machine's own PID namespace has this number on every Linux (`include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
const OWN_NAME: &str = "mettle-agent";
/// What is remembered of the killed; more than this is counted only.
const KNOWN_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    #[value(name = "KILL")]
    Kill,
    #[value(name = "TERM")]
    Term,
}

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Command name, as in /proc/PID/comm
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    pub process: Option<String>,
    /// Every process of the PID namespace but its process 1 and the agents
    #[arg(long)]
    pub all: bool,
    #[arg(long, value_enum, default_value = "KILL")]
    pub signal: What,
    /// Signal again those that came back, this often, ms; once only when absent
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub every_ms: Option<u64>,
}

pub struct Kill {
    options: Options,
    signalled: Vec<Process>,
    refused: BTreeSet<(i32, &'static str)>,
    last: Instant,
    first: Instant,
    all_gone_since: Option<Instant>,
}

impl Kill {
    pub fn new(options: Options) -> Self {
        let now = Instant::now();
        Self {
            options,
            signalled: Vec::new(),
            refused: BTreeSet::new(),
            last: now,
            first: now,
            all_gone_since: None,
        }
    }

    fn found(&self) -> Vec<Process> {
        let mut found = match &self.options.process {
            Some(name) => process::named(name),
            // Another agent that is killed never undoes what it did.
            None => process::matching(|name| name != OWN_NAME),
        };
        found.retain(|process| !process.is_dead());
        if self.options.all {
            found.retain(|process| process.pid != 1);
        }
        found
    }

    /// Returns whether any was signalled.
    fn signal(&mut self) -> bool {
        let (signal, bit) = match self.options.signal {
            What::Kill => (Signal::SIGKILL, None),
            What::Term => (Signal::SIGTERM, Some(Signal::SIGTERM as u32 - 1)),
        };
        let mut any = false;
        for found in self.found() {
            if found.pid == 1 && !bit.is_some_and(|bit| catches(&caught_by(1), bit)) {
                self.refused.insert((1, "process 1 is protected from this signal inside its namespace"));
                continue;
            }
            // The number may have become another process' since we looked.
            if found.gone() {
                continue;
            }
            match signal::kill(Pid::from_raw(found.pid), signal) {
                Ok(()) => {
                    any = true;
                    if self.signalled.len() < KNOWN_MAX
                        && !self.signalled.iter().any(|known| known.is(&found))
                    {
                        self.signalled.push(found);
                    }
                }
                Err(Errno::ESRCH) => {}
                Err(error) => {
                    self.refused.insert((found.pid, error.desc()));
                }
            }
        }
        self.last = Instant::now();
        any
    }

    fn refusals(&self) -> String {
        let words: Vec<String> =
            self.refused.iter().take(5).map(|(pid, why)| format!("{pid}: {why}")).collect();
        if words.is_empty() { String::new() } else { format!("; not signalled: {}", words.join(", ")) }
    }

    fn gone(&self) -> usize {
        self.signalled.iter().filter(|known| known.gone()).count()
    }

    fn text(&self) -> String {
        let pids = process::numbers(self.signalled.iter().filter(|known| known.gone()));
        format!("{} of {} processes are gone: {pids}{}", self.gone(), self.signalled.len(), self.refusals())
    }
}

impl Work for Kill {
    fn start(&mut self) -> Result<(), String> {
        if self.options.all {
            let own = std::fs::read_link("/proc/self/ns/pid")
                .map_err(|error| format!("failed to read our PID namespace: {error}"))?;
            if own.as_os_str() == INITIAL_PID_NAMESPACE {
                return Err("--all is refused in the machine's own PID namespace".to_owned());
            }
        }
        self.first = Instant::now();
        self.signal();
        if self.signalled.is_empty() {
            let whom = self.options.process.as_ref().map_or("no process is there".to_owned(), |name| {
                if self.refused.is_empty() {
                    format!("no process is named {name}")
                } else {
                    format!("no process named {name} could be signalled")
                }
            });
            return Err(whom + &self.refusals());
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<bool, String> {
        if let Some(every) = self.options.every_ms
            && self.last.elapsed() >= Duration::from_millis(every)
        {
            return Ok(self.signal());
        }
        if self.all_gone_since.is_none() && self.gone() == self.signalled.len() {
            self.all_gone_since = Some(Instant::now());
            return Ok(true);
        }
        Ok(false)
    }

    fn report(&mut self) -> Evidence {
        std::thread::sleep(Duration::from_millis(50));
        if self.gone() == 0 { Evidence::waiting(self.text()) } else { Evidence::effect(self.text()) }
    }

    fn finished(&mut self) -> Option<Result<String, String>> {
        if self.options.every_ms.is_some() {
            return None;
        }
        let longest = if self.options.signal == What::Kill { REPEAT } else { GRACE };
        let over = self.all_gone_since.is_some_and(|since| since.elapsed() >= REPEAT)
            || self.first.elapsed() >= longest + REPEAT;
        over.then(|| match self.gone() {
            0 => Err(format!("the signal killed nothing: {}", self.text())),
            _ => Ok("done".to_owned()),
        })
    }

    /// The dead stay dead; whoever keeps them starts them again.
    fn undo(&mut self) -> Result<String, String> {
        Ok(format!("nothing is signalled any more, {} of {} are gone", self.gone(), self.signalled.len()))
    }
}

fn caught_by(pid: u32) -> String {
    process::status_field(pid, "SigCgt").unwrap_or_default()
}

/// Whether a mask of /proc/PID/status (hexadecimal) has the bit.
fn catches(mask: &str, bit: u32) -> bool {
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::catches;

    #[test]
    fn process_one_is_killed_only_by_what_it_catches() {
        assert!(catches("0000000000004000", 14), "SIGTERM is bit 14");
        assert!(!catches("0000000000003fff", 14));
        assert!(!catches("", 14));
    }
}
