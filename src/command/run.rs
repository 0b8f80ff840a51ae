//! `mettle run`: experiments in order, a verdict, a report.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{DownArgs, Global, RunArgs, UpArgs};
use crate::command::files::{self, Loaded};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, down, live, report as report_command, script, up};
use crate::exit::Exit;
use crate::model::{Event, ExperimentReport, Fact, Finding, Report, RunId, Seed, Verdict};
use crate::report::Series;
use crate::run::{Context, LiveLoad, LiveWorld, Recorder, RunClock, Settings, Stop, World, run_experiment};
use crate::{check, report, stack};

pub async fn execute(global: &Global, args: &RunArgs) -> CommandResult {
    // Everything that can be wrong in a file is found before anything is touched.
    let scripts = script::load(args)?;
    let loaded = if scripts.is_empty() { files::load(&args.files)? } else { Vec::new() };
    refuse_out(&args.out)?;
    if args.up {
        let components = args.components.clone();
        // How images come to a kubeconfig's cluster is no flag of `run`.
        let registry = std::env::var("METTLE_IMAGE_REGISTRY").ok();
        let up = UpArgs { components, registry, ..UpArgs::default() };
        up::execute(global, &up).await?;
    }
    let result = if scripts.is_empty() {
        run_all(global, args, &loaded).await
    } else {
        script::run_all(global, args, &scripts).await
    };
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
    let faults = loaded.iter().flat_map(|one| &one.experiment.faults);
    session.require_rights(faults.map(|fault| fault.kind).collect()).await?;
    let world = Arc::new(session.world().await?);
    refuse_residue(&world).await?;
    let out = fresh_directory(&args.out)?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("r{:x}", chrono::Utc::now().timestamp()));
    let (label, count) = (&session.label, loaded.len());
    let often = if args.repeat > 1 { format!(", each {} times", args.repeat) } else { String::new() };
    eprintln!("mettle: run {run}, seed {seed}, cluster {label}, {count} experiments{often}");
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
    let mut series = Series::new();
    let wanted = loaded.len() * args.repeat as usize;
    'all: for (index, one) in loaded.iter().enumerate() {
        for repeat in 1..=args.repeat {
            let ran = Ran {
                session: &session,
                world: &world,
                load: &load,
                one,
                run: format!("{run}e{index}"),
                seed,
                repeat: (args.repeat > 1).then_some(repeat),
                stop: &stop,
                out: &out,
            };
            let report = if args.control {
                ran.with_control(&mut series).await?
            } else {
                ran.go(false, &mut series).await?
            };
            experiments.push(report);
            // After each experiment: what is known is on disk, whatever happens next.
            write_reports(&summary(experiments.clone(), wanted), &series, &out)?;
            if stop.is_requested() || experiments.iter().any(leaves_something) {
                break 'all;
            }
        }
    }
    let report = summary(experiments, wanted);
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

pub(super) fn write_reports(report: &Report, series: &Series, out: &Path) -> Result<(), Failure> {
    let meaning = report_command::exit_meaning(report);
    let written = report::write(out, report)
        .and_then(|_| report::write_junit(out, report))
        .and_then(|_| report::write_pages(out, report, series, &meaning));
    written
        .map(drop)
        .map_err(|error| Failure::new(Exit::SetUp, error).hint("make room on the disk; the journal is safe"))
}

fn leaves_something(report: &ExperimentReport) -> bool {
    !report.residue.is_empty() || report.control.as_deref().is_some_and(leaves_something)
}

/// The first of several runs has the run's own seed: it is the one that a single run would be.
fn seed_of(seed: Seed, repeat: Option<u32>) -> Seed {
    match repeat {
        None | Some(1) => seed,
        Some(repeat) => seed.derive(&format!("repeat/{repeat}")),
    }
}

/// One run of one experiment.
struct Ran<'a> {
    session: &'a Session,
    world: &'a Arc<LiveWorld>,
    load: &'a LiveLoad,
    one: &'a Loaded,
    run: String,
    seed: Seed,
    repeat: Option<u32>,
    stop: &'a Stop,
    out: &'a Path,
}

impl Ran<'_> {
    /// First the same without a fault. What it leaves behind, or a stop, ends it there.
    async fn with_control(&self, series: &mut Series) -> Result<ExperimentReport, Failure> {
        let control = self.go(true, series).await?;
        let says = check::against_control(&control);
        let experiment = if self.stop.is_requested() || leaves_something(&control) {
            let seed = seed_of(self.seed, self.repeat);
            let (name, outcome) = (self.one.experiment.name.clone(), control.outcome.clone());
            let unrun = Finding::new("run", Verdict::Inconclusive, "nothing was injected after its control");
            let report = ExperimentReport::new(name, Verdict::Inconclusive, outcome, seed);
            ExperimentReport { findings: vec![unrun], repeat: self.repeat, ..report }
        } else {
            self.go(false, series).await?
        };
        Ok(report::with_control(experiment, control, says))
    }

    async fn go(&self, control: bool, series: &mut Series) -> Result<ExperimentReport, Failure> {
        // No name of an experiment has a dot, so none is another's repeat.
        let repeat = self.repeat.map(|repeat| format!(".{repeat}")).unwrap_or_default();
        let label = format!("{}{repeat}{}", self.one.experiment.name, if control { ".control" } else { "" });
        let directory = &self.out.join(&label);
        let seed = seed_of(self.seed, self.repeat);
        let run = self.repeat.map_or(self.run.clone(), |repeat| format!("{}r{repeat}", self.run));
        let run = &RunId(if control { format!("{run}c") } else { run });
        let experiment = &self.one.experiment;
        let failed = |error: std::io::Error| {
            let error =
                anyhow::Error::new(error).context(format!("failed to write into {}", directory.display()));
            Failure::new(Exit::SetUp, error)
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let recorder =
            Recorder::to_file(RunClock::start(), &directory.join("timeline.jsonl")).map_err(failed)?;
        let journal = self.session.journals.join(format!("{run}-{}.jsonl", experiment.name));
        let settings = Settings {
            out: directory.to_owned(),
            journal: journal.clone(),
            cluster: self.session.label.clone(),
            hook: None,
        };
        let view = live::follow(&label, recorder.subscribe());
        let mut report = run_experiment(Context {
            world: self.world,
            load: self.load,
            experiment,
            scenario: &self.one.scenario,
            run,
            seed,
            settings: &settings,
            stop: self.stop,
            recorder: &recorder,
            control,
        })
        .await;
        report.repeat = self.repeat;
        view.abort();
        if let Some(problem) = recorder.finish() {
            eprintln!("mettle: {problem}");
        }
        let events = recorder.events();
        let seconds = events.iter().filter_map(|event| match &event.fact {
            Fact::Load(second) => Some(second.clone()),
            _ => None,
        });
        series.insert(label.clone(), seconds.collect());
        append_timeline(&self.out.join("timeline.jsonl"), &label, &events).map_err(failed)?;
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
