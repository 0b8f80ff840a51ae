//! One file a check: timeline in, finding out. No I/O, no clock. What a timeline does not carry is
//! inconclusive; nothing passes because nothing was seen.

mod alert_fires;
mod amplification;
mod archive_current;
mod breaker;
mod calls;
mod client;
mod control;
mod degraded;
mod dirty_reads;
mod duplicated_writes;
mod edges;
mod error_rate;
mod evidence;
pub mod gate;
mod hit;
mod impact;
mod latency;
mod looks;
mod lost_writes;
mod places;
mod pods;
mod recovery;
mod recovery_time;
mod redundancy;
mod reordered_writes;
mod replicas_restored;
mod route;
mod scales;
mod single_writer;
mod stale_reads;
mod stays_closed;
mod stop_when;
mod text;
mod writes;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use crate::model::{CheckKind, CheckSpec, Experiment, Finding, LoadSpec, RecoveryPhases, Timeline, Verdict};

pub use control::{against_control, judge_control};
pub use evidence::evidence;
pub use gate::baseline;
pub use impact::impact;
pub use recovery::{STABLE_FOR_SECONDS, phases};
pub use stop_when::broken;

/// One check over one timeline.
#[must_use]
pub fn judge(spec: &CheckSpec, load: &LoadSpec, timeline: &Timeline) -> Finding {
    let window = spec.window.map(|name| timeline.windows.get(name)).unwrap_or_default();
    match spec.check {
        CheckKind::ErrorRate => {
            error_rate::judge(spec, load, timeline).with_evidence(places::not_ok(timeline, window))
        }
        CheckKind::Latency => {
            latency::judge(spec, load, timeline).with_evidence(places::slowest(timeline, window))
        }
        CheckKind::RecoveryTime => recovery_time::judge(spec, timeline),
        CheckKind::LostWrites => lost_writes::judge(spec, timeline),
        CheckKind::DuplicatedWrites => duplicated_writes::judge(spec, timeline),
        CheckKind::ReplicasRestored => replicas_restored::judge(spec, timeline),
        CheckKind::SingleWriter => single_writer::judge(spec, timeline),
        CheckKind::ArchiveCurrent => archive_current::judge(spec, timeline),
        CheckKind::AlertFires => alert_fires::judge(spec, timeline),
        CheckKind::Breaker => breaker::judge(spec, timeline),
        CheckKind::Degraded => degraded::judge(spec, timeline),
        CheckKind::Amplification => amplification::judge(spec, timeline),
        CheckKind::StaysClosed => stays_closed::judge(spec, timeline),
        CheckKind::Scales => scales::judge(spec, timeline),
        CheckKind::StaleReads => stale_reads::judge(spec, timeline),
        CheckKind::DirtyReads => dirty_reads::judge(spec, timeline),
        CheckKind::ReorderedWrites => reordered_writes::judge(spec, timeline),
    }
}

/// Every judgement over one experiment's timeline: first what the evidence does not carry
/// (only what is missing is listed), then one finding a check, and the phases of the recovery.
#[must_use]
pub fn judge_all(experiment: &Experiment, timeline: &Timeline) -> (Vec<Finding>, RecoveryPhases) {
    let mut findings = evidence(experiment, timeline);
    findings.extend(experiment.expect.iter().map(|spec| judge(spec, &experiment.load, timeline)));
    if experiment.expect.is_empty() {
        findings.push(Finding::new("expect", Verdict::Inconclusive, "no check was asked for"));
    }
    (findings, phases(timeline, stable_for_seconds(experiment)))
}

fn stable_for_seconds(experiment: &Experiment) -> f64 {
    let said = experiment.expect.iter().find_map(|spec| spec.stable_for_seconds);
    said.unwrap_or(STABLE_FOR_SECONDS)
}

/// How finely the load could see what clients went through; absent when nothing was injected.
#[must_use]
pub fn resolution_ms(experiment: &Experiment, timeline: &Timeline) -> Option<u64> {
    let injection_ms = timeline.injection_ms()?;
    client::client(timeline, injection_ms, text::bound_ms(stable_for_seconds(experiment))).resolution_ms
}

/// What a check judges, for `mettle list checks`.
#[must_use]
pub fn describe(kind: CheckKind) -> &'static str {
    match kind {
        CheckKind::ErrorRate => "share of requests in a window that were not ok (maxPercent, minPercent)",
        CheckKind::Latency => {
            "a quantile from the intended time, against a bound or the baseline (maxMs, minMs, maxRatioToBaseline)"
        }
        CheckKind::RecoveryTime => {
            "time from injection until clients succeed again and keep succeeding (maxSeconds)"
        }
        CheckKind::LostWrites => "acknowledged writes that a direct read of the store does not find (max)",
        CheckKind::DuplicatedWrites => "writes that the store holds more than once (max)",
        CheckKind::SingleWriter => {
            "no two members of a component take writes of the same data at once (maxSeconds)"
        }
        CheckKind::ArchiveCurrent => {
            "what PostgreSQL writes goes on reaching its archive, and nothing is stuck on its way (maxSeconds)"
        }
        CheckKind::ReplicasRestored => "every member of a component back and in sync (maxSeconds)",
        CheckKind::AlertFires => {
            "an alert fires after the injection, reaches Alertmanager, and is over after the revert (alert, maxSeconds, resolvedMaxSeconds)"
        }
        CheckKind::Breaker => {
            "the callers' proxies cut a component off while it fails, and take it back (component, opensWithinSeconds, closesWithinSeconds)"
        }
        CheckKind::Degraded => {
            "share of a step's requests that were answered with less, and answered (step, window, minPercent)"
        }
        CheckKind::Amplification => {
            "calls of a component for each request of users, at most so many, or against the baseline (component, window, maxPerRequest, maxRatio)"
        }
        CheckKind::Scales => {
            "an autoscaler adds replicas for the load's step and takes them away after it (component, outWithinSeconds, inWithinSeconds)"
        }
        CheckKind::StaysClosed => "what must be refused is refused before, during and after the fault",
        CheckKind::StaleReads => "reads that lacked what had been acknowledged before they began (max)",
        CheckKind::DirtyReads => "reads that saw what is not in the store in the end (max)",
        CheckKind::ReorderedWrites => "writes that stand in their list before older ones (max)",
    }
}
