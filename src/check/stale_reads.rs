//! `stale-reads`: reads that lacked what had been acknowledged before they began.
//!
//! Definition: reads with a certain answer, of one object by the id that a write gave or of a whole list, that were sent after
//! a write was acknowledged which they lack, and which the store has after the run. (What it does not have is lost.) More than
//! `max` (0 when absent) is a fail. Inconclusive when the store was not read back, no step records what its reads saw, or no
//! such read was answered after the injection.

use crate::model::{CheckSpec, Finding, Timeline};

use super::writes::{Counted, bounded_reads};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    bounded_reads(spec, timeline, |totals| Counted {
        wrong: totals.stale_reads,
        of: totals.reads,
        what: "reads of",
        after: " lacked what was acknowledged before they began",
        kind: "stale ",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, READS, totals, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, LedgerTotals, Store};

    #[test]
    fn judges_what_reads_saw() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::StaleReads) };
        let with = |change: fn(&mut LedgerTotals)| Build::steady().ledger(Store::Redis, totals(change));
        verdicts(
            &spec,
            [
                ("none", with(|_| ()), Pass),
                ("one", with(|t| t.stale_reads = 1), Fail),
                ("lost is another check's", with(|t| t.lost = 1), Pass),
                ("dirty is another check's", with(|t| t.dirty_reads = 1), Pass),
                ("no read was judged", with(|t| t.reads = 0), Inconclusive),
                ("one read was not judged", with(|t| t.reads = READS - 1), Inconclusive),
                ("no read was recorded", with(|_| ()).no_reads(), Inconclusive),
                ("no read after the fault", with(|_| ()).silence(12_000, 40_000), Inconclusive),
                ("no fault", with(|_| ()).no_faults(), Inconclusive),
                ("not read back", Build::steady().no_ledger(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
        let lenient = CheckSpec { max: Some(2), ..spec };
        verdicts(
            &lenient,
            [("two", with(|t| t.stale_reads = 2), Pass), ("three", with(|t| t.stale_reads = 3), Fail)],
        );
    }

    #[test]
    fn a_fail_names_the_ids() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::StaleReads) };
        let wrong = totals(|t| {
            t.stale_reads = 1;
            t.examples = vec!["lost r-1".into(), "stale r-7".into()];
        });
        let finding = Build::steady().ledger(Store::Redis, wrong).judge(&spec);
        assert_eq!(finding.evidence, ["stale r-7: line 8 of operations.jsonl, wanted at 70 ms"]);
        assert_eq!(finding.check, "stale-reads(redis)");
    }
}
