//! The one thread that writes: operations to their file, seconds to the parent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::LoadError;
use super::clock::RunClock;
use super::limits::LATE_LIMITED_US;
use super::lists::Lists;
use super::protocol::{Line, Totals};
use super::seconds::Seconds;
use super::shared::Gauges;
use crate::model::{Operation, OperationOutcome};

/// Operations that may wait for the disk: half a minute of 2,000 a second.
const QUEUE_MAX: usize = 1 << 16;
/// How often the thread looks. Polling costs less than being woken for each operation.
const POLL: Duration = Duration::from_millis(20);
/// What a killed child loses at most.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// How long after a second's end it is told, so that what was noticed late still counts in it.
const GRACE_US: u64 = 300_000;
/// How long a lane waits for room in the queue before the child gives up.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// The lanes' end of the queue.
#[derive(Debug)]
pub struct RecorderHandle {
    queue: SyncSender<Operation>,
    finish: Arc<AtomicBool>,
    gauges: Arc<Gauges>,
}

impl RecorderHandle {
    /// Hands over one operation. A full queue holds the lane up, never drops; held up for 5 s, the child ends.
    pub async fn record(&self, operation: Operation) {
        let started = Instant::now();
        let mut operation = operation;
        while let Some(back) = self.offer(operation, started) {
            operation = back;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Gives the operation back when there is no room yet.
    fn offer(&self, operation: Operation, started: Instant) -> Option<Operation> {
        match self.queue.try_send(operation) {
            Ok(()) => None,
            // The recorder has ended with an error, which it has raised itself.
            Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(_)) if started.elapsed() > ROOM_WAIT => {
                let waited_ms = ROOM_WAIT.as_millis() as u64;
                self.gauges.fatal.raise(LoadError::RecorderFull { waited_ms });
                None
            }
            Err(TrySendError::Full(operation)) => Some(operation),
        }
    }

    /// Nothing more comes: write what is left and end.
    pub fn finish(&self) {
        self.finish.store(true, Ordering::Release);
    }
}

/// Opens the file and starts the thread.
///
/// # Errors
/// When the file cannot be opened or already holds operations.
pub fn start(
    path: &Path,
    clock: RunClock,
    gauges: &Arc<Gauges>,
) -> Result<(RecorderHandle, JoinHandle<Option<Totals>>), LoadError> {
    let write = |source| LoadError::WriteOperations { path: path.to_owned(), source };
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(write)?;
    if file.metadata().map_err(write)?.len() > 0 {
        return Err(write(io::Error::new(io::ErrorKind::AlreadyExists, "it already holds something")));
    }
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let finish = Arc::new(AtomicBool::new(false));
    let recorder = Recorder {
        file,
        path: path.to_owned(),
        receiver,
        clock,
        gauges: Arc::clone(gauges),
        finish: Arc::clone(&finish),
        seconds: Seconds::default(),
        lists: Lists::default(),
        started_us: clock.now_us(),
        totals: Totals::default(),
        buffer: Vec::with_capacity(1 << 18),
        flushed: Instant::now(),
    };
    let thread = thread::Builder::new().name("load-recorder".to_owned()).spawn(move || recorder.run());
    let thread = thread.map_err(LoadError::Thread)?;
    Ok((RecorderHandle { queue: sender, finish, gauges: Arc::clone(gauges) }, thread))
}

struct Recorder {
    file: File,
    path: PathBuf,
    receiver: Receiver<Operation>,
    clock: RunClock,
    gauges: Arc<Gauges>,
    finish: Arc<AtomicBool>,
    seconds: Seconds,
    lists: Lists,
    started_us: u64,
    totals: Totals,
    buffer: Vec<u8>,
    flushed: Instant,
}

impl Recorder {
    /// Until told to finish; none after an error, which has been raised.
    fn run(mut self) -> Option<Totals> {
        match self.record_all() {
            Ok(()) => Some(self.totals),
            Err(error) => {
                self.gauges.fatal.raise(error);
                None
            }
        }
    }

    fn record_all(&mut self) -> Result<(), LoadError> {
        loop {
            // Read before draining: what was sent before `finish` is then drained.
            let finishing = self.finish.load(Ordering::Acquire);
            let drained = self.drain();
            if finishing || self.buffer.len() > 1 << 17 || self.flushed.elapsed() >= FLUSH_EVERY {
                self.flush()?;
            }
            let now_us = self.clock.now_us();
            self.mark_starved(now_us);
            self.tell_seconds(now_us.saturating_sub(GRACE_US))?;
            if finishing && drained {
                self.tell_seconds(now_us + 1_000_000)?;
                return self.sync();
            }
            if drained {
                thread::sleep(POLL);
            }
        }
    }

    /// Marks the time in which the runtime had no CPU, before that time is told. (The dispatcher marks it too, but
    /// only once it runs again.)
    fn mark_starved(&self, now_us: u64) {
        let beat_us = self.gauges.beat_us.load(Ordering::Relaxed);
        let loading = beat_us > 0 && !self.gauges.stopping.load(Ordering::Relaxed);
        if loading && now_us > beat_us + LATE_LIMITED_US {
            self.gauges.board.limit(beat_us, now_us);
        }
    }

    /// Takes what waits, to a bound; whether that was all.
    fn drain(&mut self) -> bool {
        for _ in 0..10_000 {
            match self.receiver.try_recv() {
                Ok(operation) => self.take(operation),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    fn take(&mut self, mut operation: Operation) {
        if let Some(seen) = &mut operation.seen {
            self.lists.shorten(seen);
        }
        self.seconds.add(&operation);
        self.totals.operations += 1;
        match operation.outcome {
            OperationOutcome::Ok => self.totals.ok += 1,
            OperationOutcome::Failed => self.totals.failed += 1,
            OperationOutcome::Indeterminate => self.totals.indeterminate += 1,
        }
        self.totals.generators_own +=
            u64::from(operation.error.is_some_and(|class| class.is_generators_own()));
        // Strings and numbers into memory: cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, &operation);
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        self.flushed = Instant::now();
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| LoadError::WriteOperations { path: self.path.clone(), source })
    }

    fn sync(&mut self) -> Result<(), LoadError> {
        match self.file.sync_data() {
            // Pipes and devices cannot be synced.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                Err(LoadError::WriteOperations { path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    fn tell_seconds(&mut self, before_us: u64) -> Result<(), LoadError> {
        let busy = self.gauges.busy_lanes();
        let closed = self.seconds.close(self.started_us, before_us, &self.gauges.board, busy);
        if let Some(reference_us) = self.seconds.reference_us() {
            self.gauges.reference_us.store(reference_us, Ordering::Relaxed);
        }
        closed.into_iter().try_for_each(|second| tell(&Line::Second(second)))
    }
}

/// One line to the parent.
///
/// # Errors
/// When the parent no longer reads.
pub fn tell(line: &Line) -> Result<(), LoadError> {
    let mut text = serde_json::to_vec(line).map_err(|error| LoadError::Stdout(error.into()))?;
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text).and_then(|()| stdout.flush()).map_err(LoadError::Stdout)
}
