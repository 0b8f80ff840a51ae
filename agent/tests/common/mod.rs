//! What the agent's tests share: targets with names of their own, and an agent that is listened to.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod net;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub const LONG: Duration = Duration::from_secs(30);

/// A process with a name of its own, so that no other on the machine is hit.
pub struct Target(pub Child, #[expect(dead_code, reason = "keeps the directory")] tempfile::TempDir);

impl Target {
    pub fn start(name: &str) -> Self {
        Self::of(name, "/bin/sleep", &["60"])
    }

    pub fn of(name: &str, program: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join(name);
        // A link, not a copy: a file just written may still be open in a child that another test is forking.
        std::os::unix::fs::symlink(program, &link).unwrap();
        let child = Command::new(&link).args(arguments).stdin(Stdio::null()).spawn().unwrap();
        await_name(child.id(), name);
        Self(child, directory)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

/// A parent goes on a moment before the kernel has written its child's new name, of which it keeps 15 bytes.
fn await_name(pid: u32, name: &str) {
    let (comm, end) = (format!("/proc/{pid}/comm"), Instant::now() + LONG);
    while std::fs::read_to_string(&comm).unwrap().trim() != &name[..name.len().min(15)] {
        assert!(Instant::now() < end, "process {pid} is not named {name}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent whose lines are kept; killed when dropped.
pub struct Agent {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

pub fn agent(arguments: &[&str]) -> Agent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mettle-agent"));
    command.args(arguments);
    listen(command)
}

pub fn listen(mut command: Command) -> Agent {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take().unwrap();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    Agent { child, stdin, lines, said: Vec::new() }
}

impl Agent {
    pub fn tell(&mut self, word: &str) {
        self.stdin.as_mut().unwrap().write_all(word.as_bytes()).unwrap();
    }

    /// Waits for a line of this event that holds `part`, sending heartbeats; the line.
    pub fn await_line(&mut self, event: &str, part: &str) -> String {
        let end = Instant::now() + LONG;
        let event = format!("\"event\":\"{event}\"");
        while Instant::now() < end {
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(&event) && line.contains(part) {
                        return line;
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if let Some(stdin) = &mut self.stdin {
                let _ = stdin.write_all(b"beat\n");
            }
        }
        panic!("no {event} with {part:?}: {:#?}", self.said)
    }

    /// What it says without heartbeats until it ends, and whether it ended well; the last line.
    pub fn ended(&mut self) -> (String, bool) {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            match self.lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => self.said.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let well = self.child.wait().unwrap().success();
        (self.said.last().cloned().unwrap_or_default(), well)
    }

    /// Tells it to undo; its last word must say that it did.
    pub fn resume(&mut self) -> String {
        self.tell("resume\n");
        self.assert_undone("told to")
    }

    pub fn assert_undone(&mut self, why: &str) -> String {
        let (last, well) = self.ended();
        assert!(last.contains("\"event\":\"undone\"") && last.contains(why), "{:#?}", self.said);
        assert!(well, "{:#?}", self.said);
        last
    }

    pub fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

pub fn await_true(what: &str, check: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !check() {
        assert!(Instant::now() < end, "not within {} s: {what}", LONG.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Number in front of a word: `12 of 20 connections` → 12.
pub fn number_before(line: &str, word: &str) -> u64 {
    let front = &line[..line.find(word).unwrap_or_else(|| panic!("no {word:?} in {line}"))];
    let digits: String = front.trim_end().chars().rev().take_while(char::is_ascii_digit).collect();
    digits
        .chars()
        .rev()
        .collect::<String>()
        .parse()
        .unwrap_or_else(|_| panic!("no number before {word:?} in {line}"))
}

pub fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
