//! `recovery-time`: from the first injection until clients' requests succeed, and keep succeeding.
//!
//! The bound is on the *client* phase (see [`super::client`]), or on the one that is named; the others are shown as evidence.
//! A named phase that was not seen is inconclusive. Of clients: pass: proven within the bound. Fail: even the most forgiving
//! reading breaks it, or clients were still failing when the load ended. Inconclusive: the generator's own limits,
//! a load that stopped, or a window too short to hold `stableForSeconds` stand between.

use crate::model::{CheckSpec, Finding, RecoveryPhase, RecoveryPhases, Timeline, Verdict};

use super::client::client;
use super::recovery::{STABLE_FOR_SECONDS, phases};
use super::text::{bound, bound_ms, finding, inconclusive, seconds};

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let Some(max_seconds) = bound(spec.max_seconds) else {
        return inconclusive(spec, "maxSeconds is needed");
    };
    let Some(injection_ms) = timeline.injection_ms() else {
        return inconclusive(spec, "no fault was injected");
    };
    let stable_for = bound(spec.stable_for_seconds).unwrap_or(STABLE_FOR_SECONDS);
    if let Some(phase) = spec.phase.filter(|phase| *phase != RecoveryPhase::Client) {
        return of_phase(spec, phase, max_seconds, &phases(timeline, stable_for));
    }
    let max_ms = bound_ms(max_seconds);
    let recovery = client(timeline, injection_ms, bound_ms(stable_for));
    let bounds = format!("at most {max_seconds} s are allowed");
    let (verdict, reason) = match (recovery.proven_ms, recovery.possible_ms) {
        (Some(proven_ms), _) if proven_ms <= max_ms => {
            let when = match proven_ms {
                0 => "clients saw no more errors than in steady state".to_owned(),
                ms => format!("clients recovered {} after injection", seconds(ms)),
            };
            (Verdict::Pass, format!("{when}, {bounds}"))
        }
        (_, None) => (
            Verdict::Fail,
            format!("clients were still failing when the load ended, they never held for {stable_for} s"),
        ),
        (_, Some(possible_ms)) if possible_ms > max_ms => (
            Verdict::Fail,
            format!(
                "clients recovered {} after injection, {bounds}",
                seconds(recovery.proven_ms.unwrap_or(possible_ms))
            ),
        ),
        (Some(proven_ms), Some(_)) => (
            Verdict::Inconclusive,
            format!(
                "clients are only shown to have recovered {} after injection, {bounds}, but the generator's own \
                 limits or silence lie before that",
                seconds(proven_ms)
            ),
        ),
        (None, Some(_)) => (
            Verdict::Inconclusive,
            format!("no {stable_for} s of load until the end of the recovery show that clients succeed"),
        ),
    };
    let stages = format!("injected at {injection_ms} ms: {}", describe(&phases(timeline, stable_for)));
    finding(spec, verdict, reason).with_evidence(recovery.streams.into_iter().chain([stages]))
}

fn of_phase(spec: &CheckSpec, phase: RecoveryPhase, max_seconds: f64, phases: &RecoveryPhases) -> Finding {
    let name = phase.as_str();
    let Some(ms) = phases.of(phase) else {
        return inconclusive(spec, format!("{name} was not seen")).with_evidence([describe(phases)]);
    };
    let verdict = if ms <= bound_ms(max_seconds) { Verdict::Pass } else { Verdict::Fail };
    let reason = format!("{name} {} after injection, at most {max_seconds} s are allowed", seconds(ms));
    finding(spec, verdict, reason).with_evidence([describe(phases)])
}

