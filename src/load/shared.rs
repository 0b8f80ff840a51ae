//! What dispatcher, lanes and recorder share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::LoadError;
use super::clock::RunClock;
use super::limits::LaneView;
use super::queue::DueQueue;
use super::recorder::RecorderHandle;
use super::script::Script;
use super::seconds::Board;
use super::spec::ChildSpec;
use super::vars::Vars;

/// Everything that a lane needs to make a request.
#[derive(Debug)]
pub struct Shared {
    pub spec: ChildSpec,
    pub script: Script,
    pub clock: RunClock,
    /// One for all lanes: keep-alive connections are pooled as in a browser's proxy or a service mesh.
    pub client: reqwest::Client,
    pub vars: Vars,
    pub queue: DueQueue,
    pub recorder: RecorderHandle,
    pub gauges: Arc<Gauges>,
}

/// Numbers about the process itself.
#[derive(Debug)]
pub struct Gauges {
    pub board: Board,
    /// When each lane sent what it waits for, µs on the run's clock; 0: idle.
    in_flight_since_us: Vec<AtomicU64>,
    pub lanes_live: AtomicUsize,
    /// Median service time of the stack at its best, µs; 0: not known yet.
    pub reference_us: AtomicU64,
    /// When the runtime last had the CPU, µs on the run's clock.
    pub beat_us: AtomicU64,
    /// No new intentions.
    pub stopping: AtomicBool,
    /// The load is in its step: the further users are there, too.
    pub stepped: AtomicBool,
    /// Intentions so far.
    pub intended: AtomicU64,
    pub fatal: Fatal,
}

impl Gauges {
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self {
            board: Board::default(),
            in_flight_since_us: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
            lanes_live: AtomicUsize::new(0),
            reference_us: AtomicU64::new(0),
            beat_us: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stepped: AtomicBool::new(false),
            intended: AtomicU64::new(0),
            fatal: Fatal::default(),
        }
    }

    /// The lane sends at `at_us`, or has its answer (0).
    pub fn set_in_flight(&self, lane: usize, at_us: u64) {
        if let Some(since) = self.in_flight_since_us.get(lane) {
            since.store(at_us, Ordering::Relaxed);
        }
    }

    #[must_use]
    pub fn busy_lanes(&self) -> u64 {
        self.in_flight_since_us.iter().filter(|since| since.load(Ordering::Relaxed) > 0).count() as u64
    }

    #[must_use]
    pub fn lane_view(&self, now_us: u64, rate_per_second: f64) -> LaneView {
        let since = self.in_flight_since_us.iter().map(|since| since.load(Ordering::Relaxed));
        let mut ages: Vec<u64> = since.filter(|at| *at > 0).map(|at| now_us.saturating_sub(at)).collect();
        ages.sort_unstable();
        let reference_us = self.reference_us.load(Ordering::Relaxed);
        LaneView {
            lanes: self.in_flight_since_us.len(),
            rate_per_second,
            reference_us: (reference_us > 0).then_some(reference_us),
            in_flight_age_us: ages.get(ages.len() / 2).copied(),
        }
    }
}

/// The first error that ends the child, from any thread.
#[derive(Debug, Default)]
pub struct Fatal {
    error: Mutex<Option<LoadError>>,
    raised: Notify,
}

impl Fatal {
    pub fn raise(&self, error: LoadError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        drop(first);
        self.raised.notify_one();
    }

    pub fn take(&self) -> Option<LoadError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Until somebody raises one. For one waiter only.
    pub async fn raised(&self) -> LoadError {
        loop {
            if let Some(error) = self.take() {
                return error;
            }
            self.raised.notified().await;
        }
    }
}
