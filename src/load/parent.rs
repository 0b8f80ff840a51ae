//! The parent's side: starts the child, listens to it, stops it for certain.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use super::LoadError;
use super::protocol::{Line, Totals};
use super::spec::ChildSpec;
use crate::model::LoadSecond;

/// Seconds that may wait for their reader: the child's longest life by default, and more.
const SECONDS_MAX: usize = 1 << 15;
/// Of the generator, see [`super::child`].
const NICENESS: &str = "-10";
/// For a killed process to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);
/// For a word to be taken; the pipe is empty.
const STEP_MAX: Duration = Duration::from_secs(2);
/// A complete answer line is far shorter.
const REASON_CHARS_MAX: usize = 500;

/// How a child ended that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub totals: Totals,
}

/// What the listening task knows.
#[derive(Debug, Clone, Default)]
struct Heard {
    prepared: Option<u64>,
    totals: Option<Totals>,
    /// Set once, when the process is gone.
    exit: Option<Result<ExitStatus, String>>,
}

/// A running load process. Dropping it closes the child's standard input, at which the child stops by itself.
#[derive(Debug)]
pub struct LoadChild {
    group: Pid,
    stdin: Option<ChildStdin>,
    heard: watch::Receiver<Heard>,
    seconds: Option<mpsc::Receiver<LoadSecond>>,
    log: PathBuf,
}

impl LoadChild {
    /// Starts this very program as a load child, in a process group of its own. `directory` receives
    /// `load.json` (the spec) and `load.log` (the child's standard error).
    ///
    /// # Errors
    /// When the spec cannot be meant, the files cannot be written, or the process cannot be started.
    pub fn spawn(spec: &ChildSpec, directory: &Path) -> Result<Self, LoadError> {
        let program = std::env::current_exe()
            .map_err(|source| LoadError::Spawn { program: PathBuf::from("mettle"), source })?;
        Self::spawn_program(&program, spec, directory)
    }

    /// The same with the program's path, for callers that are not `mettle` themselves.
    ///
    /// # Errors
    /// As `spawn`.
    pub fn spawn_program(program: &Path, spec: &ChildSpec, directory: &Path) -> Result<Self, LoadError> {
        spec.validate()?;
        let (spec_path, log) = (directory.join("load.json"), directory.join("load.log"));
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::WriteSpec { path, source }
        };
        let text =
            serde_json::to_vec_pretty(spec).map_err(std::io::Error::from).map_err(write(&spec_path))?;
        std::fs::write(&spec_path, text).map_err(write(&spec_path))?;
        let stderr = File::create(&log).map_err(write(&log))?;
        let mut child = first_of_all(program)
            .args(["internal", "load", "--spec"])
            .arg(&spec_path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(false)
            .spawn()
            .map_err(|source| LoadError::Spawn { program: program.to_owned(), source })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let (Some(group), Some(stdout)) = (pid, child.stdout.take()) else {
            let source = std::io::Error::other("it ended at once");
            return Err(LoadError::Spawn { program: program.to_owned(), source });
        };
        let stdin = child.stdin.take();
        let (heard_to, heard) = watch::channel(Heard::default());
        let (seconds_to, seconds) = mpsc::channel(SECONDS_MAX);
        tokio::spawn(listen(child, stdout, heard_to, seconds_to));
        Ok(Self { group, stdin, heard, seconds: Some(seconds), log })
    }

    /// Process id of the child, and id of its group.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// The seconds, as they end (about 0.3 s later). Can be taken once. They stop when the child is gone.
    pub fn seconds(&mut self) -> Option<mpsc::Receiver<LoadSecond>> {
        self.seconds.take()
    }

    /// Waits until all preparing steps are done and the load begins; how many requests they were.
    ///
    /// # Errors
    /// When the child ends before, or the deadline passes.
    pub async fn prepared(&mut self, deadline: Duration) -> Result<u64, LoadError> {
        let waited_ms = deadline.as_millis() as u64;
        let heard = self.heard.wait_for(|heard| heard.prepared.is_some() || heard.exit.is_some());
        let heard = match tokio::time::timeout(deadline, heard).await {
            Ok(Ok(heard)) => heard.clone(),
            Ok(Err(_)) => Heard::default(),
            Err(_) => return Err(LoadError::Deadline { what: "prepare", waited_ms }),
        };
        heard.prepared.ok_or_else(|| self.died(&heard))
    }

