//! One experiment, from its snapshot to its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::judge::judge;
use super::rest::rest;
use super::step::with_step;
use super::window::{FaultWindow, Injected, Injections, WindowError, window_seconds};
use super::{
    Entry, Hook, Journal, JournalError, Load, LoadStart, Recorder, Reverted, RunningLoad, Stop, World,
    all_restored, archive_moved, resolve, revert_all,
};
use crate::check;
use crate::cluster::chain;
use crate::model::{
    CheckKind, Experiment, ExperimentReport, Fact, FaultSpec, GateRecord, OnConflict, Operation, Phase,
    RunId, RunOutcome, Scenario, Seed, Timeline, Verdict, Watch, Window, Windows,
};

const TICK: Duration = Duration::from_millis(250);
/// How often a baseline is looked at that is not steady.
const BASELINES_MAX: usize = 3;
const LOAD_START_DEADLINE: Duration = Duration::from_secs(60);
const LOAD_STOP_DEADLINE: Duration = Duration::from_secs(20);
const RESIDUE_DEADLINE: Duration = Duration::from_secs(30);
/// Beyond the phases themselves: set-up, reverts, judging.
const SLACK: Duration = Duration::from_secs(420);

/// Where an experiment writes, and what it is told.
#[derive(Clone)]
pub struct Settings {
    pub out: PathBuf,
    pub journal: PathBuf,
    pub cluster: String,
    pub hook: Option<Hook>,
}

/// What the body of an experiment has done so far; survives its panic.
#[derive(Debug, Default, Clone)]
pub(super) struct Progress {
    pub windows: Windows,
    pub injected: Vec<Injected>,
    pub gate: Option<GateRecord>,
    /// The gate is open.
    pub steady: bool,
}

/// Everything that an experiment needs, borrowed from its caller.
pub struct Context<'a, W: World, L: Load> {
    pub world: &'a Arc<W>,
    pub load: &'a L,
    pub experiment: &'a Experiment,
    pub scenario: &'a Scenario,
    pub run: &'a RunId,
    pub seed: Seed,
    pub settings: &'a Settings,
    pub stop: &'a Stop,
    pub recorder: &'a Recorder,
    /// Everything as ever, but nothing is injected.
    pub control: bool,
}

/// Runs one experiment. Always gives a report; what went wrong is its `outcome`.
pub async fn run_experiment<W: World, L: Load>(context: Context<'_, W, L>) -> ExperimentReport {
    let unrolled = context.experiment.unrolled(context.seed);
    let context = Context { experiment: &unrolled, ..context };
    let end_probes = CancellationToken::new();
    let probes = tokio::spawn({
        let (world, recorder, end) = (context.world.clone(), context.recorder.clone(), end_probes.clone());
        let watch = Watch::of(&context.experiment.expect);
        async move { world.observe(watch, recorder, end).await }
    });
    let ended = with_load(&context).await;
    end_probes.cancel();
    // The probes end by themselves; one that hangs must not hold the verdict up.
    if tokio::time::timeout(Duration::from_secs(5), probes).await.is_err() {
        context.recorder.note("probes did not end within 5 s");
    }
    judge(&context, ended).await
}

/// What is left when load and faults are over.
pub(super) struct Ended {
    pub progress: Progress,
    pub outcome: RunOutcome,
    pub operations: Vec<Operation>,
    pub residue: Vec<String>,
}

impl Ended {
    fn of(outcome: RunOutcome) -> Self {
        Self { progress: Progress::default(), outcome, operations: Vec::new(), residue: Vec::new() }
    }

    fn broken(reason: impl Into<String>) -> Self {
        Self::of(RunOutcome::Broken(reason.into()))
    }
}

async fn with_load<W: World, L: Load>(context: &Context<'_, W, L>) -> Ended {
    context.phase(Phase::Prepare);
    // Resolved once before anything is touched: a plan that cannot be meant is refused here.
    match context.world.snapshot().await {
        Err(error) => return Ended::broken(error.chain()),
        Ok(snapshot) => {
            if let Err(error) = resolve(context.experiment, context.run, context.seed, &snapshot) {
                return Ended::broken(error.to_string());
            }
        }
    }
    if rest(context.experiment, context.recorder, context.stop).await.is_err() {
        return Ended::of(context.stopped());
    }
    // What an earlier run left to wait for is not of this experiment's time.
    let _deadline = context.stop.after(Settings::deadline(context.experiment));
    let mut journal = match Journal::open(&context.settings.journal, context.settings.hook.clone()) {
        Ok(journal) => journal,
        Err(error) => return Ended::broken(chain(&error)),
    };
    let opened = Entry::Opened {
        run: context.run.clone(),
        cluster: context.settings.cluster.clone(),
        experiment: context.experiment.name.clone(),
        seed: context.seed,
    };
    if let Err(error) = journal.append(&opened).await {
        return Ended::broken(chain(&error));
    }
    let start = LoadStart {
        scenario: context.scenario.clone(),
        load: context.experiment.load,
        seed: context.seed.derive("load"),
        run: context.run.clone(),
        clock_origin_ns: context.recorder.clock().origin_ns(),
        out: context.settings.out.clone(),
    };
    let started = context.load.start(start, context.recorder.clone());
    let mut load = match tokio::time::timeout(LOAD_START_DEADLINE, started).await {
        Ok(Ok(load)) => load,
        Ok(Err(error)) => return Ended::broken(error.chain()),
        Err(_) => {
            return Ended::broken(format!(
                "the load was not ready within {} s",
                LOAD_START_DEADLINE.as_secs()
            ));
        }
    };
    let (progress, outcome, residue) = faults_and_recovery(context, &mut load, journal).await;
    context.phase(Phase::Drain);
    let died = load.ended().await;
    let (operations, outcome) = match (load.stop(LOAD_STOP_DEADLINE).await, died) {
        // The first failure is the one that is told.
        (Ok(operations), Some(why)) => (operations, worse(outcome, format!("the load ended early: {why}"))),
        (Ok(operations), None) => (operations, outcome),
        (Err(error), _) => (Vec::new(), worse(outcome, error.chain())),
    };
    Ended { progress, outcome, operations, residue }
}

