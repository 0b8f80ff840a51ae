//! `reordered-writes`: writes that stand before one that was acknowledged before they were sent.
//!
//! Definition: operation ids in a list of a store that keeps an order, in whose list something later was acknowledged before
//! they were sent. More than `max` (0 when absent) is a fail; so is a store that contradicts itself. Inconclusive as for
//! `lost-writes`, and for a store that promises no order.

use crate::model::{CheckSpec, Finding, Timeline};

use super::text::inconclusive;
use super::writes::{Counted, bounded};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    if let Some(store) = spec.store.filter(|store| !store.keeps_order()) {
        return inconclusive(spec, format!("{} promises no order", store.as_str()));
    }
    bounded(spec, timeline, |totals| Counted {
        wrong: totals.reordered,
        of: totals.sent,
        what: "writes are in",
        after: " before older ones",
        kind: "reordered ",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, totals, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, LedgerTotals, Store};

    #[test]
    fn judges_what_stands_before_older_writes() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::ReorderedWrites) };
        let with = |change: fn(&mut LedgerTotals)| Build::steady().ledger(Store::Redis, totals(change));
        verdicts(
            &spec,
            [
                ("in order", with(|_| ()), Pass),
                ("one", with(|t| t.reordered = 1), Fail),
                ("lost is another check's", with(|t| t.lost = 1), Pass),
                ("the store contradicts itself", with(|t| t.violations = vec!["sums differ".into()]), Fail),
                ("nothing was acknowledged", with(|t| t.ok = 0), Inconclusive),
                ("not read back", Build::steady().no_ledger(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let lenient = CheckSpec { max: Some(2), ..spec.clone() };
        verdicts(
            &lenient,
            [("two", with(|t| t.reordered = 2), Pass), ("three", with(|t| t.reordered = 3), Fail)],
        );
        let orderless = CheckSpec { store: Some(Store::Postgres), ..spec };
        verdicts(&orderless, [("a table has no order", with(|_| ()), Inconclusive)]);
    }
}
