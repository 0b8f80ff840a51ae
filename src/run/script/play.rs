//! A script from its first probe to its report.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::super::experiment::Settings;
use super::super::window::Injected;
use super::super::{
    Entry as Journalled, Journal, Recorder, Reverted, Stop, World, resolve_script, revert_all,
};
use super::log::{Entry, Log, Part, Status};
use super::player::{Bench, Ended, Player, joined};
use super::{Outside, findings, toolkit_journal};
use crate::cluster::chain;
use crate::model::{
    ExperimentReport, Fact, OnConflict, Phase, RunId, RunOutcome, Script, Seed, Watch, Window, Windows,
};

const RESIDUE_DEADLINE: Duration = Duration::from_secs(30);
const PROBES_END: Duration = Duration::from_secs(5);

/// Everything that a script needs, borrowed from its caller.
pub struct ScriptContext<'a, W: World, O: Outside> {
    pub world: &'a Arc<W>,
    pub outside: &'a Arc<O>,
    pub script: &'a Arc<Script>,
    /// Of its directory and its journal.
    pub name: &'a str,
    pub run: &'a RunId,
    pub seed: Seed,
    pub settings: &'a Settings,
    pub stop: &'a Stop,
    pub recorder: &'a Recorder,
}

/// What a script left.
#[derive(Debug, Clone)]
pub struct Played {
    pub report: ExperimentReport,
    /// As Chaos Toolkit writes it.
    pub journal: Value,
}

/// All that is known when a script is over.
pub(super) struct Over {
    pub entries: Vec<Entry>,
    pub injected: Vec<Injected>,
    pub windows: Windows,
    pub outcome: RunOutcome,
    pub residue: Vec<String>,
    pub started: DateTime<Utc>,
}

/// Plays one script. Always gives a report; what went wrong is its `outcome`.
pub async fn run_script<W: World, O: Outside>(context: ScriptContext<'_, W, O>) -> Played {
    let started = Utc::now();
    let end = CancellationToken::new();
    let probes = tokio::spawn({
        let (world, recorder, end) = (context.world.clone(), context.recorder.clone(), end.clone());
        async move { world.observe(Watch::default(), recorder, end).await }
    });
    let over = match prepared(&context).await {
        Ok(journal) => played(&context, journal, started).await,
        Err(reason) => Over {
            entries: Vec::new(),
            injected: Vec::new(),
            windows: Windows::default(),
            outcome: RunOutcome::Broken(reason),
            residue: Vec::new(),
            started,
        },
    };
    end.cancel();
    if tokio::time::timeout(PROBES_END, probes).await.is_err() {
        context.recorder.note("probes did not end within 5 s");
    }
    let events = context.recorder.events();
    let report = findings::report(context.script, context.name, context.seed, events, &over);
    let journal = toolkit_journal::journal(context.script, &over);
    Played { report, journal }
}

/// Everything that can be refused before anything is touched; then the journal of what mettle changes.
async fn prepared<W: World, O: Outside>(context: &ScriptContext<'_, W, O>) -> Result<Journal, String> {
    context.recorder.record(Fact::PhaseStarted { phase: Phase::Prepare });
    if context.script.faults().next().is_some() {
        let snapshot = context.world.snapshot().await.map_err(|error| error.chain())?;
        resolve_script(context.script, context.name, context.run, context.seed, &snapshot)
            .map_err(|error| error.to_string())?;
    }
    let settings = context.settings;
    let opened = async {
        let mut journal = Journal::open(&settings.journal, settings.hook.clone())?;
        let entry = Journalled::Opened {
            run: context.run.clone(),
            cluster: settings.cluster.clone(),
            experiment: context.name.to_owned(),
            seed: context.seed,
        };
        journal.append(&entry).await.map(|()| journal)
    };
    opened.await.map_err(|error| chain(&error))
}

async fn played<W: World, O: Outside>(
    context: &ScriptContext<'_, W, O>,
    journal: Journal,
    started: DateTime<Utc>,
) -> Over {
    let windows = Arc::new(Mutex::new(Windows::default()));
    let player = Arc::new(Player {
        world: context.world.clone(),
        outside: context.outside.clone(),
        script: context.script.clone(),
        name: context.name.to_owned(),
        run: context.run.clone(),
        seed: context.seed,
        stop: context.stop.clone(),
        recorder: context.recorder.clone(),
        log: Log::default(),
        bench: Arc::new(tokio::sync::Mutex::new(Bench { journal, injected: Vec::new() })),
        over: CancellationToken::new(),
        beside: Mutex::default(),
    });
    // In a task of its own, so that a panic in it still comes back here and is reverted and rolled back.
    let body = tokio::spawn(body(player.clone(), windows.clone())).await;
    let ended = body.unwrap_or_else(|panic| Err(Ended::Broken(format!("the script failed: {panic}"))));
    // What plays beside the method ends now; an apply that is under way comes to its end first.
    player.over.cancel();
    let mut outcome = outcome_of(context, ended);
    for played in player.take_beside() {
        if let (Err(Ended::Broken(reason)), RunOutcome::Completed) = (joined(played.await), &outcome) {
            outcome = RunOutcome::Broken(reason);
        }
    }
    let mut residue = revert(context, &player).await;
    rollbacks(context, &player, &mut residue).await;
    residue.extend(left(context).await);
    if outcome == RunOutcome::Completed && context.stop.is_requested() {
        // It came late: what was asked was answered, but a person wanted it to end.
        outcome = outcome_of(context, Err(Ended::Stopped));
    }
    let mut bench = player.bench.lock().await;
    let now_ms = context.recorder.clock().now_ms();
    for injected in &mut bench.injected {
        if residue.is_empty() && injected.begun.reverted_ms.is_none() {
            injected.begun.reverted_ms = Some(now_ms);
            context.recorder.record(Fact::FaultReverted { fault: injected.begun.fault.index });
        }
    }
    let windows = *windows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Over {
        entries: player.log.entries(),
        injected: bench.injected.clone(),
        windows,
        outcome,
        residue,
        started,
    }
}

