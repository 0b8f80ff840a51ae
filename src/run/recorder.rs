//! Takes every event of a run, stamps it, keeps it, and appends it to `timeline.jsonl`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::RunClock;
use crate::model::{Event, Fact, Observation};

/// More than this is a probe gone wild; later ones are only counted.
const EVENTS_MAX: usize = 500_000;

struct Inner {
    events: Vec<Event>,
    dropped: u64,
    file: Option<BufWriter<File>>,
    failed: Option<String>,
    /// What was judged is what is kept: nothing more is taken.
    sealed: bool,
}

/// Cheap to clone; all clones record into the same timeline.
#[derive(Clone)]
pub struct Recorder {
    clock: RunClock,
    inner: Arc<Mutex<Inner>>,
    live: broadcast::Sender<Event>,
}

impl Recorder {
    /// Records in memory only.
    #[must_use]
    pub fn in_memory(clock: RunClock) -> Self {
        Self::build(clock, None)
    }

    /// Records into `path` as well, one JSON object a line.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn to_file(clock: RunClock, path: &Path) -> std::io::Result<Self> {
        Ok(Self::build(clock, Some(BufWriter::new(File::create(path)?))))
    }

    fn build(clock: RunClock, file: Option<BufWriter<File>>) -> Self {
        let inner = Inner { events: Vec::new(), dropped: 0, file, failed: None, sealed: false };
        Self { clock, inner: Arc::new(Mutex::new(inner)), live: broadcast::channel(1024).0 }
    }

    #[must_use]
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    pub fn record(&self, fact: Fact) -> u64 {
        let mut inner = self.lock();
        // Stamped under the lock, so that the file is in order.
        let event = Event { at_ms: self.clock.now_ms(), fact };
        let at_ms = event.at_ms;
        if inner.sealed {
            return at_ms;
        }
        if inner.events.len() >= EVENTS_MAX {
            inner.dropped += 1;
            return at_ms;
        }
        inner.append(&event);
        inner.events.push(event.clone());
        drop(inner);
        // Nobody listening is fine: the live view is optional.
        let _ = self.live.send(event);
        at_ms
    }

    pub fn observe(&self, observation: Observation) {
        self.record(Fact::Observed(observation));
    }

    pub fn note(&self, text: impl Into<String>) {
        self.record(Fact::Note { text: text.into() });
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Looks at those from `from_ms` on, in place: nobody records meanwhile, so it must be brief.
    pub fn look<T>(&self, from_ms: u64, see: impl FnOnce(&[Event]) -> T) -> T {
        let inner = self.lock();
        let start = inner.events.partition_point(|event| event.at_ms < from_ms);
        see(&inner.events[start..])
    }

    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// Flushes the file; answers with what went wrong while recording, if anything did.
    #[must_use]
    pub fn finish(&self) -> Option<String> {
        let mut inner = self.lock();
        inner.flush();
        match inner.dropped {
            0 => inner.failed.clone(),
            dropped => Some(format!("{dropped} events were dropped: more than {EVENTS_MAX} in one run")),
        }
    }

    /// Ends the timeline: all events, and why they are not whole, if they are not.
    #[must_use]
    pub fn seal(&self) -> (Vec<Event>, Option<String>) {
        self.lock().sealed = true;
        (self.events(), self.finish())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while recording leaves at worst one event unwritten; the rest is still evidence.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, event: &Event) {
        let Some(file) = &mut self.file else { return };
        // Flushed at once: after a crash the timeline must reach as far as the journal does. There are a few tens a second.
        let written = serde_json::to_writer(&mut *file, event)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.flush());
        if let Err(error) = written {
            self.failed = Some(format!("failed to write the timeline: {error}"));
            self.file = None;
        }
    }

    fn flush(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            self.failed = Some(format!("failed to write the timeline: {error}"));
        }
    }
}
