//! Requests one by one around the edges of what clients saw: finer than any bucket.

use crate::model::{ErrorClass, Limited, Operation, OperationOutcome, Timeline, Window};

/// A success that took so much longer than the baseline's median was waited for.
const WAITED_MS: u64 = 50;

/// One request: times in µs from the injection.
#[derive(Debug, Clone, Copy)]
struct Request {
    wanted_us: u64,
    done_us: u64,
    ok: bool,
    /// Certainly the stack's doing.
    sure: bool,
}

/// The requests of one stream from the injection on, in the order in which they were wanted.
pub(super) struct Edges {
    requests: Vec<Request>,
    typical_us: u64,
    /// Line of `operations.jsonl` of the last that was not ok.
    pub last_bad: Option<usize>,
}

impl Edges {
    pub fn of(
        timeline: &Timeline,
        span: Window,
        limited: &Limited,
        typical_us: u64,
        belongs: impl Fn(&&Operation) -> bool,
    ) -> Self {
        let start_us = span.start_ms * 1000;
        let mut last_bad: Option<(u64, usize)> = None;
        let mut requests = Vec::new();
        for (index, operation) in timeline.operations.iter().enumerate() {
            if !span.contains_ms(operation.intended_us / 1000) || !belongs(&operation) {
                continue;
            }
            let own = operation.error.is_some_and(ErrorClass::is_generators_own);
            let ok = operation.outcome == OperationOutcome::Ok;
            if !ok {
                last_bad = last_bad.max(Some((operation.intended_us, index + 1)));
            }
            requests.push(Request {
                wanted_us: operation.intended_us - start_us,
                done_us: operation.done_us.saturating_sub(start_us),
                ok,
                sure: !own && !limited.concerns(operation),
            });
        }
        requests.sort_by_key(|request| request.wanted_us);
        Self { requests, typical_us, last_bad: last_bad.map(|(_, line)| line) }
    }

    /// The moment itself; when whoever wanted something then still waited, when any of them was answered, less the
    /// time that an answer always takes.
    pub fn answered_ms(&self, at_ms: u64, only_sure: bool) -> u64 {
        let from = self.requests.partition_point(|request| request.wanted_us < at_ms * 1000);
        let counts = |request: &&Request| request.ok && (request.sure || !only_sure);
        let after = || self.requests[from..].iter().filter(counts);
        let waited_us = |request: &Request| request.done_us.saturating_sub(request.wanted_us);
        match (after().next(), after().map(|request| request.done_us).min()) {
            (Some(first), Some(done_us)) if waited_us(first) > self.typical_us + WAITED_MS * 1000 => {
                at_ms.max(done_us.saturating_sub(self.typical_us) / 1000)
            }
            _ => at_ms,
        }
    }

    /// The largest gap around the first that was not ok and the last before the recovery; when there was no trouble,
    /// the largest gap until `until_ms`.
    pub fn resolution_ms(&self, recovered_ms: Option<u64>, until_ms: u64) -> Option<u64> {
        let recovered_us = recovered_ms.map_or(u64::MAX, |ms| ms * 1000);
        let bad = |request: &Request| !request.ok && request.wanted_us < recovered_us;
        let edges = self.requests.iter().position(bad).zip(self.requests.iter().rposition(bad));
        let gap = |pair: &[Request]| pair[1].wanted_us - pair[0].wanted_us;
        let gaps = self.requests.windows(2).enumerate();
        let gap_us = match edges {
            Some((first, last)) => {
                gaps.filter(|(at, _)| at + 1 == first || *at == last).map(|(_, pair)| gap(pair)).max()
            }
            None => {
                gaps.filter(|(_, pair)| pair[0].wanted_us < until_ms * 1000).map(|(_, pair)| gap(pair)).max()
            }
        };
        gap_us.map(|us| us.div_ceil(1000))
    }
}
