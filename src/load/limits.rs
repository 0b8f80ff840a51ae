//! Whose fault is it that a request was late or never sent: the stack's, or the generator's own?
//!
//! Two mistakes must never be made. A generator that is short of CPU, descriptors, ports or lanes
//! makes failures of its own: charging them to a fault would fail a stack that held. And a stack that stalls fills
//! every lane with requests that wait for it: excusing those seconds as "generator-limited" would pass a stack
//! that did not hold. The rules, in that order of care:
//!
//! 1. A user whom no lane serves keeps waiting in the queue, with the intended time. Served late, the
//!    latency says so. Not served before the scenario's timeout, the operation is `failed` with class `timeout`: exactly what
//!    the user would have seen had there been one lane more.
//! 2. Lanes count as short only when they were too few **for the stack at its best**: fewer than twice
//!    `rate × reference`, where `reference` is the lowest median service time (sent → done, acknowledged requests)
//!    of any second so far (Little's law, with room for bursts). Lanes that suffice at its best can run out only
//!    because the stack became slower, so the stack is charged. Without a reference nothing is excused.
//! 3. Even lanes that are too few are no excuse while the median age of what is in flight exceeds
//!    [`STALL_AGE_US`]: then the stack hangs.
//! 4. Only if lanes are short by 2 and 3, a wait of [`WAIT_LIMITED_US`] marks the second as generator-limited,
//!    and after [`WAIT_NOT_SENT_US`] the request is given up as `not-sent`.
//! 5. A dispatcher or a runtime that wakes up more than [`LATE_LIMITED_US`] late had no CPU; EMFILE
//!    and EADDRNOTAVAIL are the generator's by their nature. Those mark their seconds too.
//!
//! By default there are lanes for everybody to wait a full timeout, so that 2 to 4 never come into play.

/// A wake-up later than this means that the process had no CPU, µs.
pub const LATE_LIMITED_US: u64 = 200_000;
/// In flight for longer, at the median, means that the stack hangs, µs.
pub const STALL_AGE_US: u64 = 1_000_000;
/// With lanes short: a wait for a lane that marks the second, µs.
pub const WAIT_LIMITED_US: u64 = 200_000;
/// With lanes short: a wait for a lane after which the request is not sent at all, µs.
pub const WAIT_NOT_SENT_US: u64 = 1_000_000;

/// What is known about the lanes at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneView {
    pub lanes: usize,
    pub rate_per_second: f64,
    /// Lowest median service time of a second so far, µs.
    pub reference_us: Option<u64>,
    /// Median age of the requests in flight, µs; absent: nothing is in flight.
    pub in_flight_age_us: Option<u64>,
}

impl LaneView {
    /// Whether users wait because there are too few lanes, by rules 2 and 3.
    #[must_use]
    pub fn lanes_are_short(&self) -> bool {
        let (Some(reference_us), Some(age_us)) = (self.reference_us, self.in_flight_age_us) else {
            return false;
        };
        let needed = 2.0 * self.rate_per_second * reference_us as f64 / 1e6;
        (self.lanes as f64) < needed && age_us <= STALL_AGE_US
    }
}

/// What to do with a user who has waited in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    Keep,
    /// Keep, and the second is generator-limited.
    Limited,
    /// Given up by the generator: `not-sent`.
    NotSent,
    /// Given up by the user: `failed`, `timeout`.
    TimedOut,
}

/// Judges one wait. `generator_short`: lanes are short, or the process has no CPU.
#[must_use]
pub fn judge_wait(waited_us: u64, timeout_us: u64, generator_short: bool) -> Waiting {
    match (generator_short, waited_us) {
        (true, waited) if waited >= WAIT_NOT_SENT_US.min(timeout_us) => Waiting::NotSent,
        (true, waited) if waited >= WAIT_LIMITED_US => Waiting::Limited,
        (false, waited) if waited >= timeout_us => Waiting::TimedOut,
        _ => Waiting::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lanes_too_few_for_the_stack_at_its_best_are_short() {
        let view = |lanes, reference_us, in_flight_age_us| LaneView {
            lanes,
            rate_per_second: 120.0,
            reference_us,
            in_flight_age_us,
        };
        let table = [
            ("enough at its best, stack slow now", view(64, Some(5_000), Some(300_000)), false),
            ("enough at its best, stack hangs", view(64, Some(5_000), Some(4_000_000)), false),
            ("too few, stack as always", view(4, Some(100_000), Some(50_000)), true),
            ("too few, but the stack hangs", view(4, Some(100_000), Some(2_000_000)), false),
            ("no reference", view(1, None, Some(50_000)), false),
            ("nothing in flight", view(1, Some(100_000), None), false),
        ];
        for (name, view, short) in table {
            assert_eq!(view.lanes_are_short(), short, "{name}");
        }
    }

    #[test]
    fn a_wait_is_charged_to_the_stack_unless_the_generator_is_short() {
        let s = 1_000_000;
        let table = [
            (0, false, Waiting::Keep),
            (4 * s, false, Waiting::Keep),
            (5 * s, false, Waiting::TimedOut),
            (s / 10, true, Waiting::Keep),
            (s / 2, true, Waiting::Limited),
            (s, true, Waiting::NotSent),
            (9 * s, true, Waiting::NotSent),
        ];
        for (waited_us, short, want) in table {
            assert_eq!(judge_wait(waited_us, 5 * s, short), want, "{waited_us} {short}");
        }
    }
}
