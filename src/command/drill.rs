//! `mettle drill`: data destroyed on purpose and restored from the backup, with a verdict.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use kube::core::DynamicObject;

use crate::cli::{DrillArgs, Global};
use crate::cluster::forget_jobs;
use crate::command::files::{self, NamedBy, usage};
use crate::command::run::{append_timeline, fresh_directory, refuse_out, refuse_residue, write_reports};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, live, report as report_command};
use crate::exit::Exit;
use crate::model::{Drill, ExperimentReport, RunId, Scenario, Seed, Verdict};
use crate::report::{self, Series};
use crate::run::{Drilling, LiveLoad, LiveWorld, Recorder, RunClock, Settings, Stop, run_drill};
use crate::stack;

const RESTORES: &str = "stack/restore";
const DRILLS_MAX: usize = 20;

struct Loaded {
    drill: Drill,
    scenario: Scenario,
}

pub async fn execute(global: &Global, args: &DrillArgs) -> CommandResult {
    let loaded = load(args)?;
    refuse_out(&args.out)?;
    if !args.destroy_data {
        let told: Vec<String> =
            loaded.iter().map(|one| format!("{}: {}", one.drill.drill, one.drill.destroys())).collect();
        let error = anyhow::anyhow!("a drill destroys data: {}", told.join("; "));
        return Err(Failure::new(Exit::Usage, error)
            .hint("--destroy-data says that these may be destroyed, and restored from the backup"));
    }
    let session = session::open(global).await?;
    session.refuse_unreverted()?;
    let world = Arc::new(session.world().await?);
    refuse_residue(&world).await?;
    refuse_part(&session).await?;
    let out = fresh_directory(&args.out)?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("d{:x}", chrono::Utc::now().timestamp()));
    eprintln!("mettle: drill {run}, seed {seed}, cluster {}, {} drills", session.label, loaded.len());
    for one in &loaded {
        eprintln!("mettle:   {} will destroy {}", one.drill.drill, one.drill.destroys());
    }
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::new(Exit::Internal, error))?;
    let kubectl = session.kubectl().await;
    let offered = stack::offer_restores(&session.client, &kubectl, &files::home().join(RESTORES)).await;
    let offered = offered.map_err(|error| {
        Failure::new(Exit::SetUp, error)
            .hint("nothing was destroyed; the stack needs its backup and its stores")
    })?;
    let drills = Drills { session: &session, world: &world, run: &run, seed, stop: &stop, out: &out };
    let report = drills.all(&loaded).await?;
    withdraw(&session, &offered, &report).await;
    if global.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", report_command::text(&report));
    }
    eprintln!("mettle: report in {}", out.display());
    Ok(report_command::exit_of(&report))
}

fn load(args: &DrillArgs) -> Result<Vec<Loaded>, Failure> {
    let mut loaded: Vec<Loaded> = Vec::new();
    for file in &args.files {
        let drill = Drill::read(file).map_err(|error| {
            Failure::new(Exit::Usage, error)
                .hint("docs/drills.md describes the fields; experiments/drills has examples")
        })?;
        let base = file.parent().unwrap_or(Path::new("."));
        let scenario = Scenario::read(&base.join(&drill.scenario));
        let scenario = scenario.map_err(|error| usage(error, NamedBy::Experiment))?;
        if loaded.iter().any(|other| other.drill.drill == drill.drill) {
            let error = anyhow::anyhow!("drill {} is listed twice", drill.drill);
            return Err(
                Failure::new(Exit::Usage, error).hint("names must differ: reports and journals bear them")
            );
        }
        loaded.push(Loaded { drill, scenario });
    }
    if loaded.len() > DRILLS_MAX {
        let error = anyhow::anyhow!("{} drills are more than {DRILLS_MAX} in one run", loaded.len());
        return Err(Failure::new(Exit::Usage, error));
    }
    Ok(loaded)
}

