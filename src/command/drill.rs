//! `mettle drill`: data destroyed on purpose and restored from the backup, with a verdict.

use std::path::Path;
use std::sync::Arc;

use kube::core::DynamicObject;

use crate::cli::{DrillArgs, Global};
use crate::cluster::{ClusterError, forget_jobs};
use crate::command::files::{self, NamedBy, usage};
use crate::command::record::{Place, Repeat, Telling, fresh_directory, refuse_out, refuse_residue};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure};
use crate::exit::Exit;
use crate::model::{Drill, ExperimentReport, Report, RunId, Scenario, Seed, StoreRestore};
use crate::report::Series;
use crate::run::{Drilling, LiveLoad, LiveWorld, Stop, run_drill};
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
    refuse_residue(&*world).await?;
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
    let report = drills.all(&loaded, args.repeat).await?;
    withdraw(&session, &offered, &report).await;
    Telling::end(global, &report, &out)
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
async fn withdraw(session: &Session, offered: &[DynamicObject], report: &Report) {
    if report.experiments.iter().any(|drill| !drill.residue.is_empty()) {
        eprintln!("mettle: the data are not back: `mettle revert` runs the restore again");
        return;
    }
    take_away(session, offered, &[format!("drill-{}e", report.run)]).await;
}

async fn take_away(session: &Session, offered: &[DynamicObject], jobs: &[String]) {
    let gone = async {
        stack::withdraw_restores(&session.client, offered).await?;
        for prefix in jobs {
            forget_jobs(&session.client, stack::NAMESPACE, prefix).await?;
        }
        Ok::<_, ClusterError>(())
    };
    if let Err(error) = gone.await {
        eprintln!("mettle: the restore jobs were not taken away: {error}");
    }
}

/// What drills that were killed had offered, once nothing of them is open any more.
pub(super) async fn clear_after(session: &Session, restored: &[StoreRestore]) {
    let jobs: Vec<String> = restored.iter().map(|one| one.drill.clone()).collect();
    if jobs.is_empty() {
        return;
    }
    let kubectl = session.kubectl().await;
    match stack::restores(&session.client, &kubectl, &files::home().join(RESTORES)).await {
        Ok(offered) => take_away(session, &offered, &jobs).await,
        Err(error) => eprintln!("mettle: the restore jobs were not taken away: {error}"),
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
    async fn all(&self, loaded: &[Loaded], times: u32) -> Result<Report, Failure> {
        let absent = stack::not_run_here(&self.session.client).await;
        let telling = Telling {
            run: self.run.clone(),
            seed: self.seed,
            cluster: &self.session.label,
            started_at: Telling::now(),
            absent: absent.map_err(|error| Failure::new(Exit::SetUp, error))?,
            wanted: loaded.len() * times as usize,
            out: self.out,
        };
        let load = LiveLoad::new(self.session.client.clone());
        let (mut drills, series) = (Vec::new(), Series::new());
        let mut report = telling.write(&drills, &series)?;
        let each =
            loaded.iter().enumerate().flat_map(|one| Repeat::each(times).map(move |repeat| (one, repeat)));
        for ((index, one), repeat) in each {
            drills.push(self.one(index, one, repeat, &load).await?);
            report = telling.write(&drills, &series)?;
            if self.stop.is_requested() || drills.iter().any(|drill| !drill.residue.is_empty()) {
                break;
            }
        }
        Ok(report)
    }

    async fn one(
        &self,
        index: usize,
        one: &Loaded,
        repeat: Repeat,
        load: &LiveLoad,
    ) -> Result<ExperimentReport, Failure> {
        let name = &one.drill.drill;
        let run = RunId(repeat.run(&format!("{}e{index}", self.run)));
        let journal = self.session.journals.join(format!("{run}-{name}.jsonl"));
        let place = Place::open(self.out, &repeat.label(name), Some(journal), &self.session.label)?;
        let mut report = run_drill(Drilling {
            world: self.world,
            load,
            drill: &one.drill,
            scenario: &one.scenario,
            run: &run,
            seed: repeat.seed(self.seed),
            settings: &place.settings,
            stop: self.stop,
            recorder: &place.recorder,
        })
        .await;
        report.repeat = repeat.0;
        place.close(&report)?;
        Ok(report)
    }
}
