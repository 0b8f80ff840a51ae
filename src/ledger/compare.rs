//! The ledger against a direct read of the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{LedgerTotals, OpId, Operation, OperationOutcome, Store};

/// Ids and violations that are kept of each kind.
const EXAMPLES_MAX: usize = 100;

/// What a direct read of a store gave, past every cache and pooler. Kept with the run, so that it can be compared again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Operation id → how often it is there.
    pub counts: BTreeMap<OpId, u64>,
    /// Sums and rules of the store that do not hold, one sentence each.
    pub extra_invariants: Vec<String>,
}

/// Compares the writes to one store with what was found in it.
///
/// Every operation id counts once, however often it was sent: it is ok when any attempt was, else
/// indeterminate when any was, else failed. *Lost* is ok and absent, *duplicated* is present more than once
/// whatever its outcome, *phantom* is failed and present. Ids that this run did not send are
/// somebody else's. An acknowledged write without an id cannot be looked up and is a violation.
#[must_use]
pub fn compare(operations: &[Operation], store: Store, found: &Found) -> LedgerTotals {
    let mut outcomes: BTreeMap<&OpId, OperationOutcome> = BTreeMap::new();
    let mut nameless = 0_u64;
    for operation in operations.iter().filter(|operation| operation.store == Some(store)) {
        let Some(id) = &operation.id else {
            nameless += u64::from(operation.outcome == OperationOutcome::Ok);
            continue;
        };
        let outcome = outcomes.entry(id).or_insert(operation.outcome);
        *outcome = better_known(*outcome, operation.outcome);
    }
    let mut totals = LedgerTotals { sent: outcomes.len() as u64, ..LedgerTotals::default() };
    let (mut lost, mut duplicated, mut phantom) = (Vec::new(), Vec::new(), Vec::new());
    for (id, outcome) in outcomes {
        let times = found.counts.get(id).copied().unwrap_or(0);
        match outcome {
            OperationOutcome::Ok => {
                totals.ok += 1;
                if times == 0 {
                    lost.push(id);
                }
            }
            OperationOutcome::Failed => {
                totals.failed += 1;
                if times > 0 {
                    phantom.push(id);
                }
            }
            OperationOutcome::Indeterminate => {
                totals.indeterminate += 1;
                totals.indeterminate_present += u64::from(times > 0);
            }
        }
        if times > 1 {
            duplicated.push(id);
        }
    }
    for (kind, ids, total) in [
        ("lost", lost, &mut totals.lost),
        ("duplicated", duplicated, &mut totals.duplicated),
        ("phantom", phantom, &mut totals.phantom),
    ] {
        *total = ids.len() as u64;
        totals.examples.extend(ids.into_iter().take(EXAMPLES_MAX).map(|id| format!("{kind} {id}")));
    }
    if nameless > 0 {
        totals.violations.push(format!("{nameless} acknowledged writes carried no operation id"));
    }
    totals.violations.extend(found.extra_invariants.iter().take(EXAMPLES_MAX).cloned());
    totals
}

fn better_known(a: OperationOutcome, b: OperationOutcome) -> OperationOutcome {
    use OperationOutcome::{Failed, Indeterminate, Ok};
    match (a, b) {
        (Ok, _) | (_, Ok) => Ok,
        (Indeterminate, _) | (_, Indeterminate) => Indeterminate,
        (Failed, Failed) => Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{Found, compare};
    use crate::model::OperationOutcome::{Failed, Indeterminate, Ok};
    use crate::model::{LedgerTotals, OpId, Operation, OperationOutcome, Store};

    fn write(id: Option<&str>, store: Store, outcome: OperationOutcome) -> Operation {
        Operation {
            id: id.map(|id| OpId(id.to_owned())),
            step: "shop.buy".into(),
            store: Some(store),
            intended_us: 0,
            sent_us: 0,
            done_us: 1,
            outcome,
            error: None,
            status: None,
        }
    }

    fn found(counts: &[(&str, u64)]) -> Found {
        let counts = counts.iter().map(|(id, times)| (OpId((*id).to_owned()), *times)).collect();
        Found { counts, ..Found::default() }
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
        let there = Found { extra_invariants: vec!["sums differ".into()], ..Found::default() };
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
        let stores = proptest::sample::select(vec![Store::Postgres, Store::Redis]);
        let one = (0..60_u8, stores, any_outcome())
            .prop_map(|(id, store, outcome)| write(Some(&format!("r-{id}")), store, outcome));
        proptest::collection::vec(one, 0..200)
    }

    fn any_found() -> impl Strategy<Value = Found> {
        proptest::collection::btree_map(0..80_u8, 0..4_u64, 0..80).prop_map(|counts| Found {
            counts: counts.into_iter().map(|(id, times)| (OpId(format!("r-{id}")), times)).collect(),
            ..Found::default()
        })
    }

    proptest! {
        #[test]
        fn every_operation_counts_once(operations in any_operations(), there in any_found()) {
            let totals = compare(&operations, Store::Postgres, &there);
            let mine = operations.iter().filter(|operation| operation.store == Some(Store::Postgres));
            let ids: BTreeSet<_> = mine.clone().filter_map(|operation| operation.id.clone()).collect();
            prop_assert_eq!(totals.sent, ids.len() as u64);
            prop_assert_eq!(totals.sent, totals.ok + totals.failed + totals.indeterminate);
            prop_assert!(totals.lost <= totals.ok);
            prop_assert!(totals.phantom <= totals.failed);
            prop_assert!(totals.indeterminate_present <= totals.indeterminate);
            let acknowledged: BTreeSet<_> = mine.filter(|o| o.outcome == Ok).filter_map(|o| o.id.clone()).collect();
            let gone = acknowledged.iter().filter(|id| there.counts.get(id).copied().unwrap_or(0) == 0);
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
            let counts: BTreeMap<_, _> = operations.iter().filter_map(|o| o.id.clone()).map(|id| (id, 1)).collect();
            let all = compare(&operations, Store::Redis, &Found { counts, ..Found::default() });
            prop_assert_eq!((all.lost, all.duplicated), (0, 0));
        }
    }
}
