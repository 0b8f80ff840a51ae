//! What a restore brought back: every acknowledged write by when it was acknowledged, against what the store holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Found;
use crate::model::{OpId, Operation, OperationOutcome, Store};

const EXAMPLES_MAX: usize = 20;

/// When what happened in a drill, µs on the run's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The backup is of some moment between these.
    pub backup_us: (u64, u64),
    /// The moment that was noted lies between these: before the question was sent, and after the answer had come.
    pub target_us: Option<(u64, u64)>,
    /// From before the first thing was destroyed until the last was.
    pub destroyed_us: (u64, u64),
    /// The restore has ended.
    pub restored_us: Option<u64>,
}

/// Acknowledged writes of a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    pub acknowledged: u64,
    /// Of these, not in the store.
    pub missing: u64,
}

impl Stretch {
    fn add(&mut self, is_there: bool) {
        self.acknowledged += 1;
        self.missing += u64::from(!is_there);
    }

    #[must_use]
    pub fn present(&self) -> u64 {
        self.acknowledged - self.missing
    }
}

/// The acknowledged writes to one store, told apart by time.
///
/// A write that was acknowledged before a question was sent to the server was committed before the answer; one that was
/// sent after the answer was committed after it. What was in flight meanwhile may be on either side and is in no stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Acknowledged before the backup began.
    pub before_backup: Stretch,
    /// Acknowledged since, and sent before the destruction had ended.
    pub since_backup: Stretch,
    /// Acknowledged before the noted moment.
    pub before_target: Stretch,
    /// Sent after it, and before the destruction had ended.
    pub after_target: Stretch,
    /// Sent between the destruction and the end of the restore.
    pub meanwhile: Stretch,
    /// Sent after the restore.
    pub after_restore: Stretch,
    /// Done time of the newest write up to which, itself included, every acknowledged one is there. Absent: the first is
    /// missing.
    pub whole_until_us: Option<u64>,
    /// Done time of the newest write that was acknowledged before everything was destroyed.
    pub newest_us: Option<u64>,
    /// When the first write that was sent after the destruction, and that the store still holds, was acknowledged.
    pub served_again_us: Option<u64>,
    /// The same, of writes that were sent after the restore.
    pub served_after_restore_us: Option<u64>,
    /// Ids that are missing and should not be, or are there and should not.
    pub examples: Vec<String>,
}

impl Recovered {
    #[must_use]
    pub fn of(operations: &[Operation], store: Store, found: &Found, passage: &Passage) -> Self {
        let mut recovered = Self::default();
        let mut acknowledged = acknowledged(operations, store);
        acknowledged.sort_by_key(|(_, operation)| operation.done_us);
        let mut whole = true;
        for (id, operation) in acknowledged {
            let is_there = found.times(id) > 0;
            recovered.add(operation, is_there, id, passage);
            if operation.sent_us >= passage.destroyed_us.1 {
                continue;
            }
            recovered.newest_us = Some(operation.done_us);
            whole &= is_there;
            if whole {
                recovered.whole_until_us = Some(operation.done_us);
            }
        }
        recovered
    }

    fn add(&mut self, operation: &Operation, is_there: bool, id: OpId, passage: &Passage) {
        let (sent, done) = (operation.sent_us, operation.done_us);
        let first = |known: &mut Option<u64>| {
            if is_there {
                *known = Some(known.map_or(done, |earlier| earlier.min(done)));
            }
        };
        if sent >= passage.destroyed_us.1 {
            first(&mut self.served_again_us);
            match passage.restored_us {
                Some(restored) if sent >= restored => {
                    self.after_restore.add(is_there);
                    first(&mut self.served_after_restore_us);
                    self.example(!is_there, "written after the restore and missing", id);
                }
                _ => self.meanwhile.add(is_there),
            }
            return;
        }
        if done <= passage.backup_us.0 {
            self.before_backup.add(is_there);
        } else {
            self.since_backup.add(is_there);
        }
        let must = match passage.target_us {
            Some((before, after)) => {
                if done <= before {
                    self.before_target.add(is_there);
                } else if sent >= after {
                    self.after_target.add(is_there);
                    self.example(is_there, "written after the moment and there", id);
                }
                done <= before
            }
            None => true,
        };
        self.example(must && !is_there, "missing", id);
    }

    fn example(&mut self, wrong: bool, what: &str, id: OpId) {
        if wrong && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{what}: {id}"));
        }
    }

    /// How far the missing writes reach back, µs: from the newest that was acknowledged to the newest up to which
    /// everything is there. 0 when nothing is missing.
    #[must_use]
    pub fn lost_us(&self) -> u64 {
        let newest = self.newest_us.unwrap_or(0);
        newest.saturating_sub(self.whole_until_us.unwrap_or(0))
    }
}

/// One a write: the attempt that was acknowledged first.
fn acknowledged(operations: &[Operation], store: Store) -> Vec<(OpId, &Operation)> {
    let mut known: BTreeMap<OpId, &Operation> = BTreeMap::new();
    let of_store = operations.iter().filter(|operation| operation.writes.contains(store));
    for operation in of_store.filter(|operation| operation.outcome == OperationOutcome::Ok) {
        let Some(id) = operation.id else { continue };
        let earlier = known.get(&id).is_some_and(|other| other.done_us <= operation.done_us);
        if !earlier {
            known.insert(id, operation);
        }
    }
    known.into_iter().collect()
}

