//! Whole drills against a store in memory: it passes when the data come back, and only then.

use std::path::{Path, PathBuf};

use super::*;
use crate::model::Verdict::{self, Fail, Inconclusive, Pass};
use crate::model::parse_yaml;
use crate::run::{Hook, RunClock, find_unreverted, read_evidence};

mod store;

use store::{FakeLoad, FakeStore, Way};

fn drill(target: &str, method: &str) -> Drill {
    let rpo = if target == "latest" { "rpoMaxSeconds: 30\n" } else { "" };
    let text = format!(
        "drill: d\nstore: postgres\nmethod: {method}\ntarget: {target}\nscenario: s.yaml\nwriteSeconds: 40\n{rpo}rtoMaxSeconds: 120\nproves: [F4]\n"
    );
    let drill: Drill = parse_yaml(Path::new("d.yaml"), &text).unwrap();
    assert_eq!(drill.problem(), None);
    drill
}

const SCENARIO: &str = "scenario: s\nservice: a/b:80\nthink: { meanMs: 1000 }\njourneys:\n  - journey: j\n    weight: 1\n    steps:\n      - { step: s, method: GET, path: / }\n";

struct Stage {
    world: Arc<FakeStore>,
    drill: Drill,
    stop: Stop,
    directory: tempfile::TempDir,
    hook: Option<Hook>,
}

impl Stage {
    fn new(way: Way, drill: Drill) -> Self {
        let world = Arc::new(FakeStore::new(way));
        let directory = tempfile::tempdir().unwrap();
        Self { world, drill, stop: Stop::default(), directory, hook: None }
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journals").join("d.jsonl")
    }

    fn open(&self) -> usize {
        find_unreverted(self.journal().parent().unwrap()).unwrap().len()
    }

    async fn run(&self) -> ExperimentReport {
        let scenario: Scenario = parse_yaml(Path::new("s.yaml"), SCENARIO).unwrap();
        let settings = Settings {
            out: self.directory.path().to_owned(),
            journal: self.journal(),
            cluster: "local/test".to_owned(),
            hook: self.hook.clone(),
        };
        let timeline = self.directory.path().join("timeline.jsonl");
        let recorder = Recorder::to_file(RunClock::start(), &timeline).unwrap();
        let report = run_drill(Drilling {
            world: &self.world,
            load: &FakeLoad(self.world.clone()),
            drill: &self.drill,
            scenario: &scenario,
            run: &RunId("r".to_owned()),
            seed: Seed(1),
            settings: &settings,
            stop: &self.stop,
            recorder: &recorder,
        })
        .await;
        self.judged_again(&report);
        report
    }

    /// Whatever a drill came to: its files give the same.
    fn judged_again(&self, report: &ExperimentReport) {
        let files = report.judged_by.clone().unwrap();
        let mut again = judge_drill_again(read_evidence(self.directory.path(), &files).unwrap());
        again.judged_by = Some(files);
        assert_eq!(&again, report);
    }
}

fn said(report: &ExperimentReport, check: &str) -> (Verdict, String) {
    let found = report.findings.iter().find(|finding| finding.check == check);
    found.map_or((Inconclusive, "absent".to_owned()), |finding| (finding.verdict, finding.reason.clone()))
}

async fn ran(way: Way, target: &str, method: &str) -> (ExperimentReport, Stage) {
    let stage = Stage::new(way, drill(target, method));
    let report = stage.run().await;
    (report, stage)
}

