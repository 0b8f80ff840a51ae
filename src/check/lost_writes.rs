//! `lost-writes`: writes that were acknowledged and are not in the store when it is read directly.
//!
//! Definition: operation ids with at least one ok answer that the store does not hold after the run.
//! More than `max` (0 when absent) is a fail; so is a store that contradicts itself. Inconclusive when the
//! store was not read back, nothing was acknowledged, or nothing was acknowledged before the injection.

use crate::model::{CheckSpec, Finding, Timeline};

use super::writes::{Counted, bounded};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    bounded(spec, timeline, |totals| Counted {
        wrong: totals.lost,
        of: totals.ok,
        what: "acknowledged writes are not in",
        after: "",
        kind: "lost ",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, totals, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, LedgerTotals, Store};

    #[test]
    fn judges_what_was_acknowledged_and_is_gone() {
        let spec = CheckSpec { store: Some(Store::Postgres), ..CheckSpec::new(CheckKind::LostWrites) };
        let with = |change: fn(&mut LedgerTotals)| Build::steady().ledger(Store::Postgres, totals(change));
        verdicts(
            &spec,
            [
                ("all are there", with(|_| ()), Pass),
                ("one is gone", with(|t| t.lost = 1), Fail),
                ("doubled is another check's", with(|t| t.duplicated = 1), Pass),
                ("the store contradicts itself", with(|t| t.violations = vec!["sums differ".into()]), Fail),
                ("nothing was acknowledged", with(|t| t.ok = 0), Inconclusive),
                ("the ledger is of fewer writes", with(|t| t.sent = 399), Inconclusive),
                ("not read back", Build::steady().no_ledger(), Inconclusive),
                (
                    "only the other store",
                    Build::steady().no_ledger().ledger(Store::Redis, totals(|_| ())),
                    Inconclusive,
                ),
                ("nothing before the fault", with(|_| ()).silence(0, 14_000), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let lenient = CheckSpec { max: Some(2), ..spec };
        verdicts(&lenient, [("two", with(|t| t.lost = 2), Pass), ("three", with(|t| t.lost = 3), Fail)]);
        let nowhere = CheckSpec::new(CheckKind::LostWrites);
        verdicts(&nowhere, [("no store", Build::steady(), Inconclusive)]);
    }

    #[test]
    fn a_fail_names_the_ids() {
        let spec = CheckSpec { store: Some(Store::Postgres), ..CheckSpec::new(CheckKind::LostWrites) };
        let lost = totals(|t| {
            t.lost = 1;
            t.examples = vec!["duplicated r-1".into(), "lost r-7".into()];
        });
        let finding = Build::steady().ledger(Store::Postgres, lost).judge(&spec);
        assert_eq!(finding.evidence, ["lost r-7: line 8 of operations.jsonl, wanted at 70 ms"]);
        assert_eq!(finding.check, "lost-writes(postgres)");
    }
}
