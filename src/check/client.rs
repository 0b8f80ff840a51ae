//! When clients' requests succeeded again, and kept succeeding.
//!
//! Definition. From the first injection on, time is cut into buckets, and each *stream* of requests is
//! followed on its own: all requests, and the writes to each store, so that a few writes cannot fail
//! unnoticed among many reads. Buckets are 500 ms, or 1, 2 or 5 s where the baseline's rate of the stream
//! gives fewer than ten requests in one; a stream of writes too thin even for 5 s is not followed alone.
//! A span of `stable_for` (in whole buckets, rounded up) *holds* when the share of its requests that are
//! not ok is at most 1 %, or the baseline's share if that is larger, but never above 5 %. Recovery is the
//! start of the first span that holds, whose first bucket is within the same share, and after which every
//! span holds until the end of the recovery window: a relapse starts it anew. It is moved back to just
//! after the last request that was not ok when that lies in the bucket before and a success follows it
//! there. When every span holds from the injection on, it is 0: clients saw no more errors than ever.
//! Else it is never before an answer: when the first success from then on took 50 ms longer than the baseline's
//! median, so that its user still waited, it is moved to when any of them was answered.
//!
//! *Resolution*: no request says anything about the time between two requests. The largest gap around the first and
//! the last that was not ok after the injection; when none was, the largest in the fault window: a shorter
//! trouble may have gone unseen. Of several streams that of the one that recovered last.
//!
//! It is read twice. *Proven*: every request counts, a bucket without a success does not hold. *Possible*:
//! the generator's own failures, its limited seconds and silent buckets are forgiven. The truth lies
//! between: a bound that the proven time keeps is kept, one that even the possible time breaks is broken.

use super::edges::Edges;
use crate::model::{ErrorClass, Limited, Operation, OperationOutcome, Store, Timeline, Window};

const BUCKETS_MS: [u64; 4] = [500, 1000, 2000, 5000];
const REQUESTS_PER_BUCKET: u64 = 10;
const ERROR_SHARE_FLOOR: f64 = 0.01;
const ERROR_SHARE_CEILING: f64 = 0.05;

/// Both readings, ms from injection; absent: not before the end of the recovery window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientRecovery {
    pub proven_ms: Option<u64>,
    pub possible_ms: Option<u64>,
    /// Of the stream that recovered last; absent without two requests to compare.
    pub resolution_ms: Option<u64>,
    /// One line a stream, for the evidence.
    pub streams: Vec<String>,
}

pub(super) fn client(timeline: &Timeline, injection_ms: u64, stable_for_ms: u64) -> ClientRecovery {
    let limited = Limited::of(timeline);
    let mut whole =
        ClientRecovery { proven_ms: Some(0), possible_ms: Some(0), resolution_ms: None, streams: Vec::new() };
    for store in std::iter::once(None).chain(Store::ALL.map(Some)) {
        let name = store.map_or("all requests".to_owned(), |store| format!("writes to {}", store.as_str()));
        let belongs = |operation: &&Operation| store.is_none_or(|store| operation.writes.contains(store));
        let baseline = Baseline::of(timeline, belongs);
        let bucket_ms = match baseline.bucket_ms() {
            Some(bucket_ms) => bucket_ms,
            None if store.is_none() => BUCKETS_MS[BUCKETS_MS.len() - 1],
            None => {
                if baseline.requests > 0 {
                    whole.streams.push(format!("{name}: too few to be followed alone"));
                }
                continue;
            }
        };
        let span = Window { start_ms: injection_ms, end_ms: timeline.windows.recovery.end_ms };
        let stream = Stream {
            buckets: buckets(timeline, span, bucket_ms, &limited, belongs),
            bucket_ms,
            span: usize::try_from(stable_for_ms.div_ceil(bucket_ms).max(1)).unwrap_or(usize::MAX),
            share_max: baseline.share_max(),
        };
        let edges = Edges::of(timeline, span, &limited, baseline.median_us, belongs);
        let answered = |ms: u64, sure| if ms == 0 { 0 } else { edges.answered_ms(ms, sure) };
        let proven = stream.proven_ms().map(|ms| answered(ms, false));
        let possible = stream.possible_ms().map(|ms| answered(ms, true));
        let last_bad = edges
            .last_bad
            .map_or(String::new(), |line| format!("; the last is line {line} of operations.jsonl"));
        whole.streams.push(format!("{name}: {}{last_bad}", describe(proven, stream.failed())));
        // Unseen is later than any.
        let later =
            |new: Option<u64>, old: Option<u64>| old.is_some_and(|old| new.is_none_or(|new| new > old));
        if whole.resolution_ms.is_none() || later(proven, whole.proven_ms) {
            let until_ms = timeline.windows.fault.end_ms.saturating_sub(injection_ms);
            whole.resolution_ms = edges.resolution_ms(proven, until_ms).or(whole.resolution_ms);
        }
        whole.proven_ms = whole.proven_ms.zip(proven).map(|(a, b)| a.max(b));
        whole.possible_ms = whole.possible_ms.zip(possible).map(|(a, b)| a.max(b));
    }
    whole
}

