//! `single-writer`: of no scope (a database, a shard, an ensemble) did two members say at the same time that they take
//! writes.
//!
//! Judges `component`, or every component that a fault hit and whose members say so (PostgreSQL: the server is not in
//! recovery; Redis: it owns the slots and its cluster state is ok; ZooKeeper: it leads).
//!
//! Definition. *At the same time*: the same two at two looks in a row. Within one look members are asked side by side,
//! and one that hands over in the middle of it can be heard before, the other after; at the second look the first has said it
//! again after the second had. The overlap lasts from the first to the last look of such a row, and may last `maxSeconds`
//! (0 when absent: no row at all). From the start of the baseline to the end of the recovery.
//!
//! Fail: an overlap is longer. Inconclusive: nobody looked for 10 s of the fault or of the recovery; a scope that had a
//! writer before the fault had none in the recovery, so nothing shows that one would have been seen; a member that was cut
//! off the network was cut off from us too, so what it said there is not known.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    CheckSpec, Component, FaultKind, Finding, Observation, Timeline, Verdict, Window, WindowName,
};

use super::hit::Hit;
use super::text::{bound, bound_ms, finding, inconclusive, seconds};

const GAP_MS: u64 = 10_000;
/// Lines of evidence.
const OVERLAPS_MAX: usize = 10;

/// The same two or more, at looks in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlap {
    scope: String,
    pods: BTreeSet<String>,
    first_ms: u64,
    last_ms: u64,
    looks: u32,
}

pub(super) fn judge(spec: &CheckSpec, timeline: &Timeline) -> Finding {
    let Some(hit) = Hit::of(timeline) else {
        return inconclusive(spec, "no fault was injected");
    };
    let says = |component: &Component| writers(timeline, *component).next().is_some();
    let components: Vec<Component> = match spec.component {
        Some(component) => vec![component],
        None => hit.components.iter().copied().filter(says).collect(),
    };
    if components.is_empty() {
        return inconclusive(spec, "of no component that was hit do the members say who takes writes");
    }
    let max_ms = bound(spec.max_seconds).map_or(0, bound_ms);
    let judged: Vec<(Verdict, String, Vec<String>)> =
        components.iter().map(|component| one(timeline, &hit, *component, max_ms)).collect();
    let verdict = Verdict::worst(judged.iter().map(|(verdict, ..)| *verdict));
    let reasons: Vec<&str> =
        judged.iter().filter(|(of, ..)| *of == verdict).map(|(_, reason, _)| reason.as_str()).collect();
    let evidence = judged.iter().flat_map(|(.., lines)| lines.clone());
    finding(spec, verdict, reasons.join("; ")).with_evidence(evidence)
}

fn one(timeline: &Timeline, hit: &Hit, component: Component, max_ms: u64) -> (Verdict, String, Vec<String>) {
    let overlaps = overlaps(timeline, component);
    let lines: Vec<String> = overlaps.iter().take(OVERLAPS_MAX).map(describe).collect();
    let rows = overlaps.iter().filter(|overlap| overlap.looks > 1);
    let worst = rows.max_by_key(|overlap| overlap.last_ms - overlap.first_ms);
    let too_long = worst.filter(|overlap| max_ms == 0 || overlap.last_ms - overlap.first_ms > max_ms);
    if let Some(overlap) = too_long {
        let allowed = if max_ms == 0 { String::new() } else { format!(", {} are allowed", seconds(max_ms)) };
        let reason = format!("{component}: two members took writes at once: {}{allowed}", describe(overlap));
        return (Verdict::Fail, reason, lines);
    }
    match unseen(timeline, hit, component) {
        Some(why) => (Verdict::Inconclusive, format!("{component}: {why}"), lines),
        None => (Verdict::Pass, format!("{component}: never two writers at two looks in a row"), lines),
    }
}

fn describe(overlap: &Overlap) -> String {
    let pods: Vec<&str> = overlap.pods.iter().map(String::as_str).collect();
    let (scope, from, to) = (&overlap.scope, seconds(overlap.first_ms), seconds(overlap.last_ms));
    match overlap.looks {
        1 => format!("{scope}: {} at one look, at {from}", pods.join(" and ")),
        looks => format!("{scope}: {} at {looks} looks, from {from} to {to}", pods.join(" and ")),
    }
}

fn writers(timeline: &Timeline, of: Component) -> impl Iterator<Item = (u64, &String, &Vec<String>)> {
    timeline.observations(0).filter_map(move |(at_ms, observation)| match observation {
        Observation::Writers { component, scope, pods } if *component == of => Some((at_ms, scope, pods)),
        _ => None,
    })
}

