//! Busy threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::say::Evidence;
use crate::work::Work;

const WORKERS_MAX: usize = 1024;
/// Less than this (cores) is what the reporting itself costs.
const IDLE_CORES: f64 = 0.05;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Busy threads; 0: one for each CPU that the agent may use
    #[arg(long)]
    pub workers: usize,
}

pub struct Cpu {
    options: Options,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    since: (Instant, f64),
}

impl Cpu {
    pub fn new(options: Options) -> Self {
        let since = (Instant::now(), 0.0);
        Self { options, stop: Arc::new(AtomicBool::new(false)), threads: Vec::new(), since }
    }
}

impl Work for Cpu {
    fn start(&mut self) -> Result<(), String> {
        let wanted = match self.options.workers {
            0 => std::thread::available_parallelism()
                .map_err(|error| format!("failed to count the CPUs: {error}"))?
                .get(),
            workers => workers,
        };
        if wanted > WORKERS_MAX {
            return Err(format!("{wanted} workers are more than {WORKERS_MAX}"));
        }
        self.since = (Instant::now(), used_seconds()?);
        for _ in 0..wanted {
            let stop = Arc::clone(&self.stop);
            let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || burn(&stop));
            self.threads.push(thread.map_err(|error| format!("failed to start a worker: {error}"))?);
        }
        // The first report has something to measure then.
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }

    fn report(&mut self) -> Evidence {
        let used = match used_seconds() {
            Ok(used) => used,
            Err(error) => return Evidence::failed(error),
        };
        let now = Instant::now();
        let elapsed = now.duration_since(self.since.0).as_secs_f64().max(0.001);
        let cores = (used - self.since.1) / elapsed;
        self.since = (now, used);
        let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok();
        let pressure =
            pressure.as_deref().and_then(some_avg10).map(|avg10| format!("; pressure some avg10={avg10}"));
        let text =
            format!("{} workers use {cores:.2} cores{}", self.threads.len(), pressure.unwrap_or_default());
        if cores > IDLE_CORES { Evidence::effect(text) } else { Evidence::failed(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.threads.len();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| "a worker panicked".to_owned())?;
        }
        Ok(format!("{count} workers stopped"))
    }
}

fn burn(stop: &AtomicBool) {
    let mut value = 1u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// CPU time of ours since we began, in seconds.
fn used_seconds() -> Result<f64, String> {
    let usage =
        getrusage(UsageWho::RUSAGE_SELF).map_err(|error| format!("failed to read our CPU time: {error}"))?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64())
}

/// `some avg10=1.23 avg60=…` → `1.23`
fn some_avg10(pressure: &str) -> Option<&str> {
    let some = pressure.lines().find(|line| line.starts_with("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))
}

#[cfg(test)]
mod tests {
    use super::some_avg10;

    #[test]
    fn pressure_is_the_kernels_word() {
        let text =
            "some avg10=3.21 avg60=1.00 avg300=0.00 total=1\nfull avg10=9.00 avg60=0 avg300=0 total=0\n";
        assert_eq!(some_avg10(text), Some("3.21"));
        assert_eq!(some_avg10("full avg10=9.00"), None);
    }
}
