//! Cancellation lives here and nowhere else: signals, stop conditions and the deadline take one path.
//! It ends waits; it never ends a revert, nor an apply in flight.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Recorder;
use crate::check;
use crate::model::{RunOutcome, StopCondition};

/// Between two looks at the stop conditions: the load tells once a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    first: CancellationToken,
    second: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

/// A wait was ended early; the reason is in the [`Stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Somebody who watches on our behalf, for as long as this lives.
#[must_use]
pub(super) struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stop {
    /// The first reason stays.
    pub fn request(&self, reason: impl Into<String>) {
        let _ = self.reason.set(reason.into());
        self.first.cancel();
    }

    /// A person, or the system, wants us to end; when that was asked for before, not even to wait.
    pub fn interrupt(&self, signal: &str) {
        if self.is_requested() {
            self.second.cancel();
        } else if let RunOutcome::Stopped(reason) = RunOutcome::interrupted(signal) {
            self.request(reason);
        }
    }

    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.first.is_cancelled()
    }

    /// Sleeps, unless a stop comes first.
    ///
    /// # Errors
    /// When it did.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.first.cancelled() => Err(Stopped),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }

    /// Resolves with the first reason to stop.
    pub async fn requested(&self) {
        self.first.cancelled().await;
    }

    /// Resolves with the second signal: the person no longer wants to wait. The journal keeps what is left.
    pub async fn second(&self) {
        self.second.cancelled().await;
    }

    /// Asks for a stop once a condition is broken, from now on until the guard is dropped.
    pub(super) fn on_broken(&self, conditions: &[StopCondition], recorder: &Recorder) -> Ends {
        let (stop, conditions, recorder) = (self.clone(), conditions.to_owned(), recorder.clone());
        let from_ms = recorder.clock().now_ms();
        Ends(tokio::spawn(async move {
            while !conditions.is_empty() && stop.sleep(LOOK_EVERY).await.is_ok() {
                let why = recorder.look(from_ms, |events| check::broken(&conditions, events, from_ms));
                if let Some(why) = why {
                    stop.request(why);
                }
            }
        }))
    }

    /// Asks for a stop after so long, unless the guard is dropped before.
    pub(super) fn after(&self, deadline: Duration) -> Ends {
        let stop = self.clone();
        Ends(tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            stop.request(format!("the experiment's deadline of {} s has passed", deadline.as_secs()));
        }))
    }

    /// Turns SIGINT and SIGTERM into stops.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                if !stop.is_requested() {
                    eprintln!(
                        "mettle: stopping: reverting what was changed (again: stop waiting, keep the journal)"
                    );
                }
                stop.interrupt(signal);
            }
        });
        Ok(())
    }
}
