//! `mettle run`: experiments in order, a verdict, a report.

use std::path::Path;
use std::sync::Arc;

use crate::cli::{DownArgs, Global, RunArgs, UpArgs};
use crate::command::files::{self, Loaded};
use crate::command::record::{Place, Repeat, Telling, fresh_directory, refuse_out, refuse_residue};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, down, script, up};
use crate::exit::Exit;
use crate::model::{ExperimentReport, Fact, Finding, RunId, Seed, Verdict};
use crate::report::Series;
use crate::run::{Context, LiveLoad, LiveWorld, Stop, run_experiment};
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
    refuse_residue(&*world).await?;
    let out = fresh_directory(&args.out)?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("r{:x}", chrono::Utc::now().timestamp()));
    let (label, count) = (&session.label, loaded.len());
    let often = if args.repeat > 1 { format!(", each {} times", args.repeat) } else { String::new() };
    eprintln!("mettle: run {run}, seed {seed}, cluster {label}, {count} experiments{often}");
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::new(Exit::Internal, error))?;
    let absent = stack::not_run_here(&session.client).await;
    let telling = Telling {
        run: run.clone(),
        seed,
        cluster: &session.label,
        started_at: Telling::now(),
        absent: absent.map_err(|error| Failure::new(Exit::SetUp, error))?,
        wanted: loaded.len() * args.repeat as usize,
        out: &out,
    };
    let load = LiveLoad::new(session.client.clone());
    let (mut experiments, mut series) = (Vec::new(), Series::new());
    let mut report = telling.write(&experiments, &series)?;
    'all: for (index, one) in loaded.iter().enumerate() {
        for repeat in Repeat::each(args.repeat) {
            let ran = Ran {
                session: &session,
                world: &world,
                load: &load,
                one,
                run: format!("{run}e{index}"),
                seed,
                repeat,
                stop: &stop,
                out: &out,
            };
            let experiment = if args.control {
                ran.with_control(&mut series).await?
            } else {
                ran.go(false, &mut series).await?
            };
            experiments.push(experiment);
            report = telling.write(&experiments, &series)?;
            if stop.is_requested() || experiments.iter().any(leaves_something) {
                break 'all;
            }
        }
    }
    Telling::end(global, &report, &out)
}

fn leaves_something(report: &ExperimentReport) -> bool {
    !report.residue.is_empty() || report.control.as_deref().is_some_and(leaves_something)
}

/// One run of one experiment.
struct Ran<'a> {
    session: &'a Session,
    world: &'a Arc<LiveWorld>,
    load: &'a LiveLoad,
    one: &'a Loaded,
    run: String,
    seed: Seed,
    repeat: Repeat,
    stop: &'a Stop,
    out: &'a Path,
}

impl Ran<'_> {
    /// First the same without a fault. What it leaves behind, or a stop, ends it there.
    async fn with_control(&self, series: &mut Series) -> Result<ExperimentReport, Failure> {
        let control = self.go(true, series).await?;
        let says = check::against_control(&control);
        let experiment = if self.stop.is_requested() || leaves_something(&control) {
            let seed = self.repeat.seed(self.seed);
            let (name, outcome) = (self.one.experiment.name.clone(), control.outcome.clone());
            let unrun = Finding::new("run", Verdict::Inconclusive, "nothing was injected after its control");
            let report = ExperimentReport::new(name, Verdict::Inconclusive, outcome, seed);
            ExperimentReport { findings: vec![unrun], repeat: self.repeat.0, ..report }
        } else {
            self.go(false, series).await?
        };
        Ok(report::with_control(experiment, control, says))
    }

    async fn go(&self, control: bool, series: &mut Series) -> Result<ExperimentReport, Failure> {
        let label = self.repeat.label(&self.one.experiment.name);
        let label = if control { format!("{label}.control") } else { label };
        let seed = self.repeat.seed(self.seed);
        let run = self.repeat.run(&self.run);
        let run = &RunId(if control { format!("{run}c") } else { run });
        let experiment = &self.one.experiment;
        let journal = self.session.journals.join(format!("{run}-{}.jsonl", experiment.name));
        let place = Place::open(self.out, &label, Some(journal), &self.session.label)?;
        let mut report = run_experiment(Context {
            world: self.world,
            load: self.load,
            experiment,
            scenario: &self.one.scenario,
            run,
            seed,
            settings: &place.settings,
            stop: self.stop,
            recorder: &place.recorder,
            control,
        })
        .await;
        report.repeat = self.repeat.0;
        let seconds = place.close(&report)?.into_iter().filter_map(|event| match event.fact {
            Fact::Load(second) => Some(second),
            _ => None,
        });
        series.insert(label, seconds.collect());
        Ok(report)
    }
}
