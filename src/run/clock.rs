//! The run's monotonic clock. It starts at 0 with the experiment; the load's process shares it.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    origin: Instant,
    origin_ns: u64,
}

impl RunClock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now(), origin_ns: monotonic_ns() }
    }

    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// `CLOCK_MONOTONIC` at ms 0, in ns: another process on this machine computes the same times from it.
    #[must_use]
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    #[must_use]
    pub fn at(&self, ms: u64) -> Instant {
        self.origin + Duration::from_millis(ms)
    }
}

fn monotonic_ns() -> u64 {
    // Linux always has this clock; 0 would only shift the load's times, which the gate would notice.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|time| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
                + u64::try_from(time.tv_nsec()).unwrap_or(0)
        })
        .unwrap_or(0)
}
