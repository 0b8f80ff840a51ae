//! A stored run is judged again from its files: the same evidence gives the same report, anything else is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mettle::command::judge::{Judged, again};
use mettle::model::Verdict::{Fail, Inconclusive, Pass};
use mettle::model::{ExperimentReport, Fact, Observation, Phase, Report, RunId, RunOutcome, Seed, Verdict};
use mettle::{check, report};
use serde_json::json;

use super::experiments::EXPERIMENTS;
use super::fake::{Behaviour, LoadLife, Stage, experiment_file, finding, small};
use super::{kill_backend, kill_node, pause_redis};

/// The directory of a run with one experiment, as `mettle run` leaves it.
struct Stored {
    stage: Stage,
    report: Report,
}

impl Stored {
    async fn of(stage: Stage) -> Self {
        let ran = stage.run().await;
        Self::with(stage, ran.report)
    }

    fn with(stage: Stage, experiment: ExperimentReport) -> Self {
        let (run, started) = (RunId("r1".into()), "2026-01-02T03:04:05Z".to_owned());
        let report = report::run(run, Seed(7), "fake".into(), started, vec![experiment]);
        let stored = Self { stage, report };
        report::write(&stored.directory(), &stored.report).expect("it is written");
        stored
    }

    fn directory(&self) -> PathBuf {
        self.stage.directory.path().join("out")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stage.out().join(name)
    }

    fn judged(&self) -> Judged {
        let stored = report::read(&self.directory()).expect("it is read");
        again(&self.directory(), &stored, None)
    }

    /// What is said when nothing is judged.
    fn problem(&self) -> String {
        match self.judged() {
            Judged::Unfit(problems) => problems.join("\n"),
            Judged::Again { .. } => panic!("it was judged"),
        }
    }

    fn command(&self, more: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
        let output = command.arg("judge").arg(self.directory()).args(more).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("no signal"), String::from_utf8(text).expect("text"))
    }
}

async fn stored(behaviour: Behaviour) -> Stored {
    Stored::of(Stage::new(experiment_file("postgres-primary-loss"), behaviour)).await
}