fn describe(phases: &RecoveryPhases) -> String {
    let named = phases.named();
    let parts =
        named.map(|(name, ms)| format!("{name} {}", ms.map_or("-".to_owned(), |ms| format!("{ms} ms"))));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::ErrorClass::{NotSent, ServerStatus};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, RecoveryPhase};

    fn spec() -> CheckSpec {
        CheckSpec { max_seconds: Some(5.0), ..CheckSpec::new(CheckKind::RecoveryTime) }
    }

    #[test]
    fn judges_when_clients_succeed_again_and_keep_succeeding() {
        let errors = |from, to| Build::steady().errors(from, to, ServerStatus);
        verdicts(
            &spec(),
            [
                ("clients saw nothing", Build::steady(), Pass),
                ("3 s of errors", errors(12_000, 15_000), Pass),
                ("6 s of errors", errors(12_000, 18_000), Fail),
                (
                    "a relapse after the bound",
                    errors(12_000, 14_000).errors(20_000, 21_000, ServerStatus),
                    Fail,
                ),
                ("a relapse in the recovery window", errors(30_000, 31_000), Fail),
                ("never recovered", errors(12_000, 40_000), Fail),
                ("failing again at the end", errors(39_000, 40_000), Fail),
                ("errors of the baseline do not count", errors(1_000, 2_000), Pass),
                ("nothing at all", Build::empty(), Inconclusive),
                ("load stopped at injection", Build::steady().silence(12_000, 40_000), Inconclusive),
                ("load stopped before the end", Build::steady().silence(35_000, 40_000), Inconclusive),
                ("silent for 6 s, then fine", Build::steady().silence(12_000, 18_000), Inconclusive),
                ("failed, then silent", errors(12_000, 14_000).silence(14_000, 40_000), Inconclusive),
                ("no fault", Build::steady().no_faults(), Inconclusive),
            ],
        );
    }

    #[test]
    fn a_phase_may_be_bounded_by_itself() {
        // Killed at 12.0 s: gone at 12.2, another leads at 14.0, endpoints at 15.0, all members back at 18.0.
        for (phase, seen, late) in [
            (RecoveryPhase::Detect, 0.2, 0.1),
            (RecoveryPhase::Elect, 2.0, 1.9),
            (RecoveryPhase::Route, 3.0, 2.9),
            (RecoveryPhase::Redundancy, 6.0, 5.9),
            (RecoveryPhase::Total, 6.0, 5.9),
        ] {
            let within = |max| CheckSpec { max_seconds: Some(max), phase: Some(phase), ..spec() };
            verdicts(&within(seen), [(phase.as_str(), Build::steady(), Pass)]);
            verdicts(&within(late), [(phase.as_str(), Build::steady(), Fail)]);
            let unseen = Build::stack_that_notices_nothing();
            verdicts(&within(60.0), [("nothing of it was seen", unseen, Inconclusive)]);
        }
        let client = CheckSpec { phase: Some(RecoveryPhase::Client), ..spec() };
        verdicts(&client, [("the same as none", Build::steady().errors(12_000, 18_000, ServerStatus), Fail)]);
    }

    #[test]
    fn the_generators_limits_are_neither_charged_nor_forgiven() {
        let errors = || Build::steady().errors(12_000, 18_000, ServerStatus);
        verdicts(
            &spec(),
            [
                ("late only in limited seconds", errors().limited(14_000, 18_000), Inconclusive),
                ("late anyhow", errors().limited(12_000, 14_000), Fail),
                ("never sent for 6 s", Build::steady().errors(12_000, 18_000, NotSent), Inconclusive),
            ],
        );
    }

    #[test]
    fn few_writes_cannot_fail_unnoticed_among_many_reads() {
        // Writes to Redis are 1 of 100 requests: the share of all requests hardly moves.
        let build = || Build::steady().rare_writes();
        verdicts(
            &spec(),
            [
                ("writes succeed", build(), Pass),
                ("writes fail for 10 s", build().failing_redis_writes(12_000, 22_000), Fail),
            ],
        );
    }

    #[test]
    fn a_window_shorter_than_the_stable_time_shows_nothing() {
        let spec = CheckSpec { stable_for_seconds: Some(60.0), ..spec() };
        verdicts(&spec, [("steady", Build::steady(), Inconclusive)]);
        verdicts(&CheckSpec { max_seconds: None, ..spec }, [("no bound", Build::steady(), Inconclusive)]);
    }
}
