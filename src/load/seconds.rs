//! Operations summed up to seconds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::model::{LoadSecond, Operation, OperationOutcome, Window};

const SECOND_US: u64 = 1_000_000;
/// Latencies above are counted as this, µs.
const LATENCY_MAX_US: u64 = 600 * SECOND_US;
/// A median of fewer says nothing about the stack at its best.
const REFERENCE_SAMPLES_MIN: u64 = 5;

/// What dispatcher and lanes know about seconds that are not over: written by many, read by the recorder.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// The first second that has not been reported.
    open_from: u64,
    by_second: BTreeMap<u64, Mark>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    pub intended: u64,
    /// When the generator was short in it, ms.
    pub limited: Option<Window>,
}

impl Mark {
    fn limit(&mut self, span: Window) {
        let known = self.limited.unwrap_or(span);
        self.limited = Some(Window {
            start_ms: known.start_ms.min(span.start_ms),
            end_ms: known.end_ms.max(span.end_ms),
        });
    }
}

impl Board {
    /// A user wanted a request at `at_us`.
    pub fn intend(&self, at_us: u64) {
        self.with(at_us, |mark| mark.intended += 1);
    }

    /// The generator was short from `from_us` to `to_us`. A part that has been reported already is
    /// charged to the whole first second that has not: a mark is never lost.
    pub fn limit(&self, from_us: u64, to_us: u64) {
        let mut marks = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let first = (from_us / SECOND_US).max(marks.open_from);
        let last = (to_us / SECOND_US).clamp(first, first + 3600);
        let told = from_us < first * SECOND_US;
        for second in first..=last {
            let (start_ms, end_ms) = (second * 1000, (second + 1) * 1000);
            let span = if told && second == first {
                Window { start_ms, end_ms }
            } else {
                Window { start_ms: start_ms.max(from_us / 1000), end_ms: end_ms.min(to_us / 1000 + 1) }
            };
            marks.by_second.entry(second).or_default().limit(span);
        }
    }

    fn with(&self, at_us: u64, change: impl FnOnce(&mut Mark)) {
        let mut marks = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let second = (at_us / SECOND_US).max(marks.open_from);
        change(marks.by_second.entry(second).or_default());
    }

