//! Stops every process of one name and keeps those stopped that appear later; continues all of them at the end.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{self, Process};
use crate::say::Evidence;
use crate::work::Work;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Command name, as in /proc/PID/comm
    #[arg(long)]
    pub process: String,
}

pub struct Pause {
    options: Options,
    stopped: Vec<Process>,
}

impl Pause {
    pub fn new(options: Options) -> Self {
        Self { options, stopped: Vec::new() }
    }

    fn stop_new(&mut self) -> Result<(), String> {
        let name = &self.options.process;
        for found in process::named(name) {
            if self.stopped.iter().any(|known| known.is(&found)) {
                continue;
            }
            // Process 1 of its namespace cannot be stopped from inside: the kernel ignores the signal.
            kill(Pid::from_raw(found.pid), Signal::SIGSTOP)
                .map_err(|error| format!("failed to stop process {} ({name}): {error}", found.pid))?;
            self.stopped.push(found);
        }
        Ok(())
    }
}

impl Work for Pause {
    fn start(&mut self) -> Result<(), String> {
        self.stop_new()?;
        if self.stopped.is_empty() {
            return Err(format!("no process is named {}", self.options.process));
        }
        Ok(())
    }

    /// One that cannot be stopped any more must not keep the others from being continued.
    fn tick(&mut self) -> Result<bool, String> {
        let before = self.stopped.len();
        self.stop_new()?;
        Ok(self.stopped.len() > before)
    }

    /// What the kernel says of them, not what we asked for.
    fn report(&mut self) -> Evidence {
        std::thread::sleep(Duration::from_millis(50));
        let in_t =
            self.stopped.iter().filter(|known| known.now().is_some_and(|now| now.state == 'T')).count();
        let pids = process::numbers(self.stopped.iter());
        let text = format!("{in_t} of {} processes are in state T: {pids}", self.stopped.len());
        if in_t == 0 { Evidence::failed(text) } else { Evidence::effect(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        let mut continued = 0;
        let mut left = Vec::new();
        for known in self.stopped.iter().filter(|known| known.now().is_some()) {
            match kill(Pid::from_raw(known.pid), Signal::SIGCONT) {
                Ok(()) => continued += 1,
                Err(error) if known.now().is_some() => left.push(format!("{}: {error}", known.pid)),
                Err(_) => {}
            }
        }
        if !left.is_empty() {
            return Err(format!("failed to continue processes: {}", left.join(", ")));
        }
        Ok(format!("{continued} of {} processes", self.stopped.len()))
    }
}
