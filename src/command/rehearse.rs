//! `mettle rehearse`: faults one after another, without a judgement of the stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tabled::builder::Builder;
use tabled::settings::{Modify, Style, Width, object::Columns};

use crate::cli::{Global, RehearseArgs};
use crate::command::files::{NamedBy, usage};
use crate::command::record::refuse_residue;
use crate::command::session::{self, Session};
use crate::command::{CommandResult, Failure, translate};
use crate::exit::Exit;
use crate::model::{FaultKind, Rehearsal, RehearsalRow, RunId, Scenario, Seed, Verdict};
use crate::run::{LiveLoad, LiveWorld, Load, LoadStart, Recorder, Rehearsing, RunClock, RunningLoad, Stop};

const LOAD_START_DEADLINE: Duration = Duration::from_secs(60);
/// How the directory of a rehearsal's traffic ends.
pub(super) const LOAD_FILES: &str = "-load";
const LOAD_STOP_DEADLINE: Duration = Duration::from_secs(20);

pub async fn execute(global: &Global, args: &RehearseArgs) -> CommandResult {
    let rehearsal = translate::rehearsal(&args.file)?;
    let wanted = wanted(args, &rehearsal)?;
    let session = session::open(global).await?;
    session.refuse_unreverted()?;
    session.require_rights(wanted.iter().map(|index| rehearsal.faults[*index].kind).collect()).await?;
    let world = Arc::new(session.world().await?);
    refuse_residue(&*world).await?;
    let seed = args.seed.map_or_else(|| Seed(u64::from(rand::random::<u32>())), Seed);
    let run = RunId(format!("t{:x}", chrono::Utc::now().timestamp()));
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::new(Exit::Internal, error))?;
    fs::create_dir_all(&session.journals).map_err(|error| Failure::new(Exit::SetUp, error))?;
    eprintln!("mettle: rehearsal {run}, seed {seed}, cluster {}, {} faults", session.label, wanted.len());
    let load = start_load(&session, &rehearsal, args, &run, seed).await?;
    let ground = Ground { session: &session, world: &world, stop: &stop, run: &run, seed };
    let rows = if rehearsal.schedule {
        ground.together(args, &rehearsal).await?
    } else {
        ground.one_by_one(args, &rehearsal, &wanted).await?
    };
    if let Some((load, files)) = load {
        if let Err(error) = load.stop(LOAD_STOP_DEADLINE).await {
            eprintln!("mettle: the load did not end well: {}", error.chain());
        }
        let _ = fs::remove_dir_all(files);
    }
    if global.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
    } else {
        println!("{}", table(&rows));
    }
    Ok(exit_of(&rows, wanted.len() * args.repeat as usize))
}

/// What every round of a rehearsal stands on.
struct Ground<'a> {
    session: &'a Session,
    world: &'a Arc<LiveWorld>,
    stop: &'a Stop,
    run: &'a RunId,
    seed: Seed,
}

impl Ground<'_> {
    fn rehearsing<'b>(
        &'b self,
        run: &'b RunId,
        round: u32,
        rehearsal: &Rehearsal,
    ) -> Rehearsing<'b, LiveWorld> {
        Rehearsing {
            world: self.world,
            stop: self.stop,
            run,
            seed: self.seed.derive(&format!("round/{round}")),
            limits: rehearsal.limits.clone(),
            cluster: &self.session.label,
            journals: &self.session.journals,
            hook: None,
        }
    }

    async fn one_by_one(
        &self,
        args: &RehearseArgs,
        rehearsal: &Rehearsal,
        wanted: &[usize],
    ) -> Result<Vec<RehearsalRow>, Failure> {
        let mut rows = Vec::new();
        for (turn, index) in wanted.iter().enumerate() {
            for round in 0..args.repeat {
                let run = RunId(format!("{}n{}", self.run, rows.len()));
                let row =
                    self.rehearsing(&run, round, rehearsal).one(*index, &rehearsal.faults[*index]).await;
                eprintln!("mettle: {}/{} {}", turn + 1, wanted.len(), line(&row));
                let left = !row.residue.is_empty();
                rows.push(row);
                if let Some(out) = &args.out {
                    write(out, &rows)?;
                }
                // On what an earlier fault left nothing can be judged.
                if left || self.stop.is_requested() {
                    return Ok(rows);
                }
            }
        }
        Ok(rows)
    }

    /// All faults of a schedule, as often as asked.
    async fn together(
        &self,
        args: &RehearseArgs,
        rehearsal: &Rehearsal,
    ) -> Result<Vec<RehearsalRow>, Failure> {
        let mut rows = Vec::new();
        for round in 0..args.repeat {
            let run = RunId(format!("{}n{round}", self.run));
            let of_round = self.rehearsing(&run, round, rehearsal).together(rehearsal).await;
            let left = of_round.iter().any(|row| !row.residue.is_empty());
            of_round.iter().for_each(|row| eprintln!("mettle: round {}: {}", round + 1, line(row)));
            rows.extend(of_round);
            if let Some(out) = &args.out {
                write(out, &rows)?;
            }
            if left || self.stop.is_requested() {
                break;
            }
        }
        Ok(rows)
    }
}