/// More than one are told at every look, one or none when it changes: so events of a scope that follow each other with two
/// are looks in a row.
fn overlaps(timeline: &Timeline, component: Component) -> Vec<Overlap> {
    let span =
        Window { start_ms: timeline.windows.baseline.start_ms, end_ms: timeline.windows.recovery.end_ms };
    let mut open: BTreeMap<&String, Overlap> = BTreeMap::new();
    let mut done = Vec::new();
    for (at_ms, scope, pods) in writers(timeline, component).filter(|(at_ms, ..)| span.contains_ms(*at_ms)) {
        let pods: BTreeSet<String> = pods.iter().cloned().collect();
        let former = open.remove(scope);
        let still: BTreeSet<String> =
            former.iter().flat_map(|former| former.pods.intersection(&pods)).cloned().collect();
        match former {
            Some(former) if still.len() > 1 => {
                let looks = former.looks + 1;
                open.insert(scope, Overlap { pods: still, last_ms: at_ms, looks, ..former });
                continue;
            }
            former => done.extend(former),
        }
        if pods.len() > 1 {
            let overlap = Overlap { scope: scope.clone(), pods, first_ms: at_ms, last_ms: at_ms, looks: 1 };
            open.insert(scope, overlap);
        }
    }
    done.extend(open.into_values());
    done.sort_by_key(|overlap| overlap.first_ms);
    done
}

/// Why an overlap could have gone unseen.
fn unseen(timeline: &Timeline, hit: &Hit, component: Component) -> Option<String> {
    for name in [WindowName::Fault, WindowName::Recovery] {
        if let Some(gap_ms) = gap(timeline, component, timeline.windows.get(name)) {
            return Some(format!("nobody looked for {} of the {}", seconds(gap_ms), name.as_str()));
        }
    }
    let before = |at_ms: u64| at_ms < hit.injection_ms;
    let mut had: BTreeMap<&String, bool> = BTreeMap::new();
    for (_, scope, pods) in writers(timeline, component).filter(|(at_ms, ..)| before(*at_ms)) {
        had.insert(scope, !pods.is_empty());
    }
    had.retain(|_, writer| *writer);
    if had.is_empty() {
        return Some("no member said that it takes writes before the fault".to_owned());
    }
    let recovery = timeline.windows.recovery;
    for (scope, _) in had {
        let of_scope =
            writers(timeline, component).filter(|(at_ms, of, _)| *of == scope && *at_ms < recovery.end_ms);
        // What was said last before the window still holds in it.
        let mut heard = false;
        for (at_ms, _, pods) in of_scope {
            heard = if at_ms < recovery.start_ms { !pods.is_empty() } else { heard || !pods.is_empty() };
        }
        if !heard {
            return Some(format!("no member of {scope} said that it takes writes in the recovery"));
        }
    }
    cut_off(timeline, component)
}

/// The longest time without a look, when it is too long.
fn gap(timeline: &Timeline, component: Component, window: Window) -> Option<u64> {
    let mut last_ms = window.start_ms;
    let mut gap_ms = 0;
    for (at_ms, observation) in
        timeline.observations(window.start_ms).filter(|(at_ms, _)| *at_ms < window.end_ms)
    {
        if matches!(observation, Observation::Heartbeat { probe } if probe == component.as_str()) {
            gap_ms = gap_ms.max(at_ms - last_ms);
            last_ms = at_ms;
        }
    }
    let none = last_ms == window.start_ms;
    gap_ms = gap_ms.max(window.end_ms.saturating_sub(last_ms));
    (none || gap_ms > GAP_MS).then_some(gap_ms)
}

/// A member that was cut off, and did not answer us either when the cut ended.
fn cut_off(timeline: &Timeline, component: Component) -> Option<String> {
    let cuts = timeline.faults.iter().filter(|fault| cuts(fault.kind));
    let hit = Hit::of_faults(timeline, cuts)?;
    hit.pods.iter().filter(|pod| pod.component == Some(component)).find_map(|pod| {
        // When the revert began: an answer while it goes on is one of a member that is cut off no more.
        let end_ms = pod.released_ms.unwrap_or(u64::MAX).min(timeline.windows.fault.end_ms);
        let mut answered = false;
        for (_, observation) in timeline.observations(0).filter(|(at_ms, _)| *at_ms < end_ms) {
            if let Observation::Member { component: of, pod: name, answers, .. } = observation
                && (*of, name) == (component, &pod.name.1)
            {
                answered = *answers;
            }
        }
        let name = &pod.name.1;
        (!answered).then(|| format!("{name} was cut off from us too: what it did there is not known"))
    })
}

