//! Whole experiments of Chaos Toolkit, as `mettle run` plays them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::cli::{Global, RunArgs};
use crate::command::files::{NamedBy, usage};
use crate::command::record::{Place, Telling, fresh_directory, refuse_residue};
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, translate};
use crate::exit::Exit;
use crate::foreign::{self, Tool};
use crate::model::{Deed, ExperimentReport, RunId, Script, Seed, parse_yaml, read_text};
use crate::report::Series;
use crate::run::{Nowhere, Played, Reach, ScriptContext, Stop, World, find_program, run_script};
use crate::{provider, stack};

const HINT: &str = "docs/foreign.md says what is played and what is refused";

/// A script with its name.
pub struct Loaded {
    pub path: PathBuf,
    pub name: String,
    pub script: Arc<Script>,
}

/// The files as scripts; none when they are experiments of ours.
///
/// # Errors
/// When some are and some are not, when one cannot be played as a whole, and when one calls or runs what it may not.
pub fn load(args: &RunArgs) -> Result<Vec<Loaded>, Failure> {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut ours = 0;
    for file in &args.files {
        match read(file)? {
            Some(script) => loaded.push(script),
            None => ours += 1,
        }
    }
    if ours > 0 && !loaded.is_empty() {
        let error = anyhow::anyhow!("experiments of mettle and of Chaos Toolkit do not go into one run");
        return Err(Failure::new(Exit::Usage, error).hint("run them one after the other"));
    }
    let mut names: Vec<&str> = loaded.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let error = anyhow::anyhow!("two experiments have the title {:?}", twice[0]);
        return Err(
            Failure::new(Exit::Usage, error).hint("titles must differ: reports and journals bear them")
        );
    }
    for one in &loaded {
        refuse_unallowed(one, args)?;
        refuse_missing_programs(one)?;
    }
    Ok(loaded)
}

/// One file as a script, with what is told of it; nothing when it is a file of ours.
///
/// # Errors
/// When it cannot be read, is of Chaos Mesh, or cannot be played as a whole.
pub fn read(file: &Path) -> Result<Option<Loaded>, Failure> {
    let text = read_text(file).map_err(|error| usage(error, NamedBy::Caller))?;
    // What is no YAML is told by who reads our own files.
    let value = parse_yaml::<Value>(file, &text).unwrap_or_default();
    if Tool::of(&value) == Some(Tool::ChaosMesh) {
        let error =
            anyhow::anyhow!("{} is of Chaos Mesh, which says nothing of what must hold", file.display());
        let hint = "`mettle rehearse FILE` injects its faults; an experiment judges them under load";
        return Err(Failure::new(Exit::Usage, error).hint(hint));
    }
    let Some(scripted) = foreign::script(&value, &translate::surroundings()) else { return Ok(None) };
    translate::tell(file, &text, &scripted.refused, &scripted.notes);
    if !scripted.refused.is_empty() {
        let parts = scripted.refused.len();
        let error = anyhow::anyhow!(
            "{}: {parts} of its parts cannot be played, so nothing of it was: half of it would be another experiment",
            file.display()
        );
        return Err(Failure::new(Exit::Usage, error).hint(HINT));
    }
    let name = scripted.script.name();
    Ok(Some(Loaded { path: file.to_owned(), name, script: Arc::new(scripted.script) }))
}

/// What a file makes this machine do is its author's: a person must have said that it may.
fn refuse_unallowed(one: &Loaded, args: &RunArgs) -> Result<(), Failure> {
    let script = &one.script;
    for (does, allowed, what, flag) in [
        (script.calls(), args.allow_http, "calls addresses", "--allow-http"),
        (script.runs_programs(), args.allow_process, "runs programs", "--allow-process"),
    ] {
        if does && !allowed {
            let error =
                anyhow::anyhow!("{} {what} of its author's choice from this machine", one.path.display());
            let hint = format!("`mettle plan {}` shows which; {flag} allows it", one.path.display());
            return Err(Failure::new(Exit::Usage, error).hint(hint));
        }
    }
    Ok(())
}

fn refuse_missing_programs(one: &Loaded) -> Result<(), Failure> {
    for activity in one.script.activities() {
        let Deed::Process(call) = &activity.deed else { continue };
        if find_program(&call.path).is_none() {
            let path = one.script.hidden.scrub(&call.path);
            let error = anyhow::anyhow!(
                "{}: {}: there is no program {path:?} on this machine",
                one.path.display(),
                activity.name
            );
            return Err(Failure::new(Exit::Usage, error).hint("install it, or name it by its whole path"));
        }
    }
    Ok(())
}

