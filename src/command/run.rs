//! `mettle run`: experiments in order, a verdict, a report.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{DownArgs, Global, RunArgs, UpArgs};
use crate::command::files::{self, Loaded};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, down, live, report as report_command, up};
use crate::exit::Exit;
use crate::model::{Event, ExperimentReport, Report, RunId, Seed, Verdict};
use crate::report;
use crate::run::{Context, LiveLoad, LiveWorld, Recorder, RunClock, Settings, Stop, World, run_experiment};
use crate::stack;

pub async fn execute(global: &Global, args: &RunArgs) -> CommandResult {
    // Everything that can be wrong in a file is found before anything is touched.
    let loaded = files::load(&args.files)?;
    refuse_out(&args.out)?;
    if args.up {
        let components = args.components.clone();
        // How images come to a kubeconfig's cluster is no flag of `run`.
        let registry = std::env::var("METTLE_IMAGE_REGISTRY").ok();
        let up = UpArgs { components, registry, ..UpArgs::default() };
        up::execute(global, &up).await?;
    }
    let result = run_all(global, args, &loaded).await;
    if args.down {
        // The verdict stands; a cluster that does not go is told, and never hides it.
        if let Err(failure) = down::execute(global, &DownArgs::default()).await {
            eprintln!("mettle: the cluster was not taken down: {:#}", failure.source);
        }
    }
    result
}

async fn run_all(global: &Global, args: &RunArgs, loaded: &[Loaded]) -> CommandResult {
    let session = session::open(global).await?;
    session.refuse_unreverted()?;
    let world = Arc::new(session.world().await?);
    refuse_residue(&world).await?;
    let out = fresh_directory(&args.out)?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("r{:x}", chrono::Utc::now().timestamp()));
    eprintln!("mettle: run {run}, seed {seed}, cluster {}, {} experiments", session.label, loaded.len());
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::new(Exit::Internal, error))?;
    let started_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut experiments = Vec::with_capacity(loaded.len());
    let absent = stack::not_run_here(&session.client).await;
    let absent = absent.map_err(|error| Failure::new(Exit::SetUp, error))?;
    let summary = |experiments: Vec<ExperimentReport>, wanted: usize| {
        let ran = experiments.len();
        let mut report =
            report::run(run.clone(), seed, session.label.clone(), started_at.clone(), experiments);
        report.not_run_here.clone_from(&absent);
        if ran < wanted {
            // One that was not run proves nothing.
            report.verdict = report.verdict.max(Verdict::Inconclusive);
        }
        report
    };
    let load = LiveLoad::new(session.client.clone());
    for (index, one) in loaded.iter().enumerate() {
        let numbered = RunId(format!("{run}e{index}"));
        let directory = out.join(&one.experiment.name);
        let ran =
            Ran { session: &session, world: &world, load: &load, one, run: &numbered, seed, stop: &stop };
        experiments.push(ran.go(&directory, &out).await?);
        // After each experiment: what is known is on disk, whatever happens next.
        write_reports(&summary(experiments.clone(), loaded.len()), &out)?;
        let left = experiments.iter().any(|experiment: &ExperimentReport| !experiment.residue.is_empty());
        if stop.is_requested() || left {
            break;
        }
    }
    let report = summary(experiments, loaded.len());
    if global.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", report_command::text(&report));
    }
    eprintln!("mettle: report in {}", out.display());
    Ok(report_command::exit_of(&report))
}

pub(super) async fn refuse_residue(world: &LiveWorld) -> Result<(), Failure> {
    let residue = world.residue().await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    match residue.first() {
        None => Ok(()),
        Some(first) => {
            let error = anyhow::anyhow!("the cluster is not clean: {first}");
            Err(Failure::new(Exit::RevertIncomplete, error)
                .hint("`mettle revert` undoes an earlier run; `mettle node start NAME` powers a node on"))
        }
    }
}