fn cuts(kind: FaultKind) -> bool {
    use FaultKind::{NetLoss, NetPartition, NetReject, NetworkPolicyDeny, NodeIsolate};
    matches!(kind, NetLoss | NetPartition | NetReject | NetworkPolicyDeny | NodeIsolate)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, verdicts};
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{CheckKind, CheckSpec, Component, FaultKind, Observation};

    fn spec() -> CheckSpec {
        CheckSpec::new(CheckKind::SingleWriter)
    }

    /// What was said at which times, with a look a second.
    fn said(words: &[(u64, &[&str])]) -> Build {
        let mut build = Build::steady();
        for second in 0..40 {
            build = build.see(second * 1000 + 400, Observation::Heartbeat { probe: "postgres".into() });
        }
        for (at_ms, pods) in words {
            let pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
            let scope = "postgres".to_owned();
            build = build.see(*at_ms, Observation::Writers { component: Component::Postgres, scope, pods });
        }
        build
    }

    const OLD: (u64, &[&str]) = (100, &["postgres-0"]);
    const NEW: (u64, &[&str]) = (14_000, &["postgres-1"]);
    const BOTH: &[&str] = &["postgres-0", "postgres-1"];

    #[test]
    fn judges_whether_two_took_writes_at_once() {
        verdicts(
            &spec(),
            [
                ("a failover with a gap", said(&[OLD, (12_300, &[]), NEW]), Pass),
                ("a handover without one", said(&[OLD, NEW]), Pass),
                (
                    "a handover in the middle of a look",
                    said(&[OLD, (13_000, BOTH), (13_300, &["postgres-1"])]),
                    Pass,
                ),
                (
                    "heard at one look each, twice",
                    said(&[
                        OLD,
                        (13_000, BOTH),
                        (13_300, &["postgres-1"]),
                        (30_000, BOTH),
                        (30_300, &["postgres-1"]),
                    ]),
                    Pass,
                ),
                ("two at two looks", said(&[OLD, (13_000, BOTH), (13_300, BOTH), NEW]), Fail),
                ("two to the end", said(&[OLD, (30_000, BOTH), (30_300, BOTH)]), Fail),
                ("two in the baseline", said(&[(100, BOTH), (400, BOTH), (700, &["postgres-1"])]), Fail),
                (
                    "another two at the next look",
                    said(&[OLD, (13_000, BOTH), (13_300, &["postgres-1", "postgres-2"]), NEW]),
                    Pass,
                ),
                ("nobody said so before", said(&[(12_500, &[]), NEW]), Inconclusive),
                ("nobody said so afterwards", said(&[OLD, (12_300, &[])]), Inconclusive),
                ("nothing was said", said(&[]), Inconclusive),
                ("the probe died", said(&[OLD, NEW]).probes_until(20_000), Inconclusive),
                (
                    "two, and the probe died",
                    said(&[OLD, (13_000, BOTH), (13_300, BOTH)]).probes_until(20_000),
                    Fail,
                ),
                ("no fault", said(&[OLD, NEW]).no_faults(), Inconclusive),
                ("nothing at all", Build::empty(), Inconclusive),
            ],
        );
    }

    #[test]
    fn an_overlap_may_last_as_long_as_it_is_allowed() {
        let spec = CheckSpec { max_seconds: Some(1.0), ..spec() };
        let overlap =
            |until_ms| said(&[OLD, (13_000, BOTH), (until_ms, BOTH), (until_ms + 300, &["postgres-1"])]);
        verdicts(&spec, [("0.9 s", overlap(13_900), Pass), ("1.2 s", overlap(14_200), Fail)]);
    }

    #[test]
    fn a_member_that_nobody_could_ask_proves_nothing() {
        let member = |at_ms, answers| {
            let pod = "postgres-0".to_owned();
            (at_ms, Observation::Member { component: Component::Postgres, pod, answers, in_sync: answers })
        };
        let cut = |words: &[(u64, Observation)]| {
            let build = said(&[OLD, (12_300, &[]), NEW]).fault(|fault| fault.kind = FaultKind::NetPartition);
            words.iter().fold(build, |build, (at_ms, seen)| build.see(*at_ms, seen.clone()))
        };
        verdicts(
            &spec(),
            [
                ("it answered us", cut(&[member(0, true)]), Pass),
                ("it did not", cut(&[member(0, true), member(12_800, false)]), Inconclusive),
                (
                    "it did again while it was cut off",
                    cut(&[member(0, true), member(12_800, false), member(15_000, true)]),
                    Pass,
                ),
                (
                    "only when it was back",
                    cut(&[member(0, true), member(12_800, false), member(24_500, true)]),
                    Inconclusive,
                ),
            ],
        );
    }

    #[test]
    fn a_component_that_does_not_say_proves_nothing() {
        let spec = CheckSpec { component: Some(Component::Redis), ..spec() };
        verdicts(&spec, [("redis", said(&[OLD, NEW]), Inconclusive)]);
    }
}