fn worse(outcome: RunOutcome, reason: String) -> RunOutcome {
    match outcome {
        RunOutcome::Completed => RunOutcome::Broken(reason),
        other => other,
    }
}

/// The body, then the revert, whatever became of the body, then the recovery.
async fn faults_and_recovery<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    opened: Journal,
) -> (Progress, RunOutcome, Vec<String>) {
    let mut progress = Progress::default();
    let mut outcome = baseline(context, load, &mut progress).await;
    let steady = progress.steady;
    // Until the recovery is over; a revert does not hear of it.
    let _conditions = steady.then(|| context.stop.on_broken(&context.experiment.stop_when, context.recorder));
    let journal = if outcome == RunOutcome::Completed && steady {
        let window = fault_window(context, opened, &mut progress);
        let ((journal, ended), stepped) = with_step(context, load, window).await;
        outcome = match stepped {
            Ok(()) => ended,
            Err(error) => worse(ended, error.chain()),
        };
        journal
    } else {
        Ok(opened)
    };
    let residue = revert(context, journal, &mut progress).await;
    if outcome == RunOutcome::Completed && steady {
        outcome = recovery(context, load, &mut progress).await;
    }
    progress.windows.recovery.end_ms = context.now_ms();
    (progress, outcome, residue)
}

/// Until it is steady, a few times: nothing is broken yet, and a stack that just took something back may still be moving.
async fn baseline<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    progress: &mut Progress,
) -> RunOutcome {
    context.phase(Phase::Warm);
    if context.stop.sleep(seconds(context.experiment.phases.warm)).await.is_err() {
        return context.stopped();
    }
    for _ in 0..BASELINES_MAX {
        let outcome = one_baseline(context, load, progress).await;
        if outcome != RunOutcome::Completed || progress.steady {
            return outcome;
        }
    }
    RunOutcome::Completed
}

async fn one_baseline<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    progress: &mut Progress,
) -> RunOutcome {
    context.phase(Phase::Baseline);
    let start_ms = context.now_ms();
    if context.stop.sleep(seconds(context.experiment.phases.baseline)).await.is_err() {
        return context.stopped();
    }
    progress.windows.baseline = Window { start_ms, end_ms: context.now_ms() };
    context.phase(Phase::Gate);
    // What users wanted in the window's last second is answered, or not, shortly after it.
    if context.stop.sleep(Duration::from_millis(1200)).await.is_err() {
        return context.stopped();
    }
    if let Some(why) = load.ended().await {
        return RunOutcome::Broken(format!("the load ended early: {why}"));
    }
    let operations = match load.operations().await {
        Ok(operations) => operations,
        Err(error) => return RunOutcome::Broken(error.chain()),
    };
    let (events, windows) = (context.recorder.events(), progress.windows);
    progress.gate = Some(GateRecord { events: events.len(), operations: operations.len() });
    let timeline = Timeline { events, operations, windows, ..Timeline::default() };
    let gate = check::baseline(context.experiment, &timeline, windows.baseline);
    progress.steady = gate.verdict == Verdict::Pass;
    RunOutcome::Completed
}

/// Runs the schedule in a task of its own, so that a panic in it still comes back here and is reverted.
async fn fault_window<W: World, L: Load>(
    context: &Context<'_, W, L>,
    journal: Journal,
    progress: &mut Progress,
) -> (Result<Journal, JournalError>, RunOutcome) {
    context.phase(Phase::Fault);
    let path = journal.path().to_owned();
    let start_ms = context.now_ms();
    let injected = Injections::default();
    let body = FaultWindow::new(context, journal, injected.clone());
    let (journal, outcome) = match tokio::spawn(body.run()).await {
        Ok((journal, Ok(()))) => (Ok(journal), RunOutcome::Completed),
        Ok((journal, Err(WindowError::Stopped))) => (Ok(journal), context.stopped()),
        Ok((journal, Err(WindowError::Inject(error)))) => (Ok(journal), RunOutcome::Broken(chain(&error))),
        Err(panic) => {
            let journal = Journal::open(&path, context.settings.hook.clone());
            (journal, RunOutcome::Broken(format!("the fault window failed: {panic}")))
        }
    };
    progress.injected = injected.take();
    let first = progress.injected.iter().map(|injected| injected.begun.injected_ms).min();
    let first =
        first.unwrap_or_else(|| match context.experiment.faults.iter().map(|fault| fault.at_seconds).min() {
            // The same window as with the faults.
            Some(at_seconds) if context.control => start_ms + u64::from(at_seconds) * 1000,
            _ => start_ms,
        });
    progress.windows.fault = Window { start_ms: first, end_ms: context.now_ms() };
    (journal, outcome)
}

