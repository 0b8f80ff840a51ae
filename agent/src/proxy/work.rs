//! `proxy` as a work: listener first, then the table; the other way round at the end.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::measure::Measured;
use super::options::{Mode, Options};
use super::pump::{Pump, lock};
use super::rules::{KILLED, REDIRECT_CHAIN, ruleset};
use crate::files;
use crate::nft::Table;
use crate::say::Evidence;
use crate::work::Work;

/// 4,096 connections with two ends each, and our own.
const FILES: u64 = 9_000;

pub struct Proxy {
    options: Options,
    table: Option<Table>,
    thread: Option<JoinHandle<usize>>,
    stop: Arc<AtomicBool>,
    measured: Arc<Mutex<Measured>>,
    /// Counts at the last report.
    bytes: u64,
    throttled: u64,
    reported: Instant,
}

impl Proxy {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            table: None,
            thread: None,
            stop: Arc::new(AtomicBool::new(false)),
            measured: Arc::new(Mutex::new(Measured::default())),
            bytes: 0,
            throttled: 0,
            reported: Instant::now(),
        }
    }

    /// What was measured of the mode itself, and whether it bites.
    fn measure(&mut self) -> (bool, String) {
        let mut measured = lock(&self.measured);
        let now = Instant::now();
        match self.options.mode {
            Mode::Reset => (measured.resets > 0, format!("{} reset", measured.resets)),
            Mode::Hang => (measured.hung > 0, format!("{} hang without an answer", measured.hung)),
            Mode::Respond => {
                let status = self.options.status;
                (measured.answered > 0, format!("{} requests answered with {status}", measured.answered))
            }
            Mode::SlowClose => (measured.ends_held > 0, format!("{} ends held back", measured.ends_held)),
            Mode::Pass => {
                let seconds = now.duration_since(self.reported).as_secs_f64().max(0.001);
                let (bytes, throttled) = (measured.bytes - self.bytes, measured.throttled - self.throttled);
                (self.bytes, self.throttled, self.reported) = (measured.bytes, measured.throttled, now);
                let median = measured.median_ms(now);
                let wanted_ms = u128::from(self.options.delay_ms + self.options.jitter_ms / 2);
                let late = wanted_ms > 0 && median.is_some_and(|(ms, _)| ms * 2 >= wanted_ms);
                let mut text = median.map_or("no bytes in the last second".to_owned(), |(ms, count)| {
                    format!("added latency {ms} ms (median of {count} chunks in the last second)")
                });
                if let Some(rate) = self.options.rate_kib {
                    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
                    let kib = bytes as f64 / 1024.0 / seconds;
                    let _ = write!(
                        text,
                        ", {kib:.1} KiB/s both ways of {rate} each, bytes waited {throttled} times"
                    );
                }
                (late || (self.options.rate_kib.is_some() && throttled > 0), text)
            }
        }
    }
}

impl Work for Proxy {
    fn start(&mut self) -> Result<(), String> {
        self.options.check()?;
        files::allow(FILES)?;
        let table = self.table.insert(Table::claim()?);
        let failed = |error| format!("failed to listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let pump =
            Pump::new(self.options.clone(), listener, Arc::clone(&self.measured), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || pump.run());
        self.thread = Some(thread.map_err(|error| format!("failed to start the proxy's thread: {error}"))?);
        table.load(&ruleset(&table.name, &self.options, port))
    }

    fn report(&mut self) -> Evidence {
        let Some(table) = &self.table else { return Evidence::failed("there is no table") };
        let counters = match table.counters() {
            Ok(counters) => counters,
            Err(error) => return Evidence::failed(error),
        };
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Evidence::failed("the proxy's thread has ended");
        }
        let (bites, what) = self.measure();
        let mut measured = lock(&self.measured);
        let mut text = format!(
            "{} of {} connections hit, {} open: {what}",
            measured.hit, measured.handled, measured.open
        );
        if self.options.kill_existing {
            let killed = counters.get(KILLED).copied().unwrap_or(0);
            let _ = write!(text, "; {killed} packets of existing connections answered with a reset");
        }
        if measured.unreached > 0 {
            let _ = write!(text, "; {} servers not reached", measured.unreached);
        }
        if let Some(trouble) = measured.trouble.take() {
            let _ = write!(text, "; {trouble}");
        }
        if bites {
            Evidence::effect(text)
        } else if self.options.harmless() && measured.handled > 0 {
            Evidence::note(format!("{text}; nothing is added"))
        } else {
            Evidence::waiting(text)
        }
    }

    fn undo(&mut self) -> Result<String, String> {
        // No new ones; then the old ones are reset, while their addresses are still translated; then the table. What
        // fails on the way does not matter when the table is gone in the end.
        if let Some(table) = &self.table {
            let _ = table.bypass(REDIRECT_CHAIN);
        }
        self.stop.store(true, Ordering::Relaxed);
        let mut open = lock(&self.measured).open;
        if let Some(thread) = self.thread.take() {
            open = thread.join().unwrap_or(open);
        }
        self.table.as_ref().map_or(Ok(()), Table::delete)?;
        let name = self.table.as_ref().map_or("-", |table| &table.name);
        Ok(format!("table {name} is gone, {open} connections reset"))
    }
}