#[tokio::test(start_paused = true)]
async fn data_that_come_back_pass() {
    for (target, method) in [("latest", "volumes"), ("time", "volumes"), ("time", "tables")] {
        let (report, stage) = ran(Way::Good, target, method).await;
        assert_eq!(report.verdict, Pass, "{target} {method}: {:#?}", report.findings);
        assert_eq!(report.outcome, RunOutcome::Completed);
        assert_eq!((report.residue.len(), stage.open()), (0, 0));
        assert!(stage.world.is_up() && report.recovery_ms.total.is_some());
        assert!(report.faults[0].effective_ms.is_some() && report.faults[0].reverted_ms.is_some());
        assert_eq!(report.proves, ["F4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_do_not_come_back_fail() {
    for (way, target, check) in [
        // A backup of nothing; another database; an archive that broke when the backup began; a moment that was missed.
        (Way::Nothing, "latest", "restored-data"),
        (Way::Archive { behind_ms: 1_000_000 }, "latest", "restored-data"),
        (Way::Archive { behind_ms: 35_000 }, "latest", "restore-point"),
        (Way::Moment { off_ms: -5000 }, "time", "restore-point"),
        (Way::Moment { off_ms: 5000 }, "time", "restore-point"),
        (Way::MemberStaysAway, "latest", "redundancy"),
        (Way::MemberStaysAway, "latest", "restore-time"),
        (Way::ServesErrors, "latest", "smoke"),
    ] {
        let (report, stage) = ran(way, target, "volumes").await;
        let (verdict, reason) = said(&report, check);
        assert_eq!(
            (verdict, report.verdict),
            (Fail, Fail),
            "{way:?} {check}: {reason}: {:#?}",
            report.findings
        );
        assert_eq!((report.residue.len(), stage.open()), (0, 0), "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_fails_is_a_failure_and_is_tried_again_with_what_there_is() {
    let (report, stage) = ran(Way::RestoreFails { times: 1 }, "latest", "volumes").await;
    let (verdict, reason) = said(&report, "restored-data");
    assert_eq!((verdict, report.verdict), (Fail, Fail), "{reason}");
    assert!(reason.contains("the archive has a hole"), "{reason}");
    assert_eq!(report.outcome, RunOutcome::Completed, "so that the claim is counted as failed");
    assert!(stage.world.is_up(), "the second try brought back what there is");
    assert_eq!((report.residue.len(), stage.open()), (0, 0));

    let (report, stage) = ran(Way::RestoreFails { times: 99 }, "latest", "volumes").await;
    assert_eq!(report.verdict, Fail);
    assert_eq!((report.residue.len(), stage.open()), (1, 1), "what is destroyed is never left in silence");
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_hangs_ends_at_its_deadline() {
    let (report, stage) = ran(Way::RestoreHangs, "latest", "volumes").await;
    assert_eq!(report.verdict, Fail);
    assert!(said(&report, "restored-data").1.contains("no end within 1400 s"));
    assert_eq!((report.residue.len(), stage.open()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_destroyed_without_a_backup_and_writes() {
    for (way, target, verdict) in [
        (Way::BackupFails, "latest", Fail),
        (Way::FewWrites, "latest", Inconclusive),
        (Way::LedgerUnreadable, "latest", Inconclusive),
        (Way::LosesBefore, "latest", Inconclusive),
        (Way::ArchiveStandsStill, "time", Inconclusive),
    ] {
        let (report, stage) = ran(way, target, "volumes").await;
        assert_eq!(report.verdict, verdict, "{way:?}: {:#?}", report.findings);
        assert!(stage.world.is_untouched(), "{way:?}");
        assert_eq!(said(&report, "destruction").0, Inconclusive);
    }
    for (way, told) in [
        (Way::NotAllowed, "mettle.dev/chaos"),
        (Way::Protected, "pod a/p-0 is protected"),
        (Way::NoVolumes, "are free"),
    ] {
        let (report, stage) = ran(way, "latest", "volumes").await;
        assert!(matches!(&report.outcome, RunOutcome::Broken(why) if why.contains(told)), "{report:?}");
        assert!(stage.world.is_untouched() && report.verdict == Inconclusive);
    }
}

#[tokio::test(start_paused = true)]
async fn a_destruction_that_does_not_bite_is_no_pass() {
    let (report, stage) = ran(Way::DoesNotBite, "latest", "volumes").await;
    assert_eq!(said(&report, "destruction").0, Inconclusive);
    assert_eq!(report.verdict, Inconclusive, "{:#?}", report.findings);
    assert_eq!(stage.open(), 0);
}

fn at(name: &'static str, act: impl Fn() + Send + Sync + 'static) -> Hook {
    Arc::new(move |entry| {
        if is(entry, name) {
            act();
        }
        Box::pin(async {})
    })
}

fn is(entry: &Entry, name: &str) -> bool {
    serde_json::to_value(entry).unwrap()["entry"] == name
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_the_destruction_still_restores() {
    for (when, touched) in [("opened", false), ("intended", true), ("applied", true)] {
        let mut stage = Stage::new(Way::Good, drill("latest", "volumes"));
        let stop = stage.stop.clone();
        stage.hook = Some(at(when, move || stop.interrupt("SIGINT")));
        let report = stage.run().await;
        assert!(report.outcome.is_interrupted(), "{when}: {:?}", report.outcome);
        assert_ne!(report.verdict, Pass);
        assert_eq!(!stage.world.is_untouched(), touched, "{when}");
        assert!(stage.world.is_up(), "{when}");
        assert_eq!((report.residue.len(), stage.open()), (0, 0), "{when}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_leaves_the_restore_to_revert() {
    let mut stage = Stage::new(Way::RestoreHangs, drill("latest", "volumes"));
    let stop = stage.stop.clone();
    stage.hook = Some(at("applied", move || {
        stop.interrupt("SIGINT");
        stop.interrupt("SIGINT");
    }));
    let report = stage.run().await;
    assert_eq!((report.residue.len(), stage.open()), (1, 1));
    assert!(report.residue[0].contains("the restore was not waited for"), "{:?}", report.residue);
}

/// The process dies after an entry of the journal; another reverts.
#[tokio::test(start_paused = true)]
async fn what_a_killed_drill_left_is_restored_by_revert() {
    for when in ["intended", "applied"] {
        let mut stage = Stage::new(Way::Good, drill("latest", "volumes"));
        let died = Arc::new(tokio::sync::Notify::new());
        let telling = died.clone();
        stage.hook = Some(Arc::new(move |entry| {
            let dies = is(entry, when);
            let telling = telling.clone();
            Box::pin(async move {
                if dies {
                    telling.notify_one();
                    std::future::pending::<()>().await;
                }
            })
        }));
        tokio::select! {
            () = died.notified() => {}
            report = stage.run() => panic!("it went on: {report:?}"),
        }
        assert_eq!(stage.open(), 1, "{when}");
        let mut journal = Journal::open(&stage.journal(), None).unwrap();
        let recorder = Recorder::in_memory(RunClock::start());
        let reverted = revert_all(&*stage.world, &mut journal, &recorder, OnConflict::Tell).await.unwrap();
        assert_eq!(reverted.open, [] as [&str; 0], "{when}");
        assert!(stage.world.is_up(), "{when}");
        assert_eq!(stage.open(), 0, "{when}");
    }
}
