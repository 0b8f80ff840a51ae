//! The ledger against a direct read of the store.

use super::Found;
use super::history::history;
use super::writes::Writes;
use crate::model::{LedgerTotals, OpId, Operation, OperationOutcome, Store};

/// Ids and violations that are kept of each kind.
pub(super) const EXAMPLES_MAX: usize = 100;

/// Compares the writes to one store, and the reads of it, with what was found in it.
///
/// Every operation id counts once, however often it was sent: it is ok when any attempt was, else
/// indeterminate when any was, else failed. *Lost* is ok and absent, *duplicated* is present more than once
/// whatever its outcome, *phantom* is failed and present. Ids that this run did not send are
/// somebody else's. An acknowledged write without an id cannot be looked up and is a violation. What reads saw is
/// [`super::history`]'s.
#[must_use]
pub fn compare(operations: &[Operation], store: Store, found: &Found) -> LedgerTotals {
    let writes = Writes::of(operations, store);
    let mut totals = LedgerTotals::default();
    let (mut lost, mut duplicated, mut phantom) =
        (Kind::new("lost"), Kind::new("duplicated"), Kind::new("phantom"));
    // Both ascend, so one pass over each is enough.
    let mut there = found.ids();
    for write in writes.iter() {
        let before = there.iter().take_while(|id| **id < write.id).count();
        let times = there[before..].iter().take_while(|id| **id == write.id).count();
        there = &there[before + times..];
        totals.sent += 1;
        match write.outcome {
            OperationOutcome::Ok => {
                totals.ok += 1;
                lost.count_if(times == 0, write.id);
            }
            OperationOutcome::Failed => {
                totals.failed += 1;
                phantom.count_if(times > 0, write.id);
            }
            OperationOutcome::Indeterminate => {
                totals.indeterminate += 1;
                totals.indeterminate_present += u64::from(times > 0);
            }
        }
        duplicated.count_if(times > 1, write.id);
    }
    let history = history(operations, store, found, &writes);
    (totals.lost, totals.duplicated, totals.phantom) = (lost.total, duplicated.total, phantom.total);
    (totals.reads, totals.never_read) = (history.reads, history.never_read);
    (totals.stale_reads, totals.dirty_reads) = (history.stale.total, history.dirty.total);
    totals.reordered = history.reordered.total;
    for kind in [lost, duplicated, phantom, history.stale, history.dirty, history.reordered] {
        totals.examples.extend(kind.examples.iter().map(|id| format!("{} {id}", kind.name)));
    }
    if writes.nameless > 0 {
        totals.violations.push(format!("{} acknowledged writes carried no operation id", writes.nameless));
    }
    totals.violations.extend(found.extra_invariants.iter().take(EXAMPLES_MAX).cloned());
    totals
}

/// How often one thing went wrong, with the first ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub name: &'static str,
    pub total: u64,
    pub examples: Vec<OpId>,
}

impl Kind {
    pub fn new(name: &'static str) -> Self {
        Self { name, total: 0, examples: Vec::new() }
    }

    pub fn count_if(&mut self, wrong: bool, id: OpId) {
        if wrong {
            self.count(id);
        }
    }

    pub fn count(&mut self, id: OpId) {
        self.total += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Found, compare};
    use crate::model::OperationOutcome::{Failed, Indeterminate, Ok};
    use crate::model::{LedgerTotals, OpId, Operation, OperationOutcome, Store};

    fn write(id: Option<&str>, store: Store, outcome: OperationOutcome) -> Operation {
        Operation {
            id: id.map(OpId::new),
            step: "shop.buy".into(),
            writes: store.into(),
            reads: None,
            intended_us: 0,
            sent_us: 0,
            done_us: 1,
            outcome,
            error: None,
            status: None,
            degraded: false,
            seen: None,
        }
    }

    fn found(counts: &[(&str, usize)]) -> Found {
        Found::of_ids(counts.iter().flat_map(|(id, times)| vec![OpId::new(id); *times]).collect())
    }

    fn sample() -> Vec<Operation> {
        let postgres = |id, outcome| write(Some(id), Store::Postgres, outcome);
        vec![
            postgres("kept", Ok),
            postgres("lost", Ok),
            postgres("twice", Ok),
            postgres("refused", Failed),
            postgres("ghost", Failed),
            postgres("unknown-there", Indeterminate),
            postgres("unknown-gone", Indeterminate),
            // Sent again under the same id after the answer was cut off.
            postgres("retried", Indeterminate),
            postgres("retried", Ok),
            write(Some("elsewhere"), Store::Redis, Ok),
        ]
    }

