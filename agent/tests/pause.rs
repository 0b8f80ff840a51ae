//! The agent against real processes: it stops them, says so, and continues them in each of the ways it must.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod common;

use common::LONG;

struct Target(common::Target, String);

impl Target {
    /// A process with a name of its own, so that no other on the machine is hit.
    fn start(name: &str) -> Self {
        Self(common::Target::start(name), name.to_owned())
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.pid())).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    }

    fn await_state(&self, wanted: &[char], within: Duration) {
        let end = Instant::now() + within;
        while !wanted.contains(&self.state()) {
            assert!(Instant::now() < end, "state is {}, wanted {wanted:?}", self.state());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn agent(target: &Target, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mettle-agent"))
        .args(["pause", "--process", &target.1])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Everything that the agent says until it ends.
fn said(child: Child) -> Vec<String> {
    BufReader::new(child.stdout.unwrap()).lines().map_while(Result::ok).collect()
}

fn last_line(child: Child) -> String {
    said(child).pop().unwrap_or_default()
}

#[test]
fn told_to_resume() {
    let target = Target::start("mtl-told");
    let mut child = agent(&target, &["--ttl-ms", "30000"]);
    target.await_state(&['T'], LONG);
    child.stdin.as_mut().unwrap().write_all(b"resume\n").unwrap();
    target.await_state(&['S', 'R'], LONG);
    assert!(last_line(child).contains("1 of 1 processes: told to"));
}

#[test]
fn the_harness_dies_and_standard_input_ends() {
    let target = Target::start("mtl-eof");
    let mut child = agent(&target, &["--ttl-ms", "30000"]);
    target.await_state(&['T'], LONG);
    drop(child.stdin.take());
    target.await_state(&['S', 'R'], LONG);
    assert!(last_line(child).contains("standard input ended"));
}

#[test]
fn the_harness_hangs_and_sends_no_heartbeat() {
    let target = Target::start("mtl-beat");
    let mut child = agent(&target, &["--ttl-ms", "30000", "--heartbeat-ms", "500"]);
    let open = child.stdin.take();
    let lines = said(child);
    assert_stopped_then(&lines, "no heartbeat");
    target.await_state(&['S', 'R'], LONG);
    drop(open);
}

#[test]
fn its_own_time_limit_ends_it_whatever_is_sent() {
    let target = Target::start("mtl-ttl");
    let mut child = agent(&target, &["--ttl-ms", "800", "--heartbeat-ms", "10000"]);
    let mut open = child.stdin.take().unwrap();
    open.write_all(b"beat\n").unwrap();
    let lines = said(child);
    assert_stopped_then(&lines, "time limit");
    target.await_state(&['S', 'R'], LONG);
}

/// The kernel's word that it was stopped, as the agent read it: a test that looks itself may look too late when the
/// machine is busy.
fn assert_stopped_then(lines: &[String], why: &str) {
    assert!(lines[0].contains("1 of 1 processes are in state T"), "{lines:?}");
    assert!(lines.last().unwrap().contains(why), "{lines:?}");
}

#[test]
fn a_name_that_nothing_bears_is_a_failure() {
    let output = Command::new(env!("CARGO_BIN_EXE_mettle-agent"))
        .args(["pause", "--process", "mtl-nobody", "--ttl-ms", "1000"])
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no process is named mtl-nobody"));
}