fn describe(recovery_ms: Option<u64>, failed: u64) -> String {
    let when = match recovery_ms {
        Some(0) => "held throughout".to_owned(),
        Some(ms) => format!("held again {ms} ms after injection"),
        None => "not shown to hold again".to_owned(),
    };
    format!("{when}, {failed} not ok since injection")
}

struct Baseline {
    requests: u64,
    errors: u64,
    length_ms: u64,
    /// Of the requests that were ok.
    median_us: u64,
}

impl Baseline {
    fn of(timeline: &Timeline, belongs: impl Fn(&&Operation) -> bool) -> Self {
        let window = timeline.windows.baseline;
        let own = |operation: &&Operation| operation.error.is_some_and(ErrorClass::is_generators_own);
        let length_ms = window.end_ms.saturating_sub(window.start_ms);
        let mut baseline = Self { requests: 0, errors: 0, length_ms, median_us: 0 };
        let mut latencies_us = Vec::new();
        for operation in timeline.operations_in(window).filter(belongs).filter(|operation| !own(operation)) {
            baseline.requests += 1;
            if operation.outcome == OperationOutcome::Ok {
                latencies_us.push(operation.latency_us());
            } else {
                baseline.errors += 1;
            }
        }
        latencies_us.sort_unstable();
        baseline.median_us = latencies_us.get(latencies_us.len() / 2).copied().unwrap_or(0);
        baseline
    }

    fn bucket_ms(&self) -> Option<u64> {
        let enough = |bucket_ms: &u64| self.requests * bucket_ms >= REQUESTS_PER_BUCKET * self.length_ms;
        BUCKETS_MS.into_iter().find(|bucket_ms| self.length_ms > 0 && enough(bucket_ms))
    }

    #[allow(clippy::cast_precision_loss)]
    fn share_max(&self) -> f64 {
        let share = if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 };
        share.clamp(ERROR_SHARE_FLOOR, ERROR_SHARE_CEILING)
    }
}

/// Requests of one bucket: in the worst reading, and what is certainly the stack's.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    all: u64,
    all_bad: u64,
    sure: u64,
    sure_bad: u64,
    /// The last intended times in it, ms from injection: of any that is not ok, of one that is certainly
    /// the stack's, of one that is ok.
    last_bad_ms: Option<u64>,
    last_sure_bad_ms: Option<u64>,
    last_ok_ms: Option<u64>,
}

impl Bucket {
    fn plus(self, other: &Self) -> Self {
        Self {
            all: self.all + other.all,
            all_bad: self.all_bad + other.all_bad,
            sure: self.sure + other.sure,
            sure_bad: self.sure_bad + other.sure_bad,
            ..self
        }
    }
}