fn change(path: &Path, edit: impl FnOnce(String) -> String) {
    let before = fs::read_to_string(path).expect("it is read");
    let after = edit(before.clone());
    assert_ne!(before, after, "{}: nothing was changed", path.display());
    fs::write(path, after).expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn the_same_evidence_gives_the_same_report() {
    let mut stages: Vec<Stage> =
        EXPERIMENTS.iter().map(|name| Stage::new(experiment_file(name), Behaviour::default())).collect();
    // Whatever the ending.
    for behaviour in [
        Behaviour { synchronous: false, lag_ms: 800, ..Behaviour::default() },
        Behaviour { twice_every: Some(50), ..Behaviour::default() },
        Behaviour { fails_every: Some(20), ..Behaviour::default() },
        Behaviour { probes: false, ..Behaviour::default() },
        Behaviour { ledger_readable: false, ..Behaviour::default() },
        Behaviour { ignores_changes: true, ..Behaviour::default() },
        Behaviour { load: LoadLife::Zero, ..Behaviour::default() },
        Behaviour { load: LoadLife::DiesAfter(10_000), ..Behaviour::default() },
        Behaviour { load: LoadLife::NeverReady, ..Behaviour::default() },
        Behaviour { load: LoadLife::SilentAfter(20_000), ..Behaviour::default() },
        Behaviour { refuses_from: Some(1), ..Behaviour::default() },
        Behaviour { replaces: false, backends: 1, ..Behaviour::default() },
    ] {
        stages.push(Stage::new(experiment_file("postgres-primary-loss"), behaviour));
    }
    for (phase, experiment) in
        [(Phase::Baseline, kill_backend()), (Phase::Fault, pause_redis()), (Phase::Recovery, kill_node())]
    {
        let mut stage = Stage::new(experiment, Behaviour::default());
        stage.stop_at = Some((phase, 1));
        stages.push(stage);
    }
    let mut verdicts = std::collections::BTreeSet::new();
    for stage in stages {
        let stored = Stored::of(stage).await;
        let (name, behaviour) = (&stored.report.experiments[0].name, format!("{:?}", stored.report.outcome));
        let Judged::Again { report, differences } = stored.judged() else {
            panic!("{name}: {}", stored.problem())
        };
        assert_eq!(differences, [] as [&str; 0], "{name} {behaviour}");
        assert_eq!(
            report::to_text(&report).expect("JSON"),
            report::to_text(&Report {
                mettle_version: report.mettle_version.clone(),
                ..stored.report.clone()
            })
            .expect("JSON"),
            "{name} {behaviour}"
        );
        verdicts.insert(report.verdict);
    }
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), [Pass, Inconclusive, Fail]);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_cut_or_lost_is_told_and_never_judged() {
    let whole = stored(Behaviour { synchronous: false, lag_ms: 800, ..Behaviour::default() }).await;
    assert_eq!(whole.report.verdict, Fail);
    let files = &whole.report.experiments[0].judged_by.as_ref().expect("it is stored").files;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "found-jobs.jsonl",
            "found-kafka.jsonl",
            "found-postgres.jsonl",
            "found-redis.jsonl",
            "operations.jsonl",
            "record.json",
            "timeline.jsonl"
        ]
    );
    for name in names {
        let path = whole.file(name);
        let kept = fs::read(&path).expect("it is read");
        // One byte less, one other byte, nothing at all: each is a way to lose what a fail stands on.
        let mut other = kept.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        let cut = kept[..kept.len() - 1].to_vec();
        for content in [cut, other, Vec::new()] {
            fs::write(&path, content).expect("it is written");
            let says = whole.problem();
            assert!(says.contains(name) && says.contains("is not what was judged"), "{says}");
        }
        fs::remove_file(&path).expect("it is removed");
        let says = whole.problem();
        assert!(says.contains(name) && says.contains("is missing"), "{says}");
        fs::write(&path, kept).expect("it is written");
    }
    assert!(matches!(whole.judged(), Judged::Again { .. }), "and whole again it is judged");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_says_something_else_is_told_by_finding() {
    let whole = stored(Behaviour { synchronous: false, lag_ms: 800, ..Behaviour::default() }).await;
    let report = whole.directory().join("report.json");
    let kept = fs::read_to_string(&report).expect("it is read");
    let differences = || match whole.judged() {
        Judged::Again { differences, .. } => differences.join("\n"),
        Judged::Unfit(problems) => panic!("{problems:?}"),
    };
    // A fail is made a pass, a figure smaller, a finding is left out.
    change(&report, |text| text.replace("\"verdict\": \"fail\"", "\"verdict\": \"pass\""));
    let says = differences();
    assert!(says.contains("verdict: it says \"pass\", the evidence \"fail\""), "{says}");
    assert!(says.contains("finding lost-writes(postgres): it says pass ("), "{says}");
    fs::write(&report, &kept).expect("it is written");
    let lost = whole.report.experiments[0].ledger.values().map(|totals| totals.lost).max().unwrap_or(0);
    change(&report, |text| text.replace(&format!("\"lost\": {lost}"), "\"lost\": 0"));
    assert!(differences().contains("postgres-primary-loss: ledger: it says"), "{}", differences());
    let mut fewer = whole.report.clone();
    fewer.experiments[0].findings.pop();
    report::write(&whole.directory(), &fewer).expect("it is written");
    assert!(differences().contains("it says nothing, the evidence"), "{}", differences());
    // The files of another experiment, or none at all.
    let mut other = whole.report.clone();
    other.experiments[0].name = "other".into();
    report::write(&whole.directory(), &other).expect("it is written");
    assert!(whole.problem().contains("its files are those of postgres-primary-loss"));
    for (directory, says) in
        [("..", "is not one of the run"), ("a/b", "is not one of the run"), ("gone", "is missing")]
    {
        let mut elsewhere = whole.report.clone();
        elsewhere.experiments[0].judged_by.as_mut().expect("stored").directory = directory.into();
        report::write(&whole.directory(), &elsewhere).expect("it is written");
        assert!(whole.problem().contains(says), "{directory}: {}", whole.problem());
    }
    let mut bare = whole.report.clone();
    bare.experiments[0].judged_by = None;
    report::write(&whole.directory(), &bare).expect("it is written");
    assert!(whole.problem().contains("stored without what it was judged by"));
    bare.experiments.clear();
    report::write(&whole.directory(), &bare).expect("it is written");
    assert!(whole.problem().contains("no experiment"));
}

