//! A drill that went well, and everything that can be wrong with it, one at a time.

use std::path::Path;

use super::super::recovered::tests::{holding, write};
use super::*;
use crate::model::Verdict::{Fail, Inconclusive, Pass};
use crate::model::{Tally, Window, parse_yaml};

const S: u64 = 1_000_000;
/// One write each 0.1 s: 10 s before the backup, 10 s after, the moment at 15 s; destroyed at 20 s, restored at 60 s.
const PASSAGE: Passage = Passage {
    backup_us: (10 * S, 11 * S),
    target_us: Some((15 * S, 15 * S + 50)),
    destroyed_us: (20 * S, 21 * S),
    restored_us: Some(60 * S),
};

fn drill(target: &str) -> Drill {
    let rpo = if target == "latest" { "rpoMaxSeconds: 5\n" } else { "" };
    let text = format!(
        "drill: d\nstore: postgres\nmethod: volumes\ntarget: {target}\nscenario: s.yaml\nwritesMin: 20\n{rpo}rtoMaxSeconds: 60\n"
    );
    parse_yaml(Path::new("d.yaml"), &text).unwrap()
}

fn sent() -> Vec<u64> {
    (0..200).chain(610..700).map(|tenth| tenth * S / 10).collect()
}

struct Case {
    drill: Drill,
    operations: Vec<Operation>,
    found: Option<Found>,
    seen: Box<dyn Fn(&mut DrillSeen<'_>)>,
}

/// What is there: until `kept_us`, and everything after the restore.
fn case(target: &str, kept_us: u64) -> Case {
    let there = sent().into_iter().filter(|at_us| *at_us + 10 <= kept_us || *at_us > 60 * S);
    Case {
        drill: drill(target),
        operations: sent().into_iter().map(write).collect(),
        found: Some(holding(there)),
        seen: Box::new(|_| {}),
    }
}

fn smoke(requests: u64, errors: u64) -> Samples {
    let tally = Tally { requests, errors, ..Tally::default() };
    Samples {
        window: Window { start_ms: 61_000, end_ms: 70_000 },
        counted: tally.clone(),
        all: tally,
        reported_seconds: 9,
        ..Samples::default()
    }
}

fn judged(case: &Case) -> (Vec<Finding>, RecoveryPhases) {
    let target = case.drill.target == DrillTarget::Time;
    let mut seen = DrillSeen {
        drill: &case.drill,
        operations: &case.operations,
        passage: Passage { target_us: PASSAGE.target_us.filter(|_| target), ..PASSAGE },
        backup: Ok("ok: backup 20260101".to_owned()),
        held_back: None,
        missing_before: Some(0),
        left: Some((None, "no member leads".to_owned())),
        restore: Some(Ok("ok: the database is back".to_owned())),
        found: case.found.as_ref(),
        members: Some((3, 3)),
        whole_us: Some(61 * S),
        bytes: (Some(1000), Some(990)),
        smoke: smoke(300, 0),
        smoke_reads: 100,
    };
    (case.seen)(&mut seen);
    judge(&seen)
}

fn verdict(case: &Case, check: &str) -> (Verdict, String) {
    let (findings, _) = judged(case);
    let found = findings.into_iter().find(|finding| finding.check == check);
    found.map_or((Inconclusive, "absent".to_owned()), |finding| (finding.verdict, finding.reason))
}

fn worst(case: &Case) -> Verdict {
    Verdict::worst(judged(case).0.iter().map(|finding| finding.verdict))
}

fn with(target: &str, kept_us: u64, change: impl Fn(&mut DrillSeen<'_>) + 'static) -> Case {
    Case { seen: Box::new(change), ..case(target, kept_us) }
}

#[test]
fn a_drill_that_went_well_passes_with_its_figures() {
    let (findings, phases) = judged(&case("latest", 17 * S));
    assert_eq!(worst(&case("latest", 17 * S)), Pass, "{findings:#?}");
    assert_eq!((phases.client, phases.redundancy, phases.total), (Some(41_000), Some(41_000), Some(41_000)));
    let point = verdict(&case("latest", 17 * S), "restore-point").1;
    assert!(point.starts_with("30 of 100 writes since the backup are lost, reaching back 3.0 s"), "{point}");
    assert_eq!(worst(&case("time", 15 * S)), Pass, "{:#?}", judged(&case("time", 15 * S)));
    let point = verdict(&case("time", 15 * S), "restore-point").1;
    assert!(
        point
            .contains("all 150 writes from before the moment are there, to 0.10 s before it, and none of 49"),
        "{point}"
    );
}

#[test]
fn how_far_back_a_restore_reaches_is_a_figure() {
    let figures = |target, kept_us| {
        let (findings, _) = judged(&case(target, kept_us));
        let found = findings.into_iter().find(|finding| finding.check == "restore-point");
        let figures = found.expect("every drill is judged so").figures;
        figures.into_iter().map(|(name, value)| (name, value.round() as i64)).collect::<Vec<_>>()
    };
    let named =
        |ms, writes| vec![("recovery_point_ms".to_owned(), ms), ("recovery_point_writes".to_owned(), writes)];
    assert_eq!(figures("latest", 17 * S), named(3_000, 30));
    assert_eq!(figures("latest", 12 * S), named(8_000, 80), "also where it is too far");
    assert_eq!(figures("time", 15 * S), [("recovery_point_ms".to_owned(), 100)]);
    assert_eq!(figures("time", 14 * S), [], "another moment than the noted one has no distance");
}

#[test]
fn a_stale_backup_or_a_broken_archive_fails() {
    // The archive ends 8 s before the destruction.
    let (verdict_of, reason) = verdict(&case("latest", 12 * S), "restore-point");
    assert_eq!(verdict_of, Fail);
    assert!(reason.contains("reaching back 8.0 s; at most 5 s"), "{reason}");
    // An older backup than ours, a backup of nothing, another database.
    for kept_us in [5 * S, 0] {
        let (verdict_of, reason) = verdict(&case("latest", kept_us), "restored-data");
        assert_eq!(verdict_of, Fail, "{reason}");
        assert!(reason.contains("acknowledged before the backup are missing"), "{reason}");
    }
}

#[test]
fn another_moment_than_the_noted_one_fails() {
    let (verdict_of, reason) = verdict(&case("time", 14 * S), "restore-point");
    assert_eq!(verdict_of, Fail);
    assert!(reason.starts_with("10 of 150 writes that were acknowledged before the moment"), "{reason}");
    let (verdict_of, reason) = verdict(&case("time", 16 * S), "restore-point");
    assert_eq!(verdict_of, Fail);
    assert!(reason.ends_with("writes that were sent after the moment are there"), "{reason}");
}

#[test]
fn what_failed_fails() {
    for (check, case) in [
        ("backup", with("latest", 17 * S, |seen| seen.backup = Err("archive".into()))),
        ("restored-data", with("latest", 17 * S, |seen| seen.restore = Some(Err("a hole".into())))),
        ("restore-point", with("latest", 17 * S, |seen| seen.restore = Some(Err("a hole".into())))),
        ("restore-time", with("latest", 17 * S, |seen| seen.restore = Some(Err("a hole".into())))),
        ("restore-time", with("latest", 17 * S, |seen| seen.whole_us = None)),
        ("restore-time", with("latest", 17 * S, |seen| seen.whole_us = Some(90 * S))),
        ("redundancy", with("latest", 17 * S, |seen| seen.members = Some((2, 3)))),
        ("smoke", with("latest", 17 * S, |seen| seen.smoke = smoke(300, 30))),
    ] {
        let (found, reason) = verdict(&case, check);
        assert_eq!(found, Fail, "{check}: {reason}");
    }
}

#[test]
fn rules_of_the_store_and_writes_after_the_restore_count() {
    let mut torn = case("latest", 17 * S);
    if let Some(found) = &mut torn.found {
        found.extra_invariants.push("model 1: prediction_count is 2, predictions are 1".into());
    }
    assert_eq!(verdict(&torn, "restored-data").0, Fail);
    let mut gone = case("latest", 17 * S);
    gone.found = Some(holding(sent().into_iter().filter(|at_us| *at_us < 17 * S)));
    let (found, reason) = verdict(&gone, "restored-data");
    assert_eq!(found, Fail);
    assert!(reason.contains("90 of 90 writes that were acknowledged after the restore"), "{reason}");
    assert_eq!(verdict(&gone, "restore-time").0, Fail, "nobody was served with what is kept");
}

#[test]
fn what_was_not_seen_is_no_pass() {
    for (check, case) in [
        ("destruction", with("latest", 17 * S, |seen| seen.left = None)),
        ("destruction", with("latest", 17 * S, |seen| seen.left = Some((Some(3), String::new())))),
        ("destruction", with("latest", 17 * S, |seen| seen.held_back = Some("few writes".into()))),
        ("restored-data", with("latest", 17 * S, |seen| seen.found = None)),
        ("restored-data", with("latest", 17 * S, |seen| seen.missing_before = Some(1))),
        ("restored-data", with("latest", 17 * S, |seen| seen.missing_before = None)),
        ("restored-data", with("latest", 17 * S, |seen| seen.restore = None)),
        ("restore-point", with("latest", 17 * S, |seen| seen.found = None)),
        ("restore-point", with("time", 15 * S, |seen| seen.passage.target_us = None)),
        ("restore-time", with("latest", 17 * S, |seen| seen.found = None)),
        ("redundancy", with("latest", 17 * S, |seen| seen.members = None)),
        ("smoke", with("latest", 17 * S, |seen| seen.smoke = smoke(0, 0))),
        ("smoke", with("latest", 17 * S, |seen| seen.smoke_reads = 0)),
    ] {
        let (found, reason) = verdict(&case, check);
        assert_eq!(found, Inconclusive, "{check}: {reason}");
        assert_ne!(worst(&case), Pass);
    }
}

#[test]
fn few_writes_carry_no_judgement() {
    for (target, kept_us, check, from_us, until_us) in [
        ("latest", 17 * S, "restored-data", 0, 9 * S),
        ("latest", 17 * S, "restore-point", 11 * S, 20 * S),
        ("time", 15 * S, "restore-point", 15 * S, 19 * S),
        ("latest", 17 * S, "restored-data", 60 * S, 80 * S),
    ] {
        let mut case = case(target, kept_us);
        case.operations.retain(|operation| !(from_us..until_us).contains(&operation.sent_us));
        let (found, reason) = verdict(&case, check);
        assert_eq!(found, Inconclusive, "{check}: {reason}");
    }
}

#[test]
fn an_empty_cache_that_takes_writes_is_not_recovered() {
    let mut case = case("latest", 10 * S);
    case.drill.store = Store::Redis;
    let early = 40 * S;
    case.operations.push(write(early));
    case.operations.iter_mut().for_each(|operation| operation.writes = Store::Redis.into());
    if let Some(found) = &mut case.found {
        *found = Found::of_ids([found.ids(), holding([early]).ids()].concat());
    }
    assert_eq!(judged(&case).1.client, Some(41_000), "not the write at 40 s");
}