/// Never cancelled. A second signal stops the waiting; the journal keeps what is open.
async fn revert<W: World, L: Load>(
    context: &Context<'_, W, L>,
    journal: Result<Journal, JournalError>,
    progress: &mut Progress,
) -> Vec<String> {
    context.phase(Phase::Revert);
    progress.windows.recovery.start_ms = context.now_ms();
    let reverted = async {
        match journal {
            Ok(mut journal) => {
                revert_all(&**context.world, &mut journal, context.recorder, OnConflict::Tell).await
            }
            Err(error) => Err(error),
        }
    };
    let reverted = tokio::select! {
        biased;
        () = context.stop.second() => {
            let path = context.settings.journal.display();
            Ok(Reverted { undone: Vec::new(), open: vec![format!("not waited for: {path}")] })
        }
        reverted = reverted => reverted,
    };
    let mut residue = match reverted {
        Ok(reverted) => reverted.open,
        // Only when somebody made the journal unreadable meanwhile: what it holds is not known to be undone.
        Err(error) => vec![format!("nothing was reverted by the journal: {}", chain(&error))],
    };
    let now_ms = context.now_ms();
    for injected in &mut progress.injected {
        if residue.is_empty() && injected.begun.reverted_ms.is_none() {
            injected.begun.reverted_ms = Some(now_ms);
            context.recorder.record(Fact::FaultReverted { fault: injected.begun.fault.index });
        }
    }
    match tokio::time::timeout(RESIDUE_DEADLINE, context.world.residue()).await {
        Ok(Ok(left)) => residue.extend(left),
        Ok(Err(error)) => residue.push(format!("the residue scan failed: {}", error.chain())),
        Err(_) => {
            residue.push(format!("the residue scan gave no answer within {} s", RESIDUE_DEADLINE.as_secs()))
        }
    }
    residue
}

async fn recovery<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    progress: &mut Progress,
) -> RunOutcome {
    context.phase(Phase::Recovery);
    let phases = context.experiment.phases;
    let since_ms = progress.windows.recovery.start_ms;
    // The window must be long enough to carry a judgement of its own.
    let stable_ms = context.experiment.stable_ms();
    let earliest_ms = since_ms + stable_ms;
    let latest_ms = context.now_ms() + u64::from(phases.recovery_max) * 1000;
    // A failover gives it something at once, the loss of a replica only when a file is full or its time is over.
    let archived = context.experiment.expect.iter().any(|spec| spec.check == CheckKind::ArchiveCurrent);
    while context.now_ms() < latest_ms {
        if context.stop.sleep(TICK).await.is_err() {
            return context.stopped();
        }
        if let Some(why) = load.ended().await {
            return RunOutcome::Broken(format!("the load ended early: {why}"));
        }
        let now_ms = context.now_ms();
        let restored = || {
            context.recorder.look(0, |events| {
                all_restored(events, since_ms, now_ms, stable_ms) && (!archived || archive_moved(events))
            })
        };
        if now_ms > earliest_ms && restored() {
            return RunOutcome::Completed;
        }
    }
    context.recorder.note(format!("the recovery window ended at its limit of {} s", phases.recovery_max));
    RunOutcome::Completed
}

impl<W: World, L: Load> Context<'_, W, L> {
    pub(super) fn phase(&self, phase: Phase) {
        self.recorder.record(Fact::PhaseStarted { phase });
    }

    fn now_ms(&self) -> u64 {
        self.recorder.clock().now_ms()
    }

    fn stopped(&self) -> RunOutcome {
        let reason = self.stop.reason().unwrap_or("no reason was given").to_owned();
        self.recorder.record(Fact::Stop { reason: reason.clone() });
        RunOutcome::Stopped(reason)
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

impl Settings {
    /// The longest that an experiment may take; beyond it the run is stopped and reverted.
    #[must_use]
    pub fn deadline(experiment: &Experiment) -> Duration {
        let phases = experiment.phases;
        // A repeat comes at most so much later.
        let later = |fault: &FaultSpec| {
            fault.repeat.map_or(0, |repeat| repeat.times * repeat.every_seconds + repeat.jitter_seconds)
        };
        let repeated = experiment.faults.iter().map(later).max().unwrap_or(0);
        let fault = window_seconds(experiment) + repeated;
        let whole = seconds(phases.warm + phases.baseline + fault + phases.recovery_max) + SLACK;
        experiment.limits.deadline_seconds.map_or(whole, |limit| whole.min(seconds(limit)))
    }
}