/// Where the scripts are played.
struct Ground {
    label: String,
    /// Of mettle's own journals; without a cluster there is none to find them again for.
    journals: Option<PathBuf>,
    reach: Arc<Reach>,
    absent: Vec<String>,
}

pub async fn run_all(global: &Global, args: &RunArgs, scripts: &[Loaded]) -> CommandResult {
    if scripts.iter().any(|one| one.script.needs_cluster()) {
        let session = session::open(global).await?;
        session.refuse_unreverted()?;
        let world = Arc::new(session.world().await?);
        refuse_residue(&*world).await?;
        let ground = standing(&session).await?;
        return on(&world, ground, global, args, scripts).await;
    }
    let reach = Arc::new(Reach { client: None, kubeconfig: kubeconfig(global).await });
    let ground = Ground { label: "none".to_owned(), journals: None, reach, absent: Vec::new() };
    on(&Arc::new(Nowhere), ground, global, args, scripts).await
}

async fn standing(session: &Session) -> Result<Ground, Failure> {
    let absent = stack::not_run_here(&session.client).await;
    let kubeconfig = session.handle.kubeconfig.clone();
    eprintln!("mettle: programs find the cluster in KUBECONFIG={}", kubeconfig.display());
    Ok(Ground {
        label: session.label.clone(),
        journals: Some(session.journals.clone()),
        reach: Arc::new(Reach { client: Some(session.client.clone()), kubeconfig: Some(kubeconfig) }),
        absent: absent.map_err(|error| Failure::new(Exit::SetUp, error))?,
    })
}

/// Of the cluster that the flags mean, when it stands: a program of a file must not find another by chance.
async fn kubeconfig(global: &Global) -> Option<PathBuf> {
    let (kind, name) = (global.cluster, global.name.clone());
    let opened = tokio::task::spawn_blocking(move || provider::open(kind, &name)).await;
    let found = opened.ok().and_then(Result::ok).map(|handle| handle.kubeconfig);
    match &found {
        Some(path) => eprintln!("mettle: programs find the cluster in KUBECONFIG={}", path.display()),
        None => eprintln!("mettle: no cluster is opened; programs find your own KUBECONFIG, if any"),
    }
    found
}

async fn on<W: World>(
    world: &Arc<W>,
    ground: Ground,
    global: &Global,
    args: &RunArgs,
    scripts: &[Loaded],
) -> CommandResult {
    let out = fresh_directory(&args.out)?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("c{:x}", chrono::Utc::now().timestamp()));
    let (label, count) = (&ground.label, scripts.len());
    eprintln!("mettle: run {run}, seed {seed}, cluster {label}, {count} experiments of Chaos Toolkit");
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::new(Exit::Internal, error))?;
    let telling = Telling {
        run: run.clone(),
        seed,
        cluster: &ground.label,
        started_at: Telling::now(),
        absent: ground.absent.clone(),
        wanted: count,
        out: &out,
    };
    // Without a load there is none to draw.
    let (mut experiments, series) = (Vec::with_capacity(count), Series::new());
    let mut report = telling.write(&experiments, &series)?;
    for (index, one) in scripts.iter().enumerate() {
        let numbered = RunId(format!("{run}e{index}"));
        let turn = Turn { ground: &ground, world, one, run: &numbered, seed, stop: &stop };
        let experiment = turn.go(&out).await?;
        let left = !experiment.residue.is_empty();
        experiments.push(experiment);
        report = telling.write(&experiments, &series)?;
        if stop.is_requested() || left {
            break;
        }
    }
    Telling::end(global, &report, &out)
}

struct Turn<'a, W> {
    ground: &'a Ground,
    world: &'a Arc<W>,
    one: &'a Loaded,
    run: &'a RunId,
    seed: Seed,
    stop: &'a Stop,
}

impl<W: World> Turn<'_, W> {
    async fn go(&self, out: &Path) -> Result<ExperimentReport, Failure> {
        let name = &self.one.name;
        let journals = self.ground.journals.as_ref();
        let journal = journals.map(|journals| journals.join(format!("{}-{name}.jsonl", self.run)));
        let place = Place::open(out, name, journal, &self.ground.label)?;
        let Played { report, journal: toolkits } = run_script(ScriptContext {
            world: self.world,
            outside: &self.ground.reach,
            script: &self.one.script,
            name,
            run: self.run,
            seed: self.seed,
            settings: &place.settings,
            stop: self.stop,
            recorder: &place.recorder,
        })
        .await;
        let text = serde_json::to_string_pretty(&toolkits).map_err(anyhow::Error::from)?;
        place.write("journal.json", &text)?;
        place.close(&report)?;
        Ok(report)
    }
}
