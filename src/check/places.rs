//! Where a reader finds what a finding speaks of: lines of `operations.jsonl`, times in `timeline.jsonl`.

use std::collections::BTreeMap;

use crate::model::{ErrorClass, OpId, Operation, OperationOutcome, Timeline, Window};

/// `line 12 of operations.jsonl, wanted at 3400 ms`. Operations are in the order of the file.
fn place(index: usize, operation: &Operation) -> String {
    format!("line {} of operations.jsonl, wanted at {} ms", index + 1, operation.intended_us / 1000)
}

fn in_window(timeline: &Timeline, window: Window) -> impl Iterator<Item = (usize, &Operation)> {
    let numbered = timeline.operations.iter().enumerate();
    numbered.filter(move |(_, operation)| window.contains_ms(operation.intended_us / 1000))
}

/// The first and the last request of a window that was not ok, and how many of which kind.
pub(super) fn not_ok(timeline: &Timeline, window: Window) -> Vec<String> {
    let bad: Vec<(usize, &Operation)> =
        in_window(timeline, window).filter(|(_, one)| one.outcome != OperationOutcome::Ok).collect();
    let mut kinds: BTreeMap<Option<ErrorClass>, u64> = BTreeMap::new();
    for (_, operation) in &bad {
        *kinds.entry(operation.error).or_default() += 1;
    }
    let mut lines: Vec<String> = kinds
        .into_iter()
        .map(|(kind, times)| match kind {
            Some(kind) => format!("{times} not ok: {kind:?}"),
            None => format!("{times} not ok"),
        })
        .collect();
    let wanted = |(_, operation): &&(usize, &Operation)| operation.intended_us;
    let edges = [("first", bad.iter().min_by_key(wanted)), ("last", bad.iter().max_by_key(wanted))];
    lines.extend(edges.into_iter().filter_map(|(which, found)| {
        let (index, operation) = found?;
        Some(format!("{which} not ok: {}", place(*index, operation)))
    }));
    lines
}

/// The request of a window whose user waited longest.
pub(super) fn slowest(timeline: &Timeline, window: Window) -> Vec<String> {
    let slowest = in_window(timeline, window).max_by_key(|(_, operation)| operation.latency_us());
    let line = slowest.map(|(index, operation)| {
        format!("slowest: {} ms, {}", operation.latency_us() / 1000, place(index, operation))
    });
    line.into_iter().collect()
}

/// A line of evidence that ends with a write's id, with where that write was last answered.
pub(super) fn with_place(timeline: &Timeline, line: &str) -> String {
    let id = OpId::new(line.rsplit(' ').next().unwrap_or_default());
    // A read bears the id of the write that it looks for.
    let of_id =
        |(_, operation): &(usize, &Operation)| operation.id == Some(id) && !operation.writes.is_empty();
    match timeline.operations.iter().enumerate().rfind(of_id) {
        Some((index, operation)) => format!("{line}: {}", place(index, operation)),
        None => line.to_owned(),
    }
}
