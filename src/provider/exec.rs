//! Runs a command of the system with a deadline, and keeps what it said when it failed.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How much of a failed command's standard error is kept.
const STDERR_CHARS_MAX: usize = 800;
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Error)]
pub enum ExecError {
    #[error("failed to start {command}")]
    Start {
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to wait for {command}")]
    Wait {
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("{command} ran longer than {seconds} s and was killed")]
    Deadline { command: String, seconds: u64 },
    #[error("{command}: {status}: {stderr}")]
    Failed { command: String, status: String, stderr: String },
}

/// A command line with a deadline.
#[derive(Debug)]
pub struct Exec {
    command: Command,
    deadline: Duration,
    stdin: Option<Vec<u8>>,
}

impl Exec {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), deadline: Duration::from_secs(20), stdin: None }
    }

    /// Splits a line at white space: for fixed command lines whose words hold none.
    pub fn line(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut exec = Self::new(words.next().unwrap_or_default());
        exec.command.args(words);
        exec
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: &std::path::Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it, and answers with its standard output when it succeeded.
    pub fn run(self) -> Result<String, ExecError> {
        self.run_with(|_| {})
    }

    /// The same; `on_line` hears every line of standard error while it runs.
    pub fn run_with(mut self, on_line: impl FnMut(&str) + Send) -> Result<String, ExecError> {
        let command = shown(&self.command);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child =
            self.command.spawn().map_err(|source| ExecError::Start { command: command.clone(), source })?;
        let input = child.stdin.take().zip(self.stdin.take());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let deadline = Instant::now() + self.deadline;
        thread::scope(|scope| {
            let out = scope.spawn(|| read_all(stdout));
            let err = scope.spawn(|| read_lines(stderr, on_line));
            scope.spawn(|| {
                if let Some((mut pipe, bytes)) = input {
                    // The command may close its input early; its exit status tells.
                    let _ = pipe.write_all(&bytes);
                }
            });
            let status = wait_until(&mut child, deadline)
                .map_err(|source| ExecError::Wait { command: command.clone(), source })?;
            let stdout = out.join().unwrap_or_default();
            let stderr = err.join().unwrap_or_default();
            match status {
                None => Err(ExecError::Deadline { command, seconds: self.deadline.as_secs() }),
                Some(status) if status.success() => Ok(stdout),
                Some(status) => {
                    Err(ExecError::Failed { command, status: status.to_string(), stderr: tail(&stderr) })
                }
            }
        })
    }
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_lines(pipe: Option<impl Read>, mut on_line: impl FnMut(&str)) -> String {
    let mut all = String::new();
    let Some(pipe) = pipe else { return all };
    for line in io::BufRead::lines(io::BufReader::new(pipe)).map_while(io::Result::ok) {
        on_line(&line);
        all.push_str(&line);
        all.push('\n');
    }
    all
}

/// The last part of a text, in one line.
fn tail(text: &str) -> String {
    let flat = text.trim().replace('\n', " | ");
    let skip = flat.chars().count().saturating_sub(STDERR_CHARS_MAX);
    flat.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_standard_output() {
        assert_eq!(Exec::line("echo one two").run().unwrap(), "one two\n");
        assert_eq!(Exec::new("cat").stdin("in").run().unwrap(), "in");
    }

    #[test]
    fn a_failure_keeps_the_end_of_standard_error() {
        let error = Exec::new("sh").args(["-c", "echo why >&2; exit 3"]).run().unwrap_err();
        assert!(matches!(&error, ExecError::Failed { stderr, .. } if stderr == "why"), "{error}");
    }

    #[test]
    fn a_deadline_kills() {
        let error = Exec::line("sleep 60").deadline(Duration::from_millis(50)).run().unwrap_err();
        assert!(matches!(error, ExecError::Deadline { .. }), "{error}");
    }
}