fn outcome_of<W: World, O: Outside>(
    context: &ScriptContext<'_, W, O>,
    ended: Result<(), Ended>,
) -> RunOutcome {
    match ended {
        Ok(()) => RunOutcome::Completed,
        Err(Ended::Broken(reason)) => RunOutcome::Broken(reason),
        Err(Ended::Stopped) => {
            let reason = context.stop.reason().unwrap_or("no reason was given").to_owned();
            context.recorder.record(Fact::Stop { reason: reason.clone() });
            RunOutcome::Stopped(reason)
        }
    }
}

/// Hypothesis, method, hypothesis.
async fn body<W: World, O: Outside>(
    player: Arc<Player<W, O>>,
    windows: Arc<Mutex<Windows>>,
) -> Result<(), Ended> {
    let now_ms = || player.recorder.clock().now_ms();
    let phase = |phase| player.recorder.record(Fact::PhaseStarted { phase });
    let with = |see: &dyn Fn(&mut Windows)| {
        see(&mut windows.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    };
    let start_ms = phase(Phase::Baseline);
    let met = player.hypothesis(Part::Before).await?;
    let end_ms = now_ms();
    with(&|windows| windows.baseline = Window { start_ms, end_ms });
    if !met {
        // No steady state, no injection.
        return Ok(());
    }
    let start_ms = phase(Phase::Fault);
    let ended = player.method().await;
    let end_ms = now_ms();
    with(&|windows| windows.fault = Window { start_ms, end_ms });
    ended?;
    let start_ms = phase(Phase::Recovery);
    let asked = player.hypothesis(Part::After).await;
    let end_ms = now_ms();
    with(&|windows| windows.recovery = Window { start_ms, end_ms });
    asked.map(drop)
}

/// mettle's own changes. Never cancelled; a second signal stops the waiting, and the journal keeps what is open.
async fn revert<W: World, O: Outside>(
    context: &ScriptContext<'_, W, O>,
    player: &Arc<Player<W, O>>,
) -> Vec<String> {
    context.recorder.record(Fact::PhaseStarted { phase: Phase::Revert });
    let reverted = async {
        let mut bench = player.bench.lock().await;
        revert_all(&**context.world, &mut bench.journal, context.recorder, OnConflict::Tell).await
    };
    let reverted = tokio::select! {
        biased;
        () = context.stop.second() => {
            let path = context.settings.journal.display();
            Ok(Reverted { undone: Vec::new(), open: vec![format!("not waited for: {path}")] })
        }
        reverted = reverted => reverted,
    };
    match reverted {
        Ok(reverted) => reverted.open,
        Err(error) => vec![format!("nothing was reverted by the journal: {}", chain(&error))],
    }
}

/// The file's own. One that did not do what it is for may have left what the method did.
async fn rollbacks<W: World, O: Outside>(
    context: &ScriptContext<'_, W, O>,
    player: &Arc<Player<W, O>>,
    residue: &mut Vec<String>,
) {
    // In a task of its own, like the method: a panic in it must not keep the rest from being told.
    let played = tokio::spawn({
        let player = player.clone();
        async move { player.rollbacks().await }
    });
    if let Err(panic) = played.await {
        residue.push(format!("the rollbacks failed: {panic}"));
    }
    let entries = player.log.entries();
    let touched = entries.iter().any(|entry| entry.part == Part::Method && !entry.activity.is_probe);
    let played: Vec<&Entry> = entries.iter().filter(|entry| entry.part == Part::Rollbacks).collect();
    for (position, activity) in context.script.rollbacks.iter().enumerate() {
        let entry = played.iter().find(|entry| entry.position == position);
        let wrong = match entry {
            None => Some("was not played".to_owned()),
            Some(entry) if entry.status != Status::Succeeded => Some(entry.why.clone()),
            Some(entry) => findings::refused(&entry.activity, &entry.output),
        };
        let Some(wrong) = wrong.filter(|_| !activity.is_probe) else { continue };
        let line = context.script.hidden.scrub(&format!("rollback {}: {wrong}", activity.name));
        // Without an action there is nothing that it could have left.
        if touched { residue.push(line) } else { context.recorder.note(line) }
    }
}

async fn left<W: World, O: Outside>(context: &ScriptContext<'_, W, O>) -> Vec<String> {
    match tokio::time::timeout(RESIDUE_DEADLINE, context.world.residue()).await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => vec![format!("the residue scan failed: {}", error.chain())],
        Err(_) => {
            vec![format!("the residue scan gave no answer within {} s", RESIDUE_DEADLINE.as_secs())]
        }
    }
}