/// How many writes were sent and acknowledged between two moments.
#[must_use]
pub fn acknowledged_between(operations: &[Operation], store: Store, from_us: u64, until_us: u64) -> u64 {
    let between = |operation: &Operation| operation.sent_us >= from_us && operation.done_us <= until_us;
    acknowledged(operations, store).iter().filter(|(_, operation)| between(operation)).count() as u64
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Acknowledged after 10 µs.
    pub fn write(sent_us: u64) -> Operation {
        Operation {
            id: Some(OpId::new(&format!("r-{sent_us}"))),
            step: "a.b".into(),
            writes: Store::Postgres.into(),
            reads: None,
            intended_us: sent_us,
            sent_us,
            done_us: sent_us + 10,
            outcome: OperationOutcome::Ok,
            error: None,
            status: Some(201),
            degraded: false,
            seen: None,
        }
    }

    pub fn holding(sent: impl IntoIterator<Item = u64>) -> Found {
        Found::of_ids(sent.into_iter().map(|sent_us| OpId::new(&format!("r-{sent_us}"))).collect())
    }

    const PASSAGE: Passage = Passage {
        backup_us: (1000, 1500),
        target_us: Some((2000, 2100)),
        destroyed_us: (3000, 3100),
        restored_us: Some(4000),
    };

    fn of(sent: &[u64], there: &[u64], passage: &Passage) -> Recovered {
        let operations: Vec<Operation> = sent.iter().copied().map(write).collect();
        Recovered::of(&operations, Store::Postgres, &holding(there.iter().copied()), passage)
    }

    fn stretch(acknowledged: u64, missing: u64) -> Stretch {
        Stretch { acknowledged, missing }
    }

    #[test]
    fn every_write_is_in_the_stretch_of_its_time() {
        let sent = [500, 995, 1800, 1995, 2050, 2100, 2900, 3050, 3200, 4100];
        let there = [500, 995, 1800, 4100];
        let found = of(&sent, &there, &PASSAGE);
        assert_eq!(found.before_backup, stretch(1, 0), "995 was in flight when the backup began");
        assert_eq!(found.since_backup, stretch(7, 5));
        assert_eq!(found.before_target, stretch(3, 0), "1995 and 2050 were in flight at the moment");
        assert_eq!(found.after_target, stretch(3, 3));
        assert_eq!(found.meanwhile, stretch(1, 1));
        assert_eq!(found.after_restore, stretch(1, 0));
        assert_eq!((found.whole_until_us, found.newest_us), (Some(1810), Some(3060)));
        assert_eq!(found.lost_us(), 1250);
        assert_eq!(found.served_again_us, Some(4110));
        assert_eq!(found.examples, [] as [&str; 0], "nothing is where it should not be");
    }

    #[test]
    fn what_is_where_it_should_not_be_is_told() {
        let found = of(&[500, 1800, 2900, 4100], &[1800, 2900], &PASSAGE);
        assert_eq!(
            found.examples,
            [
                "missing: r-500",
                "written after the moment and there: r-2900",
                "written after the restore and missing: r-4100"
            ]
        );
        assert_eq!(found.whole_until_us, None, "the first is missing: nothing is whole");
        assert_eq!(found.lost_us(), 2910);
    }

    #[test]
    fn a_hole_counts_from_before_it() {
        let latest = Passage { target_us: None, ..PASSAGE };
        let found = of(&[500, 600, 1800, 2900], &[500, 1800, 2900], &latest);
        assert_eq!((found.whole_until_us, found.lost_us()), (Some(510), 2400));
        assert_eq!(of(&[500, 600], &[500, 600], &latest).lost_us(), 0);
    }

    #[test]
    fn only_acknowledged_writes_of_the_store_count_and_each_once() {
        let mut other = write(500);
        other.writes = Store::Redis.into();
        let mut refused = write(600);
        refused.outcome = OperationOutcome::Failed;
        let mut again = write(700);
        again.done_us = 9000;
        let operations = [other, refused, write(700), again];
        let found = Recovered::of(&operations, Store::Postgres, &Found::default(), &PASSAGE);
        assert_eq!(found.before_backup, stretch(1, 1));
        assert_eq!(acknowledged_between(&operations, Store::Postgres, 0, 10_000), 1);
        assert_eq!(acknowledged_between(&operations, Store::Postgres, 701, 10_000), 0);
        assert_eq!(acknowledged_between(&operations, Store::Postgres, 0, 709), 0);
    }

    proptest! {
        #[test]
        fn no_write_is_counted_twice_and_a_full_store_lost_nothing(sent in proptest::collection::btree_set(0_u64..5000, 0..80)) {
            let sent: Vec<u64> = sent.into_iter().collect();
            let found = of(&sent, &sent, &PASSAGE);
            let all = found.before_backup.acknowledged + found.since_backup.acknowledged
                + found.meanwhile.acknowledged + found.after_restore.acknowledged;
            prop_assert_eq!(all, sent.len() as u64);
            prop_assert_eq!(found.lost_us(), 0);
            let empty = of(&sent, &[], &PASSAGE);
            prop_assert_eq!(empty.whole_until_us, None);
            prop_assert_eq!(empty.before_backup.missing, empty.before_backup.acknowledged);
        }

        #[test]
        fn the_lost_span_is_no_longer_than_what_was_written(
            sent in proptest::collection::btree_set(1_u64..3000, 1..60), cut in 0_u64..3000,
        ) {
            let latest = Passage { target_us: None, ..PASSAGE };
            let sent: Vec<u64> = sent.into_iter().collect();
            let there: Vec<u64> = sent.iter().copied().filter(|at| *at < cut).collect();
            let found = of(&sent, &there, &latest);
            let newest = sent.last().copied().unwrap_or(0) + 10;
            prop_assert!(found.lost_us() <= newest);
            prop_assert_eq!(found.lost_us() == 0, there.len() == sent.len());
        }
    }
}
