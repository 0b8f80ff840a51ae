//! `archive-current`: what the database writes went on reaching its archive, and nothing is stuck on its way there.
//!
//! A restore goes no further than the archive does, and a file that the archive refuses is tried again for ever while nothing after
//! it gets in: no client notices. Judged is the word of the member that takes writes (PostgreSQL: `pg_stat_archiver`, and the
//! files of `pg_wal/archive_status` that wait). What the archive does with a file that it took is shown by a drill only.
//!
//! Fail: at the end of the recovery the first file that waits has been the first for longer than `maxSeconds`, whenever that
//! began. Inconclusive: the probe was silent for 5 s of the recovery; at its end no single member said that it takes writes, or
//! it may not be asked; no file was given to the archive after the injection, so nothing shows that one can be.

use crate::model::{CheckSpec, Component, Finding, Observation, Timeline, Verdict};

use super::hit::Hit;
use super::looks::Looks;
use super::text::{bound, bound_ms, finding, inconclusive, seconds};

/// The word of one member, when there was one that could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word<'a> {
    at_ms: u64,
    pod: &'a str,
    archived: u64,
    waiting: u64,
    first: Option<&'a str>,
}

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let Some(max_seconds) = bound(spec.max_seconds) else {
        return inconclusive(spec, "maxSeconds is needed");
    };
    let Some(hit) = Hit::of(timeline) else {
        return inconclusive(spec, "no fault was injected");
    };
    let recovery = timeline.windows.recovery;
    if !Looks::of(timeline, Component::Postgres.as_str()).whole(recovery.start_ms, recovery.end_ms) {
        return inconclusive(spec, "nobody looked at postgres all through the recovery");
    }
    let (words, known) = words(timeline, recovery.end_ms);
    let Some(last) = words.last().filter(|_| known) else {
        return inconclusive(spec, "in the end no single member of postgres told what of its archive waits");
    };
    if let Some(first) = last.first {
        let waited_ms = recovery.end_ms.saturating_sub(since_ms(&words));
        let (waited, waiting, pod) = (seconds(waited_ms), last.waiting, last.pod);
        let waits = format!(
            "{pod}: {first} was first in the queue for the archive for the last {waited}, {max_seconds} s are allowed; {waiting} waited"
        );
        let verdict = if waited_ms > bound_ms(max_seconds) { Verdict::Fail } else { Verdict::Inconclusive };
        return finding(spec, verdict, waits);
    }
    let pod = last.pod;
    match archived_since(&words, pod, hit.injection_ms) {
        0 => inconclusive(spec, format!("{pod} gave nothing to the archive after the injection")),
        files => finding(
            spec,
            Verdict::Pass,
            format!("{pod} gave {files} files to the archive after the injection, and none waits"),
        ),
    }
}

/// What was said until then, and whether the last look had an answer.
fn words(timeline: &Timeline, end_ms: u64) -> (Vec<Word<'_>>, bool) {
    let (mut words, mut known) = (Vec::new(), false);
    for (at_ms, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < end_ms) {
        let Observation::Archive { component: Component::Postgres, pod, archived, waiting, first } =
            observation
        else {
            continue;
        };
        known = pod.is_some();
        words.extend(pod.as_deref().map(|pod| Word {
            at_ms,
            pod,
            archived: *archived,
            waiting: *waiting,
            first: first.as_deref(),
        }));
    }
    (words, known)
}