#[tokio::test(start_paused = true)]
async fn the_command_leaves_with_the_verdict_and_other_bounds_give_another() {
    let whole = stored(Behaviour { synchronous: false, lag_ms: 800, ..Behaviour::default() }).await;
    let (code, says) = whole.command(&[]);
    assert!(code == 1 && says.contains("exit 1: the stack did not hold"), "{code} {says}");
    let expect = whole.directory().join("expect.yaml");
    let text = |name: &str, checks: &str| {
        format!(
            "name: {name}\nscenario: x.yaml\nfaults: [{{kind: pod-kill, target: {{component: postgres}}}}]\nexpect: [{checks}]\n"
        )
    };
    let lenient = "{check: lost-writes, store: postgres, max: 100000}";
    for (name, checks, code, part) in [
        ("postgres-primary-loss", lenient, 0, "exit 0: the stack held"),
        // The only experiment there is: the file may have any name.
        ("mine", lenient, 0, "exit 0: the stack held"),
        ("mine", "{check: recovery-time, maxSeconds: 0.001}", 1, "exit 1"),
        ("mine", "{check: replicas-restored, maxSeconds: 99, component: kafka}", 3, "exit 3"),
        ("mine", "{check: lost-writes}", 2, "expect.yaml:4: expect[0].store: lost-writes needs it"),
    ] {
        fs::write(&expect, text(name, checks)).expect("it is written");
        let (got, says) = whole.command(&["--expect", expect.to_str().expect("text")]);
        assert!(got == code && says.contains(part), "{checks}: {got} {says}");
    }
    change(&whole.file("operations.jsonl"), |text| text.replacen("\"ok\"", "\"failed\"", 1));
    for more in [&[][..], &["--expect", expect.to_str().expect("text")]] {
        if let [.., file] = more {
            fs::write(file, text("mine", lenient)).expect("it is written");
        }
        let (code, says) = whole.command(more);
        assert!(code == 3 && says.contains("operations.jsonl is not what was judged"), "{code} {says}");
    }
    let nothing =
        Command::new(env!("CARGO_BIN_EXE_mettle")).args(["judge", "nosuch"]).output().expect("it runs");
    assert_eq!(nothing.status.code(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_control_is_the_same_without_a_fault() {
    for experiment in [kill_node(), kill_backend()] {
        let mut stage = Stage::new(experiment.clone(), Behaviour::default());
        stage.control = true;
        let ran = stage.run().await;
        let with_fault = Stage::new(experiment, Behaviour::default()).run().await;
        assert_eq!((ran.applied, ran.report.faults.len()), (0, 0));
        assert!(!ran.events.iter().any(|event| matches!(event.fact, Fact::FaultInjected { .. })));
        let length = |report: &ExperimentReport| report.windows.fault.end_ms - report.windows.fault.start_ms;
        assert!(length(&ran.report).abs_diff(length(&with_fault.report)) < 500);
        assert_eq!((ran.report.outcome.clone(), ran.report.verdict), (RunOutcome::Completed, Pass));
        // Nobody asks it for what nothing took away.
        assert!(ran.report.findings.iter().all(|finding| finding.check != "replicas-restored"));
        assert_eq!(ran.report.recovery_ms.client, Some(0));
        let says = check::against_control(&ran.report);
        assert_eq!(says.verdict, Pass, "{}", says.reason);
        let stored = Stored::with(stage, ran.report);
        let Judged::Again { differences, .. } = stored.judged() else { panic!("{}", stored.problem()) };
        assert_eq!(differences, [] as [&str; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_that_shows_the_effect_makes_it_inconclusive() {
    let mut control =
        Stage::new(kill_backend(), Behaviour { load: LoadLife::SilentAfter(9000), ..Behaviour::default() });
    control.control = true;
    let says = check::against_control(&control.run().await.report);
    assert_eq!(says.verdict, Inconclusive);
    let ran = Stage::new(kill_backend(), Behaviour::default()).run().await;
    assert_eq!(ran.report.verdict, Pass);
    let control = ExperimentReport::new("small", Verdict::Inconclusive, RunOutcome::Completed, Seed(7));
    let both = report::with_control(ran.report, control, says);
    assert_eq!((both.verdict, finding(&both, "control").verdict), (Inconclusive, Inconclusive));
}

#[tokio::test(start_paused = true)]
async fn what_a_late_probe_says_is_not_in_what_was_judged() {
    let stage = Stage::new(
        small(json!([{"kind": "pod-kill", "target": {"component": "backend"}}])),
        Behaviour::default(),
    );
    let ran = stage.run().await;
    let stored = Stored::with(stage, ran.report);
    let text = fs::read_to_string(stored.file("timeline.jsonl")).expect("it is read");
    assert_eq!(text.lines().count(), ran.events.len());
    let beats =
        |event: &&mettle::model::Event| matches!(event.fact, Fact::Observed(Observation::Heartbeat { .. }));
    assert!(ran.events.iter().filter(beats).count() > 10);
    assert!(matches!(
        ran.events.last().map(|event| &event.fact),
        Some(Fact::PhaseStarted { phase: Phase::Judge })
    ));
}
