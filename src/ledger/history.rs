//! What reads saw, against what was acknowledged before them and what is there in the end.
//!
//! # Guarantees
//! Every anomaly is decided by intervals: a write that was acknowledged *before* a read or another write was sent
//! precedes it; all that overlaps may have happened in any order. Indeterminate and failed writes promise nothing,
//! and an id of nobody's is nobody's. So nothing is found that did not happen.
//!
//! - A read is *stale* when it lacks what was acknowledged before it was sent, and is there in the end. (What is not
//!   there in the end is lost: the ledger counts it, not this.)
//! - A read is *dirty* when it saw what is not there in the end. Lists only grow, so what a read of one saw must be the
//!   beginning of the final list, element for element: one that is not in it or in another place makes the read dirty.
//! - A write is *reordered* when it stands in its list before one that was acknowledged before it was sent.
//!
//! # Caveats
//! A read of a list is recorded as the difference to the one before; one whose predecessor is not there is not judged.

use std::collections::{BTreeMap, HashSet};

use super::Found;
use super::compare::Kind;
use super::writes::Writes;
use crate::model::{ListName, OpId, Operation, OperationOutcome, Store};

/// What the reads of one store, and the order in it, came to.
pub(super) struct History {
    /// Reads that were judged.
    pub reads: u64,
    /// One a read: the first write that it lacked.
    pub stale: Kind,
    /// One a read: the first write that it should not have seen there.
    pub dirty: Kind,
    pub reordered: Kind,
    pub never_read: u64,
}

pub(super) fn history(operations: &[Operation], store: Store, found: &Found, writes: &Writes<'_>) -> History {
    let mut history = History {
        reads: 0,
        stale: Kind::new("stale"),
        dirty: Kind::new("dirty"),
        reordered: Kind::new("reordered"),
        never_read: 0,
    };
    let mut lists: BTreeMap<ListName, Vec<u32>> = BTreeMap::new();
    for (position, operation) in operations.iter().enumerate() {
        if operation.reads != Some(store) {
            continue;
        }
        match (&operation.seen, operation.id, u32::try_from(position)) {
            (Some(seen), _, Ok(position)) => lists.entry(seen.list).or_default().push(position),
            (None, Some(of), _) => history.judge_object(operation, of, found, writes),
            _ => {}
        }
    }
    for (name, elements) in found.lists() {
        let reads = lists.remove(name).unwrap_or_default();
        let list = List::of(elements, writes);
        history.judge_order(&list, writes);
        history.judge_reads(&list, reads.iter().map(|position| &operations[*position as usize]));
    }
    // Lists that are gone, or were never there.
    for reads in lists.values() {
        let list = List::of(&[], writes);
        history.judge_reads(&list, reads.iter().map(|position| &operations[*position as usize]));
    }
    history
}

impl History {
    /// One object, by the id of the write that made it; any answer but "not there" saw it.
    fn judge_object(&mut self, read: &Operation, of: OpId, found: &Found, writes: &Writes<'_>) {
        self.reads += 1;
        let (saw_it, there) = (read.outcome == OperationOutcome::Ok, found.times(of) > 0);
        let acknowledged = writes.get(of).and_then(|write| write.acknowledged_us);
        let before = acknowledged.is_some_and(|acknowledged_us| acknowledged_us < read.sent_us);
        self.stale.count_if(!saw_it && there && before, of);
        self.dirty.count_if(saw_it && !there, of);
    }

    fn judge_order(&mut self, list: &List<'_>, writes: &Writes<'_>) {
        for (position, element) in list.elements.iter().enumerate() {
            let sent_us = writes.get(*element).map(|write| write.sent_us);
            // A copy is the ledger's to count; its first place is the one that is ordered.
            let first = list.first[position];
            let late = sent_us.is_some_and(|sent_us| first && list.acknowledged_from(position + 1) < sent_us);
            self.reordered.count_if(late, *element);
        }
    }

