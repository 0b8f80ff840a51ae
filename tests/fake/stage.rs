//! One run of one experiment on a fake of a certain behaviour, and what is known afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mettle::command::report::exit_of;
use mettle::exit::Exit;
use mettle::model::{
    Event, Experiment, ExperimentReport, Fact, Finding, Phase, RunId, Scenario, Seed, Snapshot,
};
use mettle::run::{Context, Hook, Recorder, RunClock, Settings, Stop, run_experiment};
use tempfile::TempDir;

use super::{Behaviour, FakeLoad, FakeWorld, Points, Trip};

/// Until the stack has come to rest by itself.
pub const SETTLE: std::time::Duration = std::time::Duration::from_secs(15);

pub fn experiment_file(name: &str) -> Experiment {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("experiments/{name}.yaml"));
    Experiment::read(&path).expect("the experiment is valid")
}

/// A short experiment with these faults, limits wide enough, and one check.
pub fn small(faults: serde_json::Value) -> Experiment {
    let experiment = serde_json::json!({
        "name": "small", "scenario": "x.yaml", "faults": faults,
        "limits": {"pods": 3, "nodes": 1},
        "phases": {"warm": 2, "baseline": 4, "fault": 12, "recoveryMax": 60, "stable": 3},
        "expect": [{"check": "recovery-time", "maxSeconds": 30}, {"check": "replicas-restored", "maxSeconds": 60}],
    });
    let experiment: Experiment = serde_json::from_value(experiment).expect("it is an experiment");
    assert_eq!(experiment.problem(), None);
    experiment
}

pub struct Stage {
    pub world: Arc<FakeWorld>,
    pub experiment: Experiment,
    pub seed: Seed,
    pub stop: Stop,
    pub directory: TempDir,
    pub journal: PathBuf,
    pub hook: Option<Hook>,
    /// Ask for a stop, as often, when this phase begins.
    pub stop_at: Option<(Phase, u32)>,
    pub before: Snapshot,
    /// Without its faults.
    pub control: bool,
}

/// What a run left.
pub struct Ran {
    pub report: ExperimentReport,
    pub events: Vec<Event>,
    pub after: Snapshot,
    pub applied: usize,
    pub exit: Exit,
}

impl Stage {
    pub fn new(experiment: Experiment, behaviour: Behaviour) -> Self {
        Self::with_points(experiment, behaviour, Points::new(Trip::None))
    }

    pub fn with_points(experiment: Experiment, behaviour: Behaviour, points: Points) -> Self {
        let world = Arc::new(FakeWorld::new(behaviour, points));
        let directory = tempfile::tempdir().expect("a directory");
        let journal = directory.path().join("journals/small.jsonl");
        let (before, hook) = (world.look(), Some(world.points().hook()));
        let (seed, stop) = (Seed(7), Stop::default());
        Self {
            world,
            experiment,
            seed,
            stop,
            directory,
            journal,
            hook,
            stop_at: None,
            before,
            control: false,
        }
    }

    /// The experiment's own directory.
    pub fn out(&self) -> PathBuf {
        self.directory.path().join("out").join(&self.experiment.name)
    }

    pub async fn run(&self) -> Ran {
        let out = self.out();
        std::fs::create_dir_all(&out).expect("it is made");
        let recorder = Recorder::to_file(RunClock::start(), &out.join("timeline.jsonl")).expect("a file");
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/platform-api.yaml");
        let scenario = Scenario::read(&scenario).expect("the scenario is valid");
        if let Some((phase, times)) = self.stop_at {
            tokio::spawn(stop_at(recorder.clone(), self.stop.clone(), phase, times));
            // It must listen before anything is recorded.
            tokio::task::yield_now().await;
        }
        let settings = Settings {
            out,
            journal: self.journal.clone(),
            cluster: "fake".to_owned(),
            hook: self.hook.clone(),
        };
        let report = run_experiment(Context {
            world: &self.world,
            load: &FakeLoad { state: self.world.state() },
            experiment: &self.experiment,
            scenario: &scenario,
            run: &RunId("r1".to_owned()),
            seed: self.seed,
            settings: &settings,
            stop: &self.stop,
            recorder: &recorder,
            control: self.control,
        })
        .await;
        // What the stack does by itself after the run: an election that was due, or a loss that shows only now.
        tokio::time::sleep(SETTLE).await;
        let whole = mettle::report::run(
            RunId("r1".to_owned()),
            self.seed,
            "fake".to_owned(),
            String::new(),
            vec![report.clone()],
        );
        Ran {
            exit: exit_of(&whole),
            report,
            events: recorder.events(),
            after: self.world.look(),
            applied: self.world.with(|state| state.applied.len()),
        }
    }
}

async fn stop_at(recorder: Recorder, stop: Stop, at: Phase, times: u32) {
    let mut events = recorder.subscribe();
    while let Ok(event) = events.recv().await {
        if matches!(event.fact, Fact::PhaseStarted { phase } if phase == at) {
            // Not at its very beginning: within it.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            (0..times).for_each(|_| stop.interrupt("SIGINT"));
            return;
        }
    }
}

/// The finding of a check; panics with all of them when there is none.
pub fn finding<'a>(report: &'a ExperimentReport, check: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("no finding {check}: {:#?}", report.findings))
}