/// Whole buckets only: what is left at the end of the span is too short to judge.
fn buckets(
    timeline: &Timeline,
    span: Window,
    bucket_ms: u64,
    limited: &Limited,
    belongs: impl Fn(&&Operation) -> bool,
) -> Vec<Bucket> {
    let count = span.end_ms.saturating_sub(span.start_ms) / bucket_ms;
    let mut buckets = vec![Bucket::default(); usize::try_from(count).unwrap_or(0)];
    for operation in timeline.operations_in(span).filter(belongs) {
        let at_ms = operation.intended_us / 1000;
        let index = usize::try_from((at_ms - span.start_ms) / bucket_ms).unwrap_or(usize::MAX);
        let Some(bucket) = buckets.get_mut(index) else { continue };
        let bad = operation.outcome != OperationOutcome::Ok;
        let since_ms = Some(at_ms - span.start_ms);
        bucket.all += 1;
        if bad {
            bucket.all_bad += 1;
            bucket.last_bad_ms = bucket.last_bad_ms.max(since_ms);
        } else {
            bucket.last_ok_ms = bucket.last_ok_ms.max(since_ms);
        }
        let own = operation.error.is_some_and(ErrorClass::is_generators_own);
        if !own && !limited.concerns(operation) {
            bucket.sure += 1;
            if bad {
                bucket.sure_bad += 1;
                bucket.last_sure_bad_ms = bucket.last_sure_bad_ms.max(since_ms);
            }
        }
    }
    buckets
}

struct Stream {
    buckets: Vec<Bucket>,
    bucket_ms: u64,
    /// Buckets of one `stable_for`.
    span: usize,
    share_max: f64,
}

impl Stream {
    fn failed(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.all_bad).sum()
    }

    #[allow(clippy::cast_precision_loss)]
    fn within(&self, bad: u64, of: u64) -> bool {
        bad as f64 <= self.share_max * of as f64
    }

    fn proven_ms(&self) -> Option<u64> {
        let holds = |buckets: &[Bucket]| {
            let sum = buckets.iter().fold(Bucket::default(), Bucket::plus);
            buckets.iter().all(|bucket| bucket.all > bucket.all_bad) && self.within(sum.all_bad, sum.all)
        };
        let mut start = self.held_to_the_end_since(holds)?;
        while let Some(bucket) = self.buckets.get(start).filter(|_| start > 0) {
            if self.within(bucket.all_bad, bucket.all) {
                break;
            }
            start += 1;
        }
        let before = start.checked_sub(1).and_then(|before| self.buckets.get(before));
        // Finer than a bucket: the last trouble lies in the bucket before, and a success after it.
        let finer = before.and_then(|bucket| bucket.last_bad_ms.filter(|bad| bucket.last_ok_ms > Some(*bad)));
        (start + self.span <= self.buckets.len())
            .then(|| finer.map_or(self.at_ms(start), |bad_ms| bad_ms + 1))
    }

    fn possible_ms(&self) -> Option<u64> {
        if self.buckets.len() < self.span {
            return Some(0);
        }
        let holds = |buckets: &[Bucket]| {
            let sum = buckets.iter().fold(Bucket::default(), Bucket::plus);
            self.within(sum.sure_bad, sum.sure)
        };
        let start = self.held_to_the_end_since(holds)?;
        let before = start.checked_sub(1).and_then(|before| self.buckets.get(before));
        // Without trouble of the stack's own there, nobody knows where in the bucket it was: its start.
        let earliest_ms = self.at_ms(start.saturating_sub(1));
        Some(before.and_then(|bucket| bucket.last_sure_bad_ms).unwrap_or(earliest_ms))
    }

    /// The first bucket from which every span to the end holds; none when the last does not.
    fn held_to_the_end_since(&self, holds: impl Fn(&[Bucket]) -> bool) -> Option<usize> {
        let spans = self.buckets.windows(self.span);
        let count = spans.len();
        let held = spans.rev().take_while(|span| holds(span)).count();
        (held > 0).then(|| count - held)
    }

    fn at_ms(&self, bucket: usize) -> u64 {
        bucket as u64 * self.bucket_ms
    }
}
