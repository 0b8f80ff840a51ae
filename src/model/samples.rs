//! What the load of one window amounts to, once what the generator did to itself is set aside.

use super::{ErrorClass, Limited, LoadSecond, Operation, OperationOutcome, Timeline, Window};

/// A window in which the generator was the limit for a larger share carries no judgement.
pub const GENERATOR_LIMITED_SHARE_MAX: f64 = 0.20;

/// Latencies from the intended time, exact (nearest rank, no histogram), of the requests that were
/// answered; and how many the client gave up on.
///
/// A request that failed at once (refused, 5xx) was answered with an error: it has no latency and counts
/// in the error rate only. A request that timed out was slower than anything that was measured, so it
/// takes part in every quantile, above all answered ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Of requests that are ok, µs, ascending.
    ok_us: Vec<u64>,
    /// Of requests that timed out: until the client gave up, µs, ascending.
    gave_up_us: Vec<u64>,
}

/// A quantile of [`Latencies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantile {
    NoSamples,
    Us(u64),
    /// It lies among the requests that timed out: at least this many µs, and no upper bound.
    Unanswered(u64),
}

impl Latencies {
    /// How many requests were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.ok_us.len() as u64
    }

    /// The smallest latency that at least the share `q` (0 to 1) of the requests did not exceed.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Quantile {
        let count = self.ok_us.len() + self.gave_up_us.len();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return Quantile::NoSamples;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = ((q * count as f64).ceil() as usize).clamp(1, count);
        match self.ok_us.get(rank - 1) {
            Some(us) => Quantile::Us(*us),
            None => {
                let gave_up = self.gave_up_us.get(rank - 1 - self.ok_us.len()).copied().unwrap_or(0);
                Quantile::Unanswered(gave_up.max(self.ok_us.last().copied().unwrap_or(0)))
            }
        }
    }

    fn push(&mut self, operation: &Operation) {
        match (operation.outcome, operation.error) {
            (OperationOutcome::Ok, _) => self.ok_us.push(operation.latency_us()),
            (_, Some(ErrorClass::Timeout | ErrorClass::ConnectTimeout)) => {
                self.gave_up_us.push(operation.latency_us());
            }
            _ => {}
        }
    }

    /// One that never left the generator: its user was never answered.
    fn push_never_sent(&mut self, operation: &Operation) {
        self.gave_up_us.push(operation.latency_us());
    }

    fn sort(&mut self) {
        self.ok_us.sort_unstable();
        self.gave_up_us.sort_unstable();
    }
}

/// Requests and errors, with the latencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u64,
    /// Requests that are not ok: failed or indeterminate.
    pub errors: u64,
    pub latencies: Latencies,
}

impl Tally {
    /// Share of requests that are not ok, 0 to 1; 0 without requests, so look at `requests` first.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn error_share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }
}

/// The load of one window, by intended time, counted in two ways: what is certainly the stack's doing
/// (`counted`), and everything, as its worst reading (`all`). A judgement passes only when both readings
/// pass, and fails only when the first fails; where they differ the generator is to blame, or hides
/// something, and nobody can say which.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    pub window: Window,
    /// Without requests that the generator kept waiting (see [`Limited`]) and without failures that the generator made itself.
    pub counted: Tally,
    /// Every request; failures that the generator made itself count as errors without an answer.
    pub all: Tally,
    /// Seconds of the window in which the generator was the limit.
    pub limited_seconds: u64,
    /// Share of the window in which it was, 0 to 1.
    pub limited_share: f64,
    /// Seconds of the window about which the generator reported at all.
    pub reported_seconds: u64,
}

impl Samples {
    /// Why the window carries no judgement; `None` when it does.
    ///
    /// # Guarantees
    /// `None` means: at least `requests_min` (and at least 1) requests count, the generator reported on
    /// itself, it was the limit for at most 20 % of the time, and at most 20 % of the requests are set aside.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn unusable(&self, requests_min: u64) -> Option<String> {
        let counted = self.counted.requests;
        if self.window.end_ms <= self.window.start_ms {
            return Some("the window is empty".to_owned());
        }
        if counted < requests_min.max(1) {
            return Some(format!("{counted} requests count, a judgement needs {}", requests_min.max(1)));
        }
        if self.reported_seconds == 0 {
            return Some("the generator did not report on itself, so its own limits are unknown".to_owned());
        }
        if self.limited_share > GENERATOR_LIMITED_SHARE_MAX {
            return Some(format!(
                "the generator was the limit for {:.0} % of the window, at most 20 % are allowed",
                self.limited_share * 100.0
            ));
        }
        let aside = self.all.requests.saturating_sub(counted);
        if aside as f64 > GENERATOR_LIMITED_SHARE_MAX * self.all.requests as f64 {
            return Some(format!(
                "{aside} of {} requests are the generator's own failures or of when it was the limit",
                self.all.requests
            ));
        }
        None
    }
}

impl Timeline {
    /// The load of a window.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn samples(&self, window: Window) -> Samples {
        let limited = Limited::of(self);
        let mut samples = Samples { window, ..Samples::default() };
        for operation in self.operations_in(window) {
            let own = operation.error.is_some_and(ErrorClass::is_generators_own);
            let error = u64::from(operation.outcome != OperationOutcome::Ok);
            samples.all.requests += 1;
            samples.all.errors += error;
            if own {
                samples.all.latencies.push_never_sent(operation);
                continue;
            }
            samples.all.latencies.push(operation);
            if !limited.concerns(operation) {
                samples.counted.requests += 1;
                samples.counted.errors += error;
                samples.counted.latencies.push(operation);
            }
        }
        samples.all.latencies.sort();
        samples.counted.latencies.sort();
        samples.limited_seconds = limited.within(window).count() as u64;
        let limited_ms: u64 = limited.within(window).map(|span| span.end_ms - span.start_ms).sum();
        let length_ms = window.end_ms.saturating_sub(window.start_ms);
        samples.limited_share = if length_ms == 0 { 0.0 } else { limited_ms as f64 / length_ms as f64 };
        let reported = |second: &&LoadSecond| {
            second.at_ms < window.end_ms && second.at_ms.saturating_add(1000) > window.start_ms
        };
        samples.reported_seconds = self.load_seconds().filter(reported).count() as u64;
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::{Latencies, Quantile};

    #[test]
    fn quantiles_are_exact_and_a_timed_out_request_is_slower_than_all() {
        let latencies = Latencies { ok_us: (1..=98).collect(), gave_up_us: vec![40, 5_000] };
        for (q, expected) in [
            (0.0, Quantile::Us(1)),
            (0.5, Quantile::Us(50)),
            (0.98, Quantile::Us(98)),
            (0.99, Quantile::Unanswered(98)),
            (1.0, Quantile::Unanswered(5_000)),
            (1.1, Quantile::NoSamples),
            (f64::NAN, Quantile::NoSamples),
        ] {
            assert_eq!(latencies.quantile(q), expected, "q = {q}");
        }
        assert_eq!(Latencies::default().quantile(0.5), Quantile::NoSamples);
    }
}