/// Since when the same file is the first at the same member. A look without an answer in between makes no difference.
fn since_ms(words: &[Word<'_>]) -> u64 {
    let Some(last) = words.last() else { return 0 };
    let same = words.iter().rev().take_while(|word| (word.pod, word.first) == (last.pod, last.first));
    same.last().map_or(last.at_ms, |word| word.at_ms)
}

/// Files that a member was seen to give to the archive after a moment.
fn archived_since(words: &[Word<'_>], pod: &str, after_ms: u64) -> u64 {
    let said: Vec<&Word<'_>> = words.iter().filter(|word| word.pod == pod).collect();
    let pairs = said.windows(2).filter(|pair| pair[1].at_ms > after_ms);
    pairs.map(|pair| pair[1].archived.saturating_sub(pair[0].archived)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, Component, Observation};

    fn spec() -> CheckSpec {
        CheckSpec { max_seconds: Some(10.0), ..CheckSpec::new(CheckKind::ArchiveCurrent) }
    }

    /// Moment, pod, files archived, the file that waits.
    type Said = (u64, Option<&'static str>, u64, Option<&'static str>);

    fn said(words: &[Said]) -> Build {
        let build = Build::steady().beats("postgres", 0, 40_000);
        words.iter().fold(build, |build, (at_ms, pod, archived, first)| {
            let (pod, first) = (pod.map(str::to_owned), first.map(str::to_owned));
            let (component, archived, waiting) = (Component::Postgres, *archived, u64::from(first.is_some()));
            build.see(*at_ms, Observation::Archive { component, pod, archived, waiting, first })
        })
    }

    const OLD: Said = (100, Some("postgres-0"), 7, None);
    const GONE: Said = (12_300, None, 0, None);
    const NEW: Said = (14_000, Some("postgres-1"), 2, Some("00000002.history"));

    #[test]
    fn judges_whether_what_was_written_reached_the_archive() {
        let new = |at_ms, archived, first| (at_ms, Some("postgres-1"), archived, first);
        verdicts(
            &spec(),
            [
                ("a failover", said(&[OLD, GONE, NEW, new(15_000, 4, None)]), Pass),
                ("stuck since", said(&[OLD, GONE, NEW, new(15_000, 3, Some("3C"))]), Fail),
                ("stuck before it", said(&[(100, Some("postgres-0"), 7, Some("3C"))]), Fail),
                (
                    "stuck, more come",
                    said(&[OLD, NEW, new(20_000, 3, Some("3C")), new(35_000, 3, Some("3C"))]),
                    Fail,
                ),
                (
                    "stuck, and once without an answer",
                    said(&[
                        OLD,
                        NEW,
                        new(20_000, 3, Some("3C")),
                        (35_000, None, 0, None),
                        new(36_000, 3, Some("3C")),
                    ]),
                    Fail,
                ),
                ("waits, but not for long", said(&[OLD, NEW, new(35_000, 3, Some("3C"))]), Inconclusive),
                (
                    "stuck for a while",
                    said(&[OLD, NEW, new(15_000, 3, Some("3C")), new(35_000, 4, None)]),
                    Pass,
                ),
                ("nothing went in", said(&[OLD, GONE, (14_000, Some("postgres-1"), 2, None)]), Inconclusive),
                ("only before the fault", said(&[OLD, (9_000, Some("postgres-0"), 8, None)]), Inconclusive),
                (
                    "the old one gave, the new one did not",
                    said(&[
                        OLD,
                        (12_100, Some("postgres-0"), 8, None),
                        (14_000, Some("postgres-1"), 2, None),
                    ]),
                    Inconclusive,
                ),
                ("statistics were lost", said(&[OLD, (13_000, Some("postgres-0"), 0, None)]), Inconclusive),
                (
                    "lost, then more",
                    said(&[
                        OLD,
                        (13_000, Some("postgres-0"), 0, None),
                        (15_000, Some("postgres-0"), 1, None),
                    ]),
                    Pass,
                ),
                (
                    "no answer in the end",
                    said(&[OLD, NEW, new(15_000, 4, None), (39_000, None, 0, None)]),
                    Inconclusive,
                ),
                ("nothing was said", said(&[]), Inconclusive),
                (
                    "the probe died",
                    said(&[OLD, NEW, new(15_000, 4, None)]).probes_until(30_000),
                    Inconclusive,
                ),
                ("no fault", said(&[OLD, NEW, new(15_000, 4, None)]).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }
}
