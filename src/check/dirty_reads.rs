//! `dirty-reads`: reads that saw what is not there in the end.
//!
//! Definition: reads with a certain answer that saw an object which the store does not hold after the run, or a list that is
//! not the beginning of the list as it is after the run. More than
//! `max` (0 when absent) is a fail. Inconclusive when the store was not read back, no step records what its reads saw, or no
//! such read was answered after the injection.

use crate::model::{CheckSpec, Finding, Timeline};

use super::writes::{Counted, bounded_reads};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    bounded_reads(spec, timeline, |totals| Counted {
        wrong: totals.dirty_reads,
        of: totals.reads,
        what: "reads of",
        after: " saw what is not there in the end",
        kind: "dirty ",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, READS, totals, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, LedgerTotals, Store};

    #[test]
    fn judges_what_reads_saw() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::DirtyReads) };
        let with = |change: fn(&mut LedgerTotals)| Build::steady().ledger(Store::Redis, totals(change));
        verdicts(
            &spec,
            [
                ("none", with(|_| ()), Pass),
                ("one", with(|t| t.dirty_reads = 1), Fail),
                ("lost is another check's", with(|t| t.lost = 1), Pass),
                ("stale is another check's", with(|t| t.stale_reads = 1), Pass),
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
            [("two", with(|t| t.dirty_reads = 2), Pass), ("three", with(|t| t.dirty_reads = 3), Fail)],
        );
    }

    #[test]
    fn a_fail_names_the_ids() {
        let spec = CheckSpec { store: Some(Store::Redis), ..CheckSpec::new(CheckKind::DirtyReads) };
        let wrong = totals(|t| {
            t.dirty_reads = 1;
            t.examples = vec!["lost r-1".into(), "dirty r-7".into()];
        });
        let finding = Build::steady().ledger(Store::Redis, wrong).judge(&spec);
        assert_eq!(finding.evidence, ["dirty r-7: line 8 of operations.jsonl, wanted at 70 ms"]);
        assert_eq!(finding.check, "dirty-reads(redis)");
    }
}
