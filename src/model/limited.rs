//! When the generator, not the stack, was the limit.

use super::{LoadSecond, Operation, Timeline, Window};

/// What was answered in a stall is read when it ends, all of it at once: as long after it, ms.
const READING_MS: u64 = 50;

/// Spans in which the generator was out of lanes, sockets, ports or processor: at most one a second, and as much of the second as
/// it was. A second in which it slept for a quarter says something of its other three.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limited {
    /// By start, without overlaps.
    spans: Vec<Window>,
}

impl Limited {
    #[must_use]
    pub fn of(timeline: &Timeline) -> Self {
        let mut spans: Vec<_> = timeline.load_seconds().filter_map(LoadSecond::limited_span).collect();
        spans.sort_unstable_by_key(|span| span.start_ms);
        Self { spans }
    }

    /// Whether nobody can say if this is the stack's doing: wanted while the generator was short, or its answer was there
    /// to be read then.
    #[must_use]
    pub fn concerns(&self, operation: &Operation) -> bool {
        let (intended_ms, done_ms) = (operation.intended_us / 1000, operation.done_us / 1000);
        self.has(intended_ms, 0) || self.has(done_ms, READING_MS)
    }

    /// Whether a moment lies in one of the spans, or not longer than this after it.
    fn has(&self, at_ms: u64, after_ms: u64) -> bool {
        let next = self.spans.partition_point(|span| span.start_ms <= at_ms);
        let last = next.checked_sub(1).and_then(|index| self.spans.get(index));
        last.is_some_and(|span| at_ms < span.end_ms.saturating_add(after_ms))
    }

    /// Spans that lie in the window, as far as they do.
    pub fn within(&self, window: Window) -> impl Iterator<Item = Window> {
        let clipped = self.spans.iter().map(move |span| Window {
            start_ms: span.start_ms.max(window.start_ms),
            end_ms: span.end_ms.min(window.end_ms),
        });
        clipped.filter(|span| span.start_ms < span.end_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Fact, OperationOutcome};

    fn limited(spans: &[(u64, Option<(u64, u64)>)]) -> Limited {
        let window = |(start_ms, end_ms)| Window { start_ms, end_ms };
        let events = spans.iter().map(|(at_ms, span)| {
            let second = LoadSecond { at_ms: *at_ms, generator_limited: true, ..LoadSecond::default() };
            Event { at_ms: *at_ms, fact: Fact::Load(LoadSecond { limited: span.map(window), ..second }) }
        });
        Limited::of(&Timeline { events: events.collect(), ..Timeline::default() })
    }

    fn operation(intended_ms: u64, done_ms: u64) -> Operation {
        Operation {
            id: None,
            step: "a.b".into(),
            writes: None.into(),
            reads: None,
            intended_us: intended_ms * 1000,
            sent_us: intended_ms * 1000,
            done_us: done_ms * 1000,
            outcome: OperationOutcome::Ok,
            error: None,
            status: None,
            degraded: false,
            seen: None,
        }
    }

    #[test]
    fn only_what_the_stall_can_have_touched_is_set_aside() {
        let limited = limited(&[(5000, Some((5200, 5450))), (9000, None)]);
        let table = [
            ("before it", 5_100, 5_150, false),
            ("answered while nobody read", 5_150, 5_300, true),
            ("read with all the others, right after it", 5_150, 5_499, true),
            ("wanted in it", 5_200, 5_600, true),
            ("wanted before it, and slow for its own reasons", 5_150, 5_501, false),
            ("wanted after it, in the same second", 5_450, 5_600, false),
            ("in a second of which all is unknown", 9_990, 10_400, true),
            ("in the next one", 10_100, 10_110, false),
        ];
        for (name, intended_ms, done_ms, want) in table {
            assert_eq!(limited.concerns(&operation(intended_ms, done_ms)), want, "{name}");
        }
    }

    #[test]
    fn spans_are_clipped_to_the_window() {
        let limited = limited(&[(9000, None), (5000, Some((5200, 5450)))]);
        let within = |start_ms, end_ms| {
            let spans = limited.within(Window { start_ms, end_ms });
            spans.map(|span| (span.start_ms, span.end_ms)).collect::<Vec<_>>()
        };
        assert_eq!(within(0, 20_000), [(5200, 5450), (9000, 10_000)]);
        assert_eq!(within(5300, 9500), [(5300, 5450), (9000, 9500)]);
        assert_eq!(within(5450, 9000), []);
    }
}
