//! What every run writes, whatever it plays: a directory for all of it, one in it for each experiment, the reports.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use crate::cli::Global;
use crate::command::{CommandResult, Failure, live, report as report_command};
use crate::exit::Exit;
use crate::model::{Event, ExperimentReport, Report, RunId, Seed, Verdict};
use crate::report::{self, Series};
use crate::run::{Recorder, RunClock, Settings, World};

pub(super) async fn refuse_residue(world: &impl World) -> Result<(), Failure> {
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

/// A run as its report names it.
pub(super) struct Telling<'a> {
    pub run: RunId,
    pub seed: Seed,
    pub cluster: &'a str,
    pub started_at: String,
    /// Parts of the stack that are not run here.
    pub absent: Vec<String>,
    /// How many experiments it has to have run.
    pub wanted: usize,
    pub out: &'a Path,
}

impl Telling<'_> {
    pub fn now() -> String {
        chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    /// After each experiment: what is known is on disk, whatever happens next.
    pub fn write(&self, experiments: &[ExperimentReport], series: &Series) -> Result<Report, Failure> {
        let ran = experiments.len();
        let (cluster, started_at) = (self.cluster.to_owned(), self.started_at.clone());
        let mut report = report::run(self.run.clone(), self.seed, cluster, started_at, experiments.to_vec());
        report.not_run_here.clone_from(&self.absent);
        if ran < self.wanted {
            // One that was not run proves nothing.
            report.verdict = report.verdict.max(Verdict::Inconclusive);
        }
        let meaning = report_command::exit_meaning(&report);
        let written = report::write(self.out, &report)
            .and_then(|_| report::write_junit(self.out, &report))
            .and_then(|_| report::write_pages(self.out, &report, series, &meaning));
        written.map(drop).map_err(|error| {
            Failure::new(Exit::SetUp, error).hint("make room on the disk; the journal is safe")
        })?;
        Ok(report)
    }

    /// The end of the command.
    pub fn end(global: &Global, report: &Report, out: &Path) -> CommandResult {
        if global.json {
            println!("{}", serde_json::to_string_pretty(report).map_err(anyhow::Error::from)?);
        } else {
            print!("{}", report_command::text(report));
        }
        eprintln!("mettle: report in {}", out.display());
        Ok(report_command::exit_of(report))
    }
}

/// Which of several runs of the same experiment this is, from 1; absent when it is run once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat(pub Option<u32>);

impl Repeat {
    /// All of them, of so many.
    pub fn each(times: u32) -> impl Iterator<Item = Self> {
        (1..=times).map(move |repeat| Self((times > 1).then_some(repeat)))
    }

    /// The first of several runs has the run's own seed: it is the one that a single run would be.
    pub fn seed(self, seed: Seed) -> Seed {
        match self.0 {
            None | Some(1) => seed,
            Some(repeat) => seed.derive(&format!("repeat/{repeat}")),
        }
    }

    /// No name of an experiment has a dot, so none is another's repeat.
    pub fn label(self, name: &str) -> String {
        self.0.map_or_else(|| name.to_owned(), |repeat| format!("{name}.{repeat}"))
    }

    pub fn run(self, run: &str) -> String {
        self.0.map_or_else(|| run.to_owned(), |repeat| format!("{run}r{repeat}"))
    }
}

/// One experiment of a run: its directory, its recorder, its journal, and a person who looks on.
pub(super) struct Place<'a> {
    out: &'a Path,
    label: String,
    directory: PathBuf,
    pub recorder: Recorder,
    pub settings: Settings,
    view: JoinHandle<()>,
}

impl<'a> Place<'a> {
    /// `journal`: where a later `mettle revert` looks for it; absent: nothing will have to be found again.
    pub fn open(
        out: &'a Path,
        label: &str,
        journal: Option<PathBuf>,
        cluster: &str,
    ) -> Result<Self, Failure> {
        let directory = out.join(label);
        let failed = |error| failed(&directory, error);
        fs::create_dir_all(&directory).map_err(failed)?;
        let recorder = Recorder::to_file(RunClock::start(), &directory.join("timeline.jsonl"));
        let recorder = recorder.map_err(failed)?;
        let settings = Settings {
            out: directory.clone(),
            journal: journal.unwrap_or_else(|| kept(&directory)),
            cluster: cluster.to_owned(),
            hook: None,
        };
        let view = live::follow(label, recorder.subscribe());
        Ok(Self { out, label: label.to_owned(), directory, recorder, settings, view })
    }

    /// What was recorded; a journal in which nothing is open goes to the run's other files.
    pub fn close(self, report: &ExperimentReport) -> Result<Vec<Event>, Failure> {
        self.view.abort();
        if let Some(problem) = self.recorder.finish() {
            eprintln!("mettle: {problem}");
        }
        let events = self.recorder.events();
        let failed = |error| failed(&self.directory, error);
        append_timeline(&self.out.join("timeline.jsonl"), &self.label, &events).map_err(failed)?;
        let (journal, kept) = (&self.settings.journal, kept(&self.directory));
        if report.residue.is_empty() && *journal != kept && journal.exists() {
            fs::copy(journal, kept).and_then(|_| fs::remove_file(journal)).map_err(failed)?;
        }
        Ok(events)
    }

    /// One more file of it.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        fs::write(self.directory.join(name), text).map_err(|error| failed(&self.directory, error))
    }
}

fn kept(directory: &Path) -> PathBuf {
    directory.join("journal.jsonl")
}

fn failed(directory: &Path, error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context(format!("failed to write into {}", directory.display()));
    Failure::new(Exit::SetUp, error)
}

/// All experiments of a run in one file; each has a clock of its own, so each line names its experiment.
fn append_timeline(path: &Path, experiment: &str, events: &[Event]) -> std::io::Result<()> {
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
