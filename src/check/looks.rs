//! When a probe looked: what it did not see proves something only while it did.

use crate::model::{Observation, Timeline, Verdict, Window};

/// A probe that was silent for longer may have missed what came and went.
pub(super) const GAP_MAX_MS: u64 = 5_000;

/// The moments of one probe's looks, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Looks(Vec<u64>);

impl Looks {
    pub fn of(timeline: &Timeline, name: &str) -> Self {
        let beats = timeline.observations(0).filter_map(|(at_ms, observation)| match observation {
            Observation::Heartbeat { probe } if probe == name => Some(at_ms),
            _ => None,
        });
        Self(beats.collect())
    }

    pub fn any_in(&self, window: Window) -> bool {
        self.0.iter().any(|at_ms| window.contains_ms(*at_ms))
    }

    pub fn last_ms(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// It looked again and again from one moment to the other.
    pub fn whole(&self, from_ms: u64, to_ms: u64) -> bool {
        let within = self.0.iter().copied().filter(|at_ms| (from_ms..=to_ms).contains(at_ms));
        let mut before_ms = from_ms;
        let mut looked = false;
        for at_ms in within.chain([to_ms]) {
            looked |= at_ms < to_ms;
            if at_ms - before_ms > GAP_MAX_MS {
                return false;
            }
            before_ms = at_ms;
        }
        looked
    }

    /// Whether what was first seen at `seen_ms` kept a bound: it was so at some moment since the look before.
    pub fn kept(&self, seen_ms: u64, bound_ms: u64) -> Verdict {
        let before = self.0.iter().rev().find(|at_ms| **at_ms < seen_ms);
        match before {
            _ if seen_ms <= bound_ms => Verdict::Pass,
            Some(before_ms) if *before_ms >= bound_ms => Verdict::Fail,
            _ => Verdict::Inconclusive,
        }
    }

    /// Why the windows from the baseline to the recovery are not all looked at.
    pub fn missing(&self, timeline: &Timeline, what: &str) -> Option<String> {
        let windows = timeline.windows;
        let named =
            [("baseline", windows.baseline), ("fault window", windows.fault), ("recovery", windows.recovery)];
        let silent = named.into_iter().find(|(_, window)| !self.any_in(*window))?.0;
        Some(format!("nobody looked at {what} in the {silent}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Looks;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn a_gap_may_hide_something() {
        let looks = Looks(vec![1_000, 2_000, 7_000, 14_000]);
        for (from_ms, to_ms, whole) in [
            (1_000, 7_000, true),
            (0, 10_000, true),
            (1_000, 14_000, false),
            (14_000, 15_000, true),
            (15_000, 16_000, false),
            (14_000, 30_000, false),
        ] {
            assert_eq!(looks.whole(from_ms, to_ms), whole, "{from_ms} {to_ms}");
        }
        assert!(!Looks::default().whole(0, 1_000));
    }

    #[test]
    fn what_was_seen_late_may_have_been_there_since_the_look_before() {
        let looks = Looks(vec![1_000, 2_000, 3_000]);
        assert_eq!(looks.kept(3_000, 3_000), Pass);
        assert_eq!(looks.kept(3_000, 2_500), Inconclusive);
        assert_eq!(looks.kept(3_000, 2_000), Fail);
    }
}