    #[test]
    fn every_kind_is_told_apart() {
        let there = found(&[("kept", 1), ("twice", 2), ("ghost", 1), ("unknown-there", 1), ("stranger", 7)]);
        let expected = LedgerTotals {
            sent: 8,
            ok: 4,
            failed: 2,
            indeterminate: 2,
            lost: 2,
            duplicated: 1,
            phantom: 1,
            indeterminate_present: 1,
            reads: 0,
            stale_reads: 0,
            dirty_reads: 0,
            reordered: 0,
            never_read: 0,
            examples: ["lost lost", "lost retried", "duplicated twice", "phantom ghost"]
                .map(str::to_owned)
                .to_vec(),
            violations: Vec::new(),
        };
        assert_eq!(compare(&sample(), Store::Postgres, &there), expected);
    }

    #[test]
    fn what_cannot_be_looked_up_is_a_violation() {
        let operations = [write(None, Store::Redis, Ok), write(None, Store::Redis, Failed)];
        let there = Found::default().with_violations(["sums differ".to_owned()]);
        let totals = compare(&operations, Store::Redis, &there);
        assert_eq!(totals.violations, ["1 acknowledged writes carried no operation id", "sums differ"]);
    }

    #[test]
    fn examples_are_bounded_and_totals_are_not() {
        let ids: Vec<String> = (0..250).map(|index| format!("r-{index:03}")).collect();
        let operations: Vec<_> = ids.iter().map(|id| write(Some(id), Store::Redis, Ok)).collect();
        let totals = compare(&operations, Store::Redis, &Found::default());
        assert_eq!((totals.lost, totals.examples.len()), (250, 100));
    }

    fn any_outcome() -> impl Strategy<Value = OperationOutcome> {
        proptest::sample::select(vec![Ok, Failed, Indeterminate])
    }

    fn any_operations() -> impl Strategy<Value = Vec<Operation>> {
        let stores = proptest::sample::select(Store::ALL.to_vec());
        let one = (0..60_u8, stores, any_outcome())
            .prop_map(|(id, store, outcome)| write(Some(&format!("r-{id}")), store, outcome));
        proptest::collection::vec(one, 0..200)
    }

    fn any_found() -> impl Strategy<Value = Found> {
        proptest::collection::btree_map(0..80_u8, 0..4_usize, 0..80).prop_map(|counts| {
            let ids = counts.into_iter().flat_map(|(id, times)| vec![OpId::new(&format!("r-{id}")); times]);
            Found::of_ids(ids.collect())
        })
    }

    proptest! {
        #[test]
        fn every_operation_counts_once(operations in any_operations(), there in any_found()) {
            let totals = compare(&operations, Store::Postgres, &there);
            let mine = operations.iter().filter(|operation| operation.writes.contains(Store::Postgres));
            let ids: BTreeSet<_> = mine.clone().filter_map(|operation| operation.id).collect();
            prop_assert_eq!(totals.sent, ids.len() as u64);
            prop_assert_eq!(totals.sent, totals.ok + totals.failed + totals.indeterminate);
            prop_assert!(totals.lost <= totals.ok);
            prop_assert!(totals.phantom <= totals.failed);
            prop_assert!(totals.indeterminate_present <= totals.indeterminate);
            let acknowledged: BTreeSet<_> = mine.filter(|o| o.outcome == Ok).filter_map(|o| o.id).collect();
            let gone = acknowledged.iter().filter(|id| there.times(**id) == 0);
            prop_assert_eq!(totals.lost, gone.count() as u64);
        }

        #[test]
        fn the_order_does_not_matter(operations in any_operations(), there in any_found()) {
            let reversed: Vec<_> = operations.iter().rev().cloned().collect();
            prop_assert_eq!(
                compare(&operations, Store::Redis, &there),
                compare(&reversed, Store::Redis, &there)
            );
        }

        #[test]
        fn an_empty_store_lost_everything_and_a_full_one_nothing(operations in any_operations()) {
            let nothing = compare(&operations, Store::Redis, &Found::default());
            prop_assert_eq!(nothing.lost, nothing.ok);
            let ids: BTreeSet<_> = operations.iter().filter_map(|o| o.id).collect();
            let all = compare(&operations, Store::Redis, &Found::of_ids(ids.into_iter().collect()));
            prop_assert_eq!((all.lost, all.duplicated), (0, 0));
        }
    }
}