/// On a stack that is not whole, what the restore cannot do and what was not there before look the same.
async fn refuse_part(session: &Session) -> Result<(), Failure> {
    let rows = stack::rows(&session.client).await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    let waiting: Vec<String> = rows.iter().filter(|row| !row.is_ready()).map(ToString::to_string).collect();
    let why = match (rows.is_empty(), waiting.first()) {
        (true, _) => "no workload of it stands".to_owned(),
        (false, None) => return Ok(()),
        (false, Some(_)) => waiting.join(", "),
    };
    let error = anyhow::anyhow!("the stack is not whole: {why}");
    Err(Failure::new(Exit::SetUp, error).hint("nothing was destroyed; `mettle up` brings the stack up"))
}

/// With something still destroyed the jobs stay: `mettle revert` needs them.
async fn withdraw(session: &Session, offered: &[DynamicObject], report: &crate::model::Report) {
    if report.experiments.iter().any(|drill| !drill.residue.is_empty()) {
        eprintln!("mettle: the data are not back: `mettle revert` runs the restore again");
        return;
    }
    let gone = async {
        stack::withdraw_restores(&session.client, offered).await?;
        forget_jobs(&session.client, stack::NAMESPACE, &format!("drill-{}e", report.run)).await
    };
    if let Err(error) = gone.await {
        eprintln!("mettle: the restore jobs were not taken away: {error}");
    }
}

struct Drills<'a> {
    session: &'a Session,
    world: &'a Arc<LiveWorld>,
    run: &'a RunId,
    seed: Seed,
    stop: &'a Stop,
    out: &'a Path,
}

impl Drills<'_> {
    /// One after another, until one leaves something behind.
    async fn all(&self, loaded: &[Loaded]) -> Result<crate::model::Report, Failure> {
        let started_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let absent = stack::not_run_here(&self.session.client).await;
        let absent = absent.map_err(|error| Failure::new(Exit::SetUp, error))?;
        let summary = |drills: Vec<ExperimentReport>| {
            let ran = drills.len();
            let label = self.session.label.clone();
            let mut report = report::run(self.run.clone(), self.seed, label, started_at.clone(), drills);
            report.not_run_here.clone_from(&absent);
            if ran < loaded.len() {
                // One that was not run proves nothing.
                report.verdict = report.verdict.max(Verdict::Inconclusive);
            }
            report
        };
        let load = LiveLoad::new(self.session.client.clone());
        let mut drills = Vec::with_capacity(loaded.len());
        for (index, one) in loaded.iter().enumerate() {
            drills.push(self.one(index, one, &load).await?);
            // After each drill: what is known is on disk, whatever happens next.
            write_reports(&summary(drills.clone()), &Series::new(), self.out)?;
            if self.stop.is_requested() || drills.iter().any(|drill| !drill.residue.is_empty()) {
                break;
            }
        }
        Ok(summary(drills))
    }

    async fn one(&self, index: usize, one: &Loaded, load: &LiveLoad) -> Result<ExperimentReport, Failure> {
        let name = &one.drill.drill;
        let directory = self.out.join(name);
        let failed = |error: std::io::Error| {
            let error =
                anyhow::Error::new(error).context(format!("failed to write into {}", directory.display()));
            Failure::new(Exit::SetUp, error)
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        let recorder =
            Recorder::to_file(RunClock::start(), &directory.join("timeline.jsonl")).map_err(failed)?;
        let run = RunId(format!("{}e{index}", self.run));
        let journal = self.session.journals.join(format!("{run}-{name}.jsonl"));
        let settings = Settings {
            out: directory.clone(),
            journal: journal.clone(),
            cluster: self.session.label.clone(),
            hook: None,
        };
        let view = live::follow(name, recorder.subscribe());
        let report = run_drill(Drilling {
            world: self.world,
            load,
            drill: &one.drill,
            scenario: &one.scenario,
            run: &run,
            seed: self.seed,
            settings: &settings,
            stop: self.stop,
            recorder: &recorder,
        })
        .await;
        view.abort();
        if let Some(problem) = recorder.finish() {
            eprintln!("mettle: {problem}");
        }
        append_timeline(&self.out.join("timeline.jsonl"), name, &recorder.events()).map_err(failed)?;
        if report.residue.is_empty() && journal.exists() {
            // Nothing is open in it: it goes to the run's other files.
            fs::copy(&journal, directory.join("journal.jsonl"))
                .and_then(|_| fs::remove_file(&journal))
                .map_err(failed)?;
        }
        Ok(report)
    }
}
