//! The run's monotonic clock, shared by parent and child: CLOCK_MONOTONIC, counted from the run's time 0.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time 0 of a run, as CLOCK_MONOTONIC in ns. The same number means the same moment in every process of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunClock {
    origin_ns: u64,
}

impl RunClock {
    /// Time 0 is now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin_ns: monotonic_ns() }
    }

    #[must_use]
    pub fn from_origin_ns(origin_ns: u64) -> Self {
        Self { origin_ns }
    }

    #[must_use]
    pub fn origin_ns(self) -> u64 {
        self.origin_ns
    }

    /// µs since the run's time 0.
    #[must_use]
    pub fn now_us(self) -> u64 {
        monotonic_ns().saturating_sub(self.origin_ns) / 1000
    }

    /// How long until `at_us`; zero when it has passed.
    #[must_use]
    pub fn until(self, at_us: u64) -> Duration {
        Duration::from_micros(at_us.saturating_sub(self.now_us()))
    }
}

fn monotonic_ns() -> u64 {
    // Linux always has this clock: the call cannot fail with a valid id.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::RunClock;

    #[test]
    fn two_processes_with_one_origin_read_one_time() {
        let clock = RunClock::start();
        let same = RunClock::from_origin_ns(clock.origin_ns());
        assert!(same.now_us().abs_diff(clock.now_us()) < 1_000_000);
        assert_eq!(clock.until(0).as_micros(), 0);
        assert!(clock.until(clock.now_us() + 5_000_000).as_secs() >= 4);
    }
}
