//! A client-side circuit: after some failures in a row, leave the dependency alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Closed while calls succeed. After `failures_max` failures in a row it opens, and then lets one
/// call through in every `open_for` until one succeeds.
///
/// There is no half-open state to get stuck in: a trial call that is cancelled and reports nothing
/// only costs the wait for the next trial.
#[derive(Debug)]
pub struct Circuit {
    failures_max: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures_in_a_row: u32,
    next_trial: Option<Instant>,
}

impl Circuit {
    #[must_use]
    pub fn new(failures_max: u32, open_for: Duration) -> Self {
        let state = Mutex::new(State { failures_in_a_row: 0, next_trial: None });
        Self { failures_max, open_for, state }
    }

    /// May a call be made now? A `true` while open takes the trial slot.
    pub fn permit(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.next_trial {
            None => true,
            Some(at) if now >= at => {
                state.next_trial = Some(now + self.open_for);
                true
            }
            Some(_) => false,
        }
    }

    pub fn success(&self) {
        let mut state = self.lock();
        state.failures_in_a_row = 0;
        state.next_trial = None;
    }

    pub fn failure(&self, now: Instant) {
        let mut state = self.lock();
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        if state.failures_in_a_row >= self.failures_max {
            state.next_trial = Some(now + self.open_for);
        }
    }

    pub fn is_open(&self) -> bool {
        self.lock().next_trial.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain values: valid even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Circuit {
        let circuit = Circuit::new(3, OPEN_FOR);
        for _ in 0..3 {
            circuit.failure(now);
        }
        circuit
    }

    #[test]
    fn opens_only_after_failures_in_a_row() {
        let now = Instant::now();
        let circuit = Circuit::new(3, OPEN_FOR);
        circuit.failure(now);
        circuit.failure(now);
        circuit.success();
        circuit.failure(now);
        circuit.failure(now);
        assert!(circuit.permit(now));
        circuit.failure(now);
        assert!(circuit.is_open());
        assert!(!circuit.permit(now));
    }

    #[test]
    fn one_trial_a_period_and_a_success_closes() {
        let now = Instant::now();
        let circuit = opened(now);
        let later = now + OPEN_FOR;
        assert!(circuit.permit(later), "the trial");
        assert!(!circuit.permit(later), "only one");
        circuit.success();
        assert!(!circuit.is_open());
        assert!(circuit.permit(later));
    }

    #[test]
    fn a_failed_or_forgotten_trial_waits_for_the_next_period() {
        let now = Instant::now();
        let circuit = opened(now);
        let later = now + OPEN_FOR;
        assert!(circuit.permit(later));
        circuit.failure(later);
        assert!(!circuit.permit(later + OPEN_FOR / 2));
        assert!(circuit.permit(later + OPEN_FOR), "this trial is never reported");
        assert!(circuit.permit(later + OPEN_FOR * 2));
    }
}