    /// Takes the marks of `second`, which is over.
    fn close(&self, second: u64) -> Mark {
        let mut marks = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        marks.open_from = second + 1;
        marks.by_second.remove(&second).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Open {
    second: LoadSecond,
    latency: Histogram<u32>,
    /// Sent → done of acknowledged requests.
    service: Histogram<u32>,
}

impl Open {
    fn new(second: u64) -> Self {
        let histogram = || {
            // Constant bounds that the crate accepts: tested below.
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("constant bounds are valid")
        };
        let at_ms = second * 1000;
        Self {
            second: LoadSecond { at_ms, ..LoadSecond::default() },
            latency: histogram(),
            service: histogram(),
        }
    }
}

/// Sums operations by the second in which they were done.
#[derive(Debug, Default)]
pub struct Seconds {
    open: BTreeMap<u64, Open>,
    /// The first second that has not been closed; none before the first.
    open_from: Option<u64>,
    reference_us: Option<u64>,
}

impl Seconds {
    /// Counts one operation. The generator's own failures are no answer of the stack: not counted
    /// here (their seconds bear the mark, the operations their class).
    pub fn add(&mut self, operation: &Operation) {
        if operation.error.is_some_and(|class| class.is_generators_own()) {
            return;
        }
        let second = (operation.done_us / SECOND_US).max(self.open_from.unwrap_or(0));
        let open = self.open.entry(second).or_insert_with(|| Open::new(second));
        match operation.outcome {
            OperationOutcome::Ok => {
                open.second.ok += 1;
                open.service.saturating_record(operation.done_us.saturating_sub(operation.sent_us).max(1));
            }
            OperationOutcome::Failed => open.second.failed += 1,
            OperationOutcome::Indeterminate => open.second.indeterminate += 1,
        }
        open.latency.saturating_record(operation.latency_us().max(1));
    }

    /// Closes every second that ended before `before_us`, in order, without gaps; `from_us` is where the first begins.
    pub fn close(&mut self, from_us: u64, before_us: u64, board: &Board, busy_lanes: u64) -> Vec<LoadSecond> {
        let first = *self.open_from.get_or_insert(from_us / SECOND_US);
        let end = before_us / SECOND_US;
        let closed = (first..end).map(|second| {
            let open = self.open.remove(&second).unwrap_or_else(|| Open::new(second));
            if open.service.len() >= REFERENCE_SAMPLES_MIN {
                let median = open.service.value_at_quantile(0.5);
                self.reference_us = Some(self.reference_us.map_or(median, |best| best.min(median)));
            }
            let mark = board.close(second);
            LoadSecond {
                intended: mark.intended,
                generator_limited: mark.limited.is_some(),
                limited: mark.limited,
                p50_us: open.latency.value_at_quantile(0.5),
                p99_us: open.latency.value_at_quantile(0.99),
                busy_lanes,
                ..open.second
            }
        });
        let closed = closed.collect();
        self.open_from = Some(end.max(first));
        closed
    }

    /// The lowest median service time of any closed second: the stack at its best, µs.
    #[must_use]
    pub fn reference_us(&self) -> Option<u64> {
        self.reference_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorClass;

    fn operation(intended_us: u64, sent_us: u64, done_us: u64, outcome: OperationOutcome) -> Operation {
        Operation {
            id: None,
            step: "a.b".into(),
            writes: None.into(),
            reads: None,
            intended_us,
            sent_us,
            done_us,
            outcome,
            error: None,
            status: None,
            degraded: false,
            seen: None,
        }
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_seconds_have_no_gaps() {
        let (mut seconds, board) = (Seconds::default(), Board::default());
        board.intend(3_100_000);
        for i in 0..10 {
            seconds.add(&operation(3_100_000, 5_090_000, 5_100_000 + i, OperationOutcome::Ok));
        }
        board.limit(5_600_000, 5_700_000);
        board.limit(4_900_000, 5_000_000);
        let closed = seconds.close(3_000_000, 6_500_000, &board, 7);
        assert_eq!(closed.iter().map(|s| s.at_ms).collect::<Vec<_>>(), [3000, 4000, 5000]);
        assert_eq!(closed.iter().map(|s| s.intended).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!(closed.iter().map(|s| s.generator_limited).collect::<Vec<_>>(), [false, true, true]);
        let span = |start_ms, end_ms| Some(Window { start_ms, end_ms });
        assert_eq!(
            closed.iter().map(|s| s.limited).collect::<Vec<_>>(),
            [None, span(4900, 5000), span(5000, 5701)],
            "only while it was; from the first to the last of two"
        );
        assert_eq!(closed[2].ok, 10);
        assert!((1_970_000..2_030_000).contains(&closed[2].p50_us), "{}", closed[2].p50_us);
        assert!((9_000..11_000).contains(&seconds.reference_us().expect("ten samples")));
        assert!(seconds.close(3_000_000, 6_900_000, &board, 0).is_empty());
    }

    #[test]
    fn late_marks_go_to_the_first_open_second_and_own_failures_are_not_counted() {
        let (mut seconds, board) = (Seconds::default(), Board::default());
        seconds.close(0, 5_000_000, &board, 0);
        board.limit(1_000_000, 2_000_000);
        let mut own = operation(5_100_000, 5_100_000, 5_200_000, OperationOutcome::Failed);
        own.error = Some(ErrorClass::NotSent);
        seconds.add(&own);
        seconds.add(&operation(0, 0, 1_000_000, OperationOutcome::Failed)); // told late
        let closed = seconds.close(0, 6_000_000, &board, 0);
        assert_eq!(closed.len(), 1);
        assert!(closed[0].generator_limited);
        assert_eq!(closed[0].limited, Some(Window { start_ms: 5000, end_ms: 6000 }), "the whole second");
        assert_eq!((closed[0].failed, closed[0].ok), (1, 0));
    }
}
