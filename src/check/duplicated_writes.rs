//! `duplicated-writes`: writes that the store holds, or counted, more than once.
//!
//! Definition: operation ids, whatever their outcome, that a direct read finds more than once. More than
//! `max` (0 when absent) is a fail; so is a store that contradicts itself. Inconclusive as for `lost-writes`.

use crate::model::{CheckSpec, Finding, Timeline};

use super::writes::{Counted, bounded};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    bounded(spec, timeline, |totals| Counted {
        wrong: totals.duplicated,
        of: totals.sent,
        what: "writes are in",
        after: " more than once",
        kind: "duplicated ",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, totals, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, LedgerTotals, Store};

    #[test]
    fn judges_what_is_there_more_than_once() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::DuplicatedWrites) };
        let with = |change: fn(&mut LedgerTotals)| Build::steady().ledger(Store::Redis, totals(change));
        verdicts(
            &spec,
            [
                ("once each", with(|_| ()), Pass),
                ("one twice", with(|t| t.duplicated = 1), Fail),
                ("lost is another check's", with(|t| t.lost = 1), Pass),
                ("the store contradicts itself", with(|t| t.violations = vec!["sums differ".into()]), Fail),
                ("nothing was acknowledged", with(|t| t.ok = 0), Inconclusive),
                ("not read back", Build::steady().no_ledger(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let lenient = CheckSpec { max: Some(2), ..spec };
        verdicts(
            &lenient,
            [("two", with(|t| t.duplicated = 2), Pass), ("three", with(|t| t.duplicated = 3), Fail)],
        );
    }
}