    /// The reads of one list, in the order in which they were recorded.
    fn judge_reads<'o>(&mut self, list: &List<'_>, reads: impl Iterator<Item = &'o Operation>) {
        let (mut saw, mut replay) = (Saw::default(), Replay::default());
        for read in reads {
            let Some(seen) = &read.seen else { continue };
            if !replay.advance(seen.kept as usize, &seen.then, list.elements) {
                continue;
            }
            self.reads += 1;
            saw.beginning = saw.beginning.max(replay.matched);
            // The usual case: it saw the beginning of the final list, and only what follows can be lacking.
            let beyond = &replay.elements[replay.matched..];
            if let Some(wrong) = beyond.first() {
                self.dirty.count(*wrong);
                saw.others.extend(beyond);
            }
            if let Some(lacking) = list.lacking(replay.matched, beyond, read.sent_us) {
                self.stale.count(lacking);
            }
        }
        let rest = saw.beginning..list.elements.len();
        let unseen = rest.filter(|position| {
            list.acknowledged_us[*position].is_some() && !saw.others.contains(&list.elements[*position])
        });
        self.never_read += unseen.count() as u64;
    }
}

/// All that the reads of one list saw.
#[derive(Default)]
struct Saw {
    /// So many elements of the final list, from its start.
    beginning: usize,
    others: HashSet<OpId>,
}

/// What the last read of a list saw, from the differences.
#[derive(Default)]
struct Replay {
    elements: Vec<OpId>,
    /// So many of them are the beginning of the final list.
    matched: usize,
    broken: bool,
}

impl Replay {
    /// False: what this read is a difference to is not known.
    fn advance(&mut self, kept: usize, then: &[OpId], last: &[OpId]) -> bool {
        self.broken = kept > self.elements.len() || (self.broken && kept > 0);
        if self.broken {
            return false;
        }
        self.elements.truncate(kept);
        self.elements.extend(then);
        self.matched = self.matched.min(kept);
        let rest = self.elements[self.matched..].iter().zip(&last[self.matched..]);
        self.matched += rest.take_while(|(saw, is)| saw == is).count();
        true
    }
}

/// A final list, with what is known of its elements.
struct List<'a> {
    elements: &'a [OpId],
    /// Of the first place of each acknowledged one.
    acknowledged_us: Vec<Option<u64>>,
    /// The place is the first one of its element.
    first: Vec<bool>,
    /// The earliest acknowledgement at this place or after it.
    earliest_us: Vec<u64>,
}

impl<'a> List<'a> {
    fn of(elements: &'a [OpId], writes: &Writes<'_>) -> Self {
        let mut known = HashSet::with_capacity(elements.len());
        let first: Vec<bool> = elements.iter().map(|element| known.insert(*element)).collect();
        let acknowledged = |(element, first): (&OpId, &bool)| {
            writes.get(*element).filter(|_| *first).and_then(|write| write.acknowledged_us)
        };
        let acknowledged_us: Vec<Option<u64>> = elements.iter().zip(&first).map(acknowledged).collect();
        let mut earliest_us = vec![u64::MAX; elements.len()];
        let mut earliest = u64::MAX;
        for (place, acknowledged) in acknowledged_us.iter().enumerate().rev() {
            earliest = acknowledged.map_or(earliest, |acknowledged_us| acknowledged_us.min(earliest));
            earliest_us[place] = earliest;
        }
        Self { elements, acknowledged_us, first, earliest_us }
    }

    fn acknowledged_from(&self, place: usize) -> u64 {
        self.earliest_us.get(place).copied().unwrap_or(u64::MAX)
    }

    /// The first element from `place` on that was acknowledged before `sent_us` and is not among `others`.
    fn lacking(&self, place: usize, others: &[OpId], sent_us: u64) -> Option<OpId> {
        if self.acknowledged_from(place) >= sent_us {
            return None;
        }
        let others: HashSet<&OpId> = others.iter().collect();
        let mut places = place..self.elements.len();
        places.find_map(|place| {
            let before = self.acknowledged_us[place].is_some_and(|acknowledged_us| acknowledged_us < sent_us);
            let element = &self.elements[place];
            (before && !others.contains(element)).then_some(*element)
        })
    }
}