/// The traffic of the rehearsal, and the directory of its files.
async fn start_load(
    session: &Session,
    rehearsal: &Rehearsal,
    args: &RehearseArgs,
    run: &RunId,
    seed: Seed,
) -> Result<Option<(<LiveLoad as Load>::Running, PathBuf)>, Failure> {
    let Some(scenario) = &rehearsal.scenario else { return Ok(None) };
    let path = args.file.parent().unwrap_or(Path::new(".")).join(scenario);
    let scenario = Scenario::read(&path).map_err(|error| usage(error, NamedBy::Experiment))?;
    let out = session.journals.join(format!("{run}{LOAD_FILES}"));
    fs::create_dir_all(&out).map_err(|error| Failure::new(Exit::SetUp, error))?;
    let recorder = Recorder::in_memory(RunClock::start());
    let start = LoadStart {
        scenario,
        load: rehearsal.load,
        seed: seed.derive("load"),
        run: run.clone(),
        clock_origin_ns: recorder.clock().origin_ns(),
        out: out.clone(),
    };
    let load = LiveLoad::new(session.client.clone());
    let started = load.start(start, recorder);
    match tokio::time::timeout(LOAD_START_DEADLINE, started).await {
        Ok(Ok(load)) => Ok(Some((load, out))),
        Ok(Err(error)) => Err(Failure::new(Exit::SetUp, error)),
        Err(_) => Err(Failure::new(Exit::SetUp, anyhow::anyhow!("the load was not ready within 60 s"))),
    }
}

/// Positions in the file.
fn wanted(args: &RehearseArgs, rehearsal: &Rehearsal) -> Result<Vec<usize>, Failure> {
    if rehearsal.schedule && !args.only.is_empty() {
        let error = anyhow::anyhow!("{} is one schedule: a part of it is another", args.file.display());
        return Err(Failure::new(Exit::Usage, error).hint("leave --only out"));
    }
    for name in &args.only {
        let known = FaultKind::ALL.iter().any(|kind| kind.as_str() == name);
        let listed = rehearsal.faults.iter().any(|fault| fault.kind.as_str() == name);
        if !listed {
            let what = if known { "lists no fault" } else { "cannot list" };
            let error = anyhow::anyhow!("{} {what} {name:?}", args.file.display());
            return Err(Failure::new(Exit::Usage, error).hint("`mettle list faults` names them all"));
        }
    }
    let is_wanted = |i: &usize| {
        let name = rehearsal.faults[*i].kind.as_str();
        args.only.is_empty() || args.only.iter().any(|only| only == name)
    };
    Ok((0..rehearsal.faults.len()).filter(is_wanted).collect())
}

fn write(out: &Path, rows: &[RehearsalRow]) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(rows).map_err(anyhow::Error::from)?;
    fs::write(out, text).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("failed to write {}", out.display()));
        Failure::new(Exit::SetUp, error).hint("choose another file with --out, or make room on the disk")
    })
}

fn line(row: &RehearsalRow) -> String {
    let told =
        if row.why.is_empty() { row.evidence.first().cloned().unwrap_or_default() } else { row.why.clone() };
    let (effective, reverted) = (seconds(row.effective_ms), seconds(row.reverted_ms));
    format!("{}: {} (effect {effective}, revert {reverted}): {told}", row.fault, row.verdict.as_str())
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0))
}

/// One line a fault; of several rounds the medians, and the largest.
fn table(rows: &[RehearsalRow]) -> String {
    let mut table = Builder::default();
    table.push_record(["fault", "verdict", "applied", "effect", "revert", "evidence"]);
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.fault.as_str()) {
            names.push(&row.fault);
        }
    }
    for name in names {
        let of_fault: Vec<&RehearsalRow> = rows.iter().filter(|row| row.fault == name).collect();
        let worst = of_fault.iter().max_by_key(|row| row.verdict);
        let told =
            worst.map(|row| if row.why.is_empty() { row.evidence.join("; ") } else { row.why.clone() });
        let figure = |of: fn(&RehearsalRow) -> Option<u64>| {
            let mut all: Vec<u64> = of_fault.iter().filter_map(|row| of(row)).collect();
            all.sort_unstable();
            match all[..] {
                [] => "-".to_owned(),
                [one] => seconds(Some(one)),
                _ => format!("{} (max {})", seconds(Some(all[all.len() / 2])), seconds(all.last().copied())),
            }
        };
        table.push_record([
            name.to_owned(),
            worst.map_or_else(String::new, |row| row.verdict.as_str().to_owned()),
            figure(|row| row.applied_ms),
            figure(|row| row.effective_ms),
            figure(|row| row.reverted_ms),
            told.unwrap_or_default(),
        ]);
    }
    let mut table = table.build();
    table.with(Style::sharp()).with(Modify::new(Columns::last()).with(Width::wrap(80).keep_words(true)));
    let passed = rows.iter().filter(|row| row.verdict == Verdict::Pass).count();
    format!("{table}\n{passed} of {} passed", rows.len())
}

fn exit_of(rows: &[RehearsalRow], wanted: usize) -> Exit {
    if rows.iter().any(|row| !row.residue.is_empty()) {
        return Exit::RevertIncomplete;
    }
    let all = rows.len() == wanted && rows.iter().all(|row| row.verdict == Verdict::Pass);
    if all { Exit::Pass } else { Exit::Inconclusive }
}