/// Refuses a place that cannot become a directory of ours, before anything is touched; makes nothing.
pub(super) fn refuse_out(out: &Path) -> Result<(), Failure> {
    let there = out.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let why = if !there.is_dir() {
        format!("{} is not a directory", there.display())
    } else if nix::unistd::access(there, nix::unistd::AccessFlags::W_OK).is_err() {
        format!("{} is not writable", there.display())
    } else {
        return Ok(());
    };
    let error = anyhow::anyhow!("the report cannot go to {}: {why}", out.display());
    Err(Failure::new(Exit::Usage, error).hint("choose another directory with --out"))
}

/// An earlier report is never overwritten: its directory is moved aside.
pub(super) fn fresh_directory(out: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("failed to prepare {}", out.display()));
        Failure::new(Exit::SetUp, error).hint("choose another directory with --out, or make room on the disk")
    };
    if out.join("report.json").exists() {
        let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%3f");
        let name = out
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_else(|| "out".to_owned());
        fs::rename(out, out.with_file_name(format!("{name}.{stamp}"))).map_err(failed)?;
    }
    fs::create_dir_all(out).map_err(failed)?;
    // A full or read-only disk is found now, not after the fault.
    let probe = out.join(".writable");
    fs::write(&probe, b"mettle").and_then(|()| fs::remove_file(&probe)).map_err(failed)?;
    Ok(out.to_owned())
}

pub(super) fn write_reports(report: &Report, out: &Path) -> Result<(), Failure> {
    let written = report::write(out, report).and_then(|_| report::write_junit(out, report));
    written
        .map(drop)
        .map_err(|error| Failure::new(Exit::SetUp, error).hint("make room on the disk; the journal is safe"))
}

struct Ran<'a> {
    session: &'a Session,
    world: &'a Arc<LiveWorld>,
    load: &'a LiveLoad,
    one: &'a Loaded,
    run: &'a RunId,
    seed: Seed,
    stop: &'a Stop,
}

impl Ran<'_> {
    async fn go(&self, directory: &Path, out: &Path) -> Result<ExperimentReport, Failure> {
        let experiment = &self.one.experiment;
        let failed = |error: std::io::Error| {
            let error =
                anyhow::Error::new(error).context(format!("failed to write into {}", directory.display()));
            Failure::new(Exit::SetUp, error)
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let recorder =
            Recorder::to_file(RunClock::start(), &directory.join("timeline.jsonl")).map_err(failed)?;
        let journal = self.session.journals.join(format!("{}-{}.jsonl", self.run, experiment.name));
        let settings = Settings {
            out: directory.to_owned(),
            journal: journal.clone(),
            cluster: self.session.label.clone(),
            hook: None,
        };
        let view = live::follow(&experiment.name, recorder.subscribe());
        let deadline = Settings::deadline(experiment);
        let timer = tokio::spawn({
            let stop = self.stop.clone();
            async move {
                tokio::time::sleep(deadline).await;
                stop.request(format!("the experiment's deadline of {} s has passed", deadline.as_secs()));
            }
        });
        let report = run_experiment(Context {
            world: self.world,
            load: self.load,
            experiment,
            scenario: &self.one.scenario,
            run: self.run,
            seed: self.seed,
            settings: &settings,
            stop: self.stop,
            recorder: &recorder,
        })
        .await;
        timer.abort();
        view.abort();
        if let Some(problem) = recorder.finish() {
            eprintln!("mettle: {problem}");
        }
        append_timeline(&out.join("timeline.jsonl"), &experiment.name, &recorder.events()).map_err(failed)?;
        if report.residue.is_empty() && journal.exists() {
            // Nothing is open in it: it goes to the run's other files.
            fs::copy(&journal, directory.join("journal.jsonl"))
                .and_then(|_| fs::remove_file(&journal))
                .map_err(failed)?;
        }
        Ok(report)
    }
}

/// All experiments of a run in one file; each has a clock of its own, so each line names its experiment.
pub(super) fn append_timeline(path: &Path, experiment: &str, events: &[Event]) -> std::io::Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        experiment: &'a str,
        #[serde(flatten)]
        event: &'a Event,
    }
    let mut file = BufWriter::new(File::options().create(true).append(true).open(path)?);
    for event in events {
        serde_json::to_writer(&mut file, &Line { experiment, event })?;
        file.write_all(b"\n")?;
    }
    file.flush()
}