    /// Resolves when the child has ended without being told to: the run is broken. Cancel safe; for `select!`.
    pub async fn died_by_itself(&mut self) -> LoadError {
        let heard = self.heard.wait_for(|heard| heard.exit.is_some()).await;
        let heard = heard.map(|heard| heard.clone()).unwrap_or_default();
        self.died(&heard)
    }

    /// Tells the child to step up, or back.
    ///
    /// # Errors
    /// When it does not take the word: it is gone.
    pub async fn step(&mut self, up: bool) -> Result<(), LoadError> {
        let word: &[u8] = if up { b"step\n" } else { b"steady\n" };
        let told = match &mut self.stdin {
            Some(stdin) => tokio::time::timeout(STEP_MAX, stdin.write_all(word)).await,
            None => Ok(Ok(())),
        };
        match told {
            Ok(Ok(())) => Ok(()),
            _ => Err(LoadError::Deadline { what: "take a step", waited_ms: STEP_MAX.as_millis() as u64 }),
        }
    }

    /// Tells the child to stop, waits until it has drained and written everything, and kills its group when it
    /// has not by the deadline. After this no process of it is left, whatever the answer.
    ///
    /// # Errors
    /// When the child had to be killed, had died before, or did not account for its operations.
    pub async fn stop(mut self, deadline: Duration) -> Result<Ended, LoadError> {
        if let Some(mut stdin) = self.stdin.take() {
            // A closed pipe means that it is gone already, which is seen below. The pipe holds far more than this line.
            let _ = tokio::time::timeout(deadline, stdin.write_all(b"stop\n")).await;
        }
        if !self.gone_within(deadline).await {
            // The group may be gone by now; or it did not even come to make one.
            let _ = killpg(self.group, Signal::SIGKILL).or_else(|_| kill(self.group, Signal::SIGKILL));
            self.gone_within(KILL_MAX).await;
            return Err(LoadError::Deadline { what: "stop", waited_ms: deadline.as_millis() as u64 });
        }
        let heard = self.heard.borrow().clone();
        match (&heard.exit, heard.totals) {
            (Some(Ok(status)), Some(totals)) if status.success() => Ok(Ended { totals }),
            _ => Err(self.died(&heard)),
        }
    }

    async fn gone_within(&mut self, deadline: Duration) -> bool {
        let gone = self.heard.wait_for(|heard| heard.exit.is_some());
        // An error means that the listening task is gone, which it only is after the child.
        tokio::time::timeout(deadline, gone).await.is_ok()
    }

    fn died(&self, heard: &Heard) -> LoadError {
        let status = match &heard.exit {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => error.clone(),
            None => "unknown".to_owned(),
        };
        LoadError::Died { status, reason: last_line(&self.log) }
    }
}

/// Reads the child's standard output to its end, then waits for the process.
async fn listen(
    mut child: Child,
    stdout: ChildStdout,
    heard: watch::Sender<Heard>,
    seconds: mpsc::Sender<LoadSecond>,
) {
    let mut lines = BufReader::new(stdout).lines();
    // No deadline: it ends with the child, which ends with this process.
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Line::Prepared(count)) => heard.send_modify(|heard| heard.prepared = Some(count)),
            Ok(Line::Ended(totals)) => heard.send_modify(|heard| heard.totals = Some(totals)),
            Ok(Line::Second(second)) => {
                // Never wait here: a child that cannot write would stop recording.
                if let Err(mpsc::error::TrySendError::Full(second)) = seconds.try_send(second) {
                    tracing::warn!(at_ms = second.at_ms, "nobody takes the seconds of the load: dropped");
                }
            }
            Err(error) => tracing::warn!(%error, line, "load process said something else"),
        }
    }
    let exit = child.wait().await.map_err(|error| error.to_string());
    heard.send_modify(|heard| heard.exit = Some(exit));
}

/// The child's own last word, for the message.
fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.clone().find(|line| line.starts_with("mettle: ")).or_else(|| lines.clone().next());
    let said = said.map_or("it said nothing", |line| line.trim_start_matches("mettle: "));
    said.chars().take(REASON_CHARS_MAX).collect()
}

/// Only root may put a process of its own before others. It makes its session and group itself, since it can only do so while
/// it leads none.
fn first_of_all(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("nice");
    command.args(["-n", NICENESS]).arg(program);
    command
}
