//! `stays-closed`: what must be refused is refused all along, also while something is broken.
//!
//! Definition: tries, again and again, of doors that must be closed (the probe's list), each with a control at the same time:
//! the same target answers whom it must answer. A refusal without that control may be a dead host's and is not counted.
//! Fail: any try of any door got through, whenever. Pass: every door that was tried at all was seen closed, with its control,
//! in the baseline, in the fault window and in the recovery. Inconclusive: a door was not, or none was tried.

use std::collections::BTreeMap;

use crate::model::{CheckSpec, Finding, Observation, Timeline, Verdict, WindowName};

use super::text::{finding, inconclusive, seconds};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    if timeline.faults.is_empty() {
        return inconclusive(spec, "no fault was injected");
    }
    let mut doors: BTreeMap<&str, Vec<Try>> = BTreeMap::new();
    for (at_ms, seen) in timeline.observations(0) {
        if let Observation::Refusal { what, refused, alive, word } = seen {
            let one = Try { at_ms, refused: *refused, alive: *alive, word };
            doors.entry(what).or_default().push(one);
        }
    }
    if doors.is_empty() {
        return inconclusive(spec, "nothing that must be refused was tried");
    }
    let open = doors.iter().find_map(|(what, tries)| {
        let one = tries.iter().find(|one| !one.refused)?;
        Some(format!("{what} got through at {} ({})", seconds(one.at_ms), one.word))
    });
    let evidence = doors.iter().map(|(what, tries)| {
        let closed = tries.iter().filter(|one| one.refused && one.alive).count();
        let word = tries.last().map_or("", |one| one.word);
        format!("{what}: {} tries, {closed} refused by a living target, last: {word}", tries.len())
    });
    let evidence: Vec<String> = evidence.collect();
    if let Some(reason) = open {
        return finding(spec, Verdict::Fail, reason).with_evidence(evidence);
    }
    let unseen = doors.iter().find_map(|(what, tries)| Some((*what, unseen_in(timeline, tries)?)));
    if let Some((what, window)) = unseen {
        let why = format!("{what} was not seen to be refused by a living target in the {window}");
        return inconclusive(spec, why).with_evidence(evidence);
    }
    let count: usize = doors.values().map(Vec::len).sum();
    let reason = format!(
        "{count} tries of {} closed doors, before, during and after the fault: all refused",
        doors.len()
    );
    finding(spec, Verdict::Pass, reason).with_evidence(evidence)
}

struct Try<'a> {
    at_ms: u64,
    refused: bool,
    alive: bool,
    word: &'a str,
}

fn unseen_in(timeline: &Timeline, tries: &[Try]) -> Option<&'static str> {
    let closed = |window: WindowName| {
        let window = timeline.windows.get(window);
        tries.iter().any(|one| one.refused && one.alive && window.contains_ms(one.at_ms))
    };
    WindowName::ALL.into_iter().find(|window| !closed(*window)).map(WindowName::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, Observation};

    fn tried(build: Build, at_ms: u64, what: &str, refused: bool, alive: bool) -> Build {
        build.see(at_ms, Observation::Refusal { what: what.into(), refused, alive, word: "reset".into() })
    }

    /// Every five seconds.
    fn doors(of: impl Fn(u64) -> (bool, bool)) -> Build {
        (0..8).map(|i| i * 5_000 + 1_000).fold(Build::steady(), |build, at_ms| {
            let (refused, alive) = of(at_ms);
            let build = tried(build, at_ms, "redis to postgres", refused, alive);
            tried(build, at_ms, "plain text to inference", true, true)
        })
    }

    #[test]
    fn one_open_look_is_enough_to_fail_and_a_dead_host_is_not_enough_to_pass() {
        let fault = 12_000..24_000;
        verdicts(
            &CheckSpec::new(CheckKind::StaysClosed),
            [
                ("always refused", doors(|_| (true, true)), Pass),
                ("open once in the fault", doors(|at_ms| (at_ms != 16_000, true)), Fail),
                ("open once in the baseline", doors(|at_ms| (at_ms != 6_000, true)), Fail),
                ("open, whoever else answers", doors(|at_ms| (at_ms != 16_000, false)), Fail),
                ("dead for a while", doors(|at_ms| (true, at_ms != 16_000)), Pass),
                ("dead all through the fault", doors(|at_ms| (true, !fault.contains(&at_ms))), Inconclusive),
                ("never tried", Build::steady(), Inconclusive),
                ("tried once", tried(Build::steady(), 1_000, "x", true, true), Inconclusive),
                ("no fault", doors(|_| (true, true)).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }
}
