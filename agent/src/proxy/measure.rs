//! What the proxy saw, shared by its thread and the reports; and its random choices.

use std::time::{Duration, Instant};

/// A second's delays beyond this are not kept; the median is that of those kept.
const SAMPLES_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub struct Measured {
    /// Connections that came through the redirect.
    pub handled: u64,
    /// Of these the ones that the mode applies to.
    pub hit: u64,
    pub open: usize,
    pub resets: u64,
    pub hung: u64,
    pub answered: u64,
    pub ends_held: u64,
    /// Connections whose server could not be reached.
    pub unreached: u64,
    /// Bytes passed on for connections that are hit.
    pub bytes: u64,
    /// Times that bytes waited for the rate.
    pub throttled: u64,
    /// The listener's trouble, when it has any.
    pub trouble: Option<String>,
    waited: Vec<(Instant, Duration)>,
}

impl Measured {
    pub fn waited(&mut self, now: Instant, waited: Duration) {
        if self.waited.len() < SAMPLES_MAX {
            self.waited.push((now, waited));
        }
    }

    /// Median of the last second in ms, and of how many.
    pub fn median_ms(&mut self, now: Instant) -> Option<(u128, usize)> {
        self.waited.retain(|(at, _)| now.saturating_duration_since(*at) <= Duration::from_secs(1));
        let mut all: Vec<Duration> = self.waited.iter().map(|(_, waited)| *waited).collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2)?;
        Some((median.as_millis(), all.len()))
    }
}

/// `SplitMix64`: small, seeded, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`; 0 for 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // Small ranges: the bias of the remainder is beyond measuring.
        self.next().checked_rem(end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Measured, Random};

    #[test]
    fn the_median_is_that_of_the_last_second() {
        let (mut measured, start) = (Measured::default(), Instant::now());
        measured.waited(start, Duration::from_secs(9));
        let now = start + Duration::from_millis(1500);
        for ms in [10, 30, 20] {
            measured.waited(now, Duration::from_millis(ms));
        }
        assert_eq!(measured.median_ms(now), Some((20, 3)));
        assert_eq!(measured.median_ms(now + Duration::from_secs(2)), None);
    }

    #[test]
    fn choices_are_seeded_and_even() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.below(100)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let hits = draw(7).iter().filter(|value| **value < 30).count();
        assert!((250..350).contains(&hits), "{hits}");
        assert_eq!(Random::new(1).below(0), 0);
    }
}
