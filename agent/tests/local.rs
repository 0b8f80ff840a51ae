//! Works that need no privilege, against real processes: they bite, say so, and are undone.

mod common;

use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use common::{Agent, Target, agent, await_true, files_in, number_before, signal};

const TTL: [&str; 2] = ["--ttl-ms", "60000"];

fn start(arguments: &[&str]) -> Agent {
    agent(&[arguments, &TTL].concat())
}

#[test]
fn kill_once_reports_for_three_seconds_and_ends() {
    let mut target = Target::start("mtl-kill");
    let began = std::time::Instant::now();
    let mut agent = start(&["kill", "--process", "mtl-kill"]);
    let line = agent.await_line("effect", "1 of 1 processes are gone");
    assert!(line.contains(&target.pid().to_string()), "{line}");
    assert!(!target.0.wait().unwrap().success());
    agent.assert_undone("done");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(agent.said.iter().filter(|line| line.contains("\"effect\"")).count() >= 3, "{:#?}", agent.said);
}

#[test]
fn kill_again_hits_those_that_come_back() {
    let first = Target::start("mtl-again");
    let mut agent = start(&["kill", "--process", "mtl-again", "--every-ms", "300"]);
    agent.await_line("effect", "1 of 1 processes are gone");
    let second = Target::start("mtl-again");
    let line = agent.await_line("effect", "2 of 2 processes are gone");
    assert!(line.contains(&second.pid().to_string()) && line.contains(&first.pid().to_string()), "{line}");
    agent.resume();
    let mut third = Target::start("mtl-again");
    std::thread::sleep(Duration::from_millis(700));
    assert!(third.0.try_wait().unwrap().is_none(), "it is killed although the agent was told to end");
}

#[test]
fn one_that_does_not_go_is_no_effect() {
    let target = Target::of("mtl-deaf", "/bin/sh", &["-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    std::thread::sleep(Duration::from_millis(300));
    let mut agent = start(&["kill", "--process", "mtl-deaf", "--signal", "TERM"]);
    agent.await_line("waiting", "0 of 1 processes are gone");
    agent.resume();
    assert!(!agent.said.iter().any(|line| line.contains("\"effect\"")), "{:#?}", agent.said);
    drop(target);
}

#[test]
fn kill_of_a_name_that_nothing_bears_is_a_failure() {
    for name in ["mtl-nobody", "mettle-nobody-with-a-long-name"] {
        let mut agent = start(&["kill", "--process", name]);
        let (last, well) = agent.ended();
        assert!(last.contains("\"failed\"") && last.contains("no process is named") && !well, "{last}");
    }
}

#[test]
fn arguments_that_contradict_are_refused_before_anything_is_done() {
    for wrong in [
        ["kill"].as_slice(),
        &["kill", "--process", "x", "--all"],
        &["kill", "--process", "x", "--every-ms", "0"],
        &["memory"],
        &["memory", "--mib", "16", "--fill-cgroup"],
        &["memory", "--mib", "9000"],
        &["fill", "--process", "x", "--path", "/", "--mib", "1", "--leave-mib", "1"],
        &["connections", "--address", "x:1", "--count", "0"],
        &["connections", "--address", "x:1", "--count", "1", "--send-hex", "abc"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_mettle-agent")).args(wrong).args(TTL).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn busy_threads_use_the_cpu_and_end_on_sigterm() {
    let mut agent = start(&["cpu", "--workers", "2"]);
    let line = agent.await_line("effect", "2 workers use");
    assert!(line.contains("cores"), "{line}");
    agent.terminate();
    agent.assert_undone("terminated by a signal");
}

#[test]
fn memory_is_resident_and_given_back() {
    let mut agent = start(&["memory", "--mib", "64"]);
    let line = agent.await_line("effect", " of 64");
    assert!(number_before(&line, " MiB resident") >= 16, "{line}");
    let hogs = || {
        let children = format!("/proc/{0}/task/{0}/children", agent.child.id());
        std::fs::read_to_string(children).unwrap_or_default()
    };
    let hog: u32 = hogs().trim().parse().unwrap();
    while number_before(&agent.await_line("effect", " of 64"), " MiB resident") < 64 {}
    agent.stdin = None;
    agent.assert_undone("standard input ended");
    assert!(!std::path::Path::new(&format!("/proc/{hog}")).exists(), "the process that took memory lives");
}

#[test]
fn a_victim_is_raised_watched_and_put_back() {
    let adjustment = |target: &Target| {
        let read = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", target.pid())).unwrap();
        read.trim().parse::<i32>().unwrap()
    };
    let mut one = Target::start("mtl-victim");
    let two = Target::start("mtl-victim");
    let before = adjustment(&two);
    let mut agent = start(&["memory", "--mib", "16", "--victim", "mtl-victim"]);
    agent.await_line("effect", "2 victims live with oom_score_adj 1000");
    assert_eq!(adjustment(&two), 1000);
    one.0.kill().unwrap();
    one.0.wait().unwrap();
    agent.await_line("effect", &format!("victim {} is gone", one.pid()));
    let last = agent.resume();
    assert!(last.contains("1 of 2 victims put back"), "{last}");
    assert_eq!(adjustment(&two), before);
}

#[test]
fn an_agent_that_is_killed_takes_its_memory_with_it() {
    let mut agent = start(&["memory", "--mib", "32"]);
    agent.await_line("effect", "MiB resident");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.child.id())).unwrap();
    let hog: u32 = children.trim().parse().unwrap();
    agent.child.kill().unwrap();
    await_true("the process that took memory is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{hog}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn a_file_fills_the_targets_directory_and_goes() {
    let target = Target::start("mtl-fill");
    let volume = tempfile::tempdir().unwrap();
    let path = volume.path().to_str().unwrap();
    let mut agent = start(&["fill", "--process", "mtl-fill", "--path", path, "--mib", "20"]);
    let line = agent.await_line("effect", "bytes written");
    assert!(number_before(&line, " bytes written") >= 20 << 20, "{line}");
    let held = holds(agent.child.id(), volume.path());
    assert!(held >= 20 << 20, "{held} bytes are held");
    assert!(files_in(volume.path()).is_empty(), "the file has no name");
    agent.resume();
    assert!(files_in(volume.path()).is_empty());
    drop(target);
}

/// Bytes of files below `directory` that a process holds open and that have no name any more.
fn holds(pid: u32, directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let files = open.filter(|fd| {
        let to = std::fs::read_link(fd.path()).unwrap_or_default();
        to.starts_with(directory) && to.to_string_lossy().ends_with(" (deleted)")
    });
    files.filter_map(|fd| Some(std::fs::metadata(fd.path()).ok()?.blocks() * 512)).sum()
}

#[test]
fn a_killed_agent_leaves_no_file_and_what_others_left_is_removed() {
    let target = Target::start("mtl-left");
    let volume = tempfile::tempdir().unwrap();
    let path = volume.path().to_str().unwrap();
    let arguments = ["fill", "--process", "mtl-left", "--path", path, "--mib", "8"];
    let mut dead = start(&arguments);
    dead.await_line("effect", "bytes written");
    signal(dead.child.id(), "KILL");
    dead.child.wait().unwrap();
    assert!(files_in(volume.path()).is_empty(), "nothing is left though nobody undoes");
    // One died before its file had lost its name, and one is just there.
    std::fs::write(volume.path().join(".mettle-fill-7"), "left").unwrap();
    let lives = std::fs::File::create(volume.path().join(".mettle-fill-8")).unwrap();
    lives.try_lock().unwrap();
    std::fs::write(volume.path().join("data"), "the target's own").unwrap();
    let mut living = start(&arguments);
    living.await_line("note", "removed .mettle-fill-7 of a dead agent");
    living.await_line("effect", "bytes written");
    living.stdin = None;
    living.assert_undone("standard input ended");
    let mut left = files_in(volume.path());
    left.sort();
    assert_eq!(left, [".mettle-fill-8", "data"]);
    drop((lives, target));
}

#[test]
fn a_directory_that_is_not_there_is_a_failure() {
    let target = Target::start("mtl-nodir");
    let mut agent = start(&["fill", "--process", "mtl-nodir", "--path", "/nowhere/at/all", "--mib", "8"]);
    let (last, well) = agent.ended();
    assert!(last.contains("failed to open /nowhere/at/all") && !well, "{last}");
    drop(target);
}

#[test]
fn connections_are_held_reopened_and_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut agent = start(&["connections", "--address", &address, "--count", "20", "--send-hex", "2a310d0a"]);
    let mut accepted: Vec<_> = (0..20).map(|_| listener.accept().unwrap().0).collect();
    agent.await_line("effect", "20 of 20 connections are open");
    let mut bytes = [0u8; 4];
    accepted[0].read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"*1\r\n");
    accepted.truncate(15);
    accepted.extend((0..5).map(|_| listener.accept().unwrap().0));
    let line = agent.await_line("effect", "20 of 20 connections are open; 25 were opened");
    assert_eq!(number_before(&line, " closed by the peer"), 5, "{line}");
    let last = agent.resume();
    assert!(last.contains("20 connections closed"), "{last}");
    for mut stream in accepted {
        let mut rest = Vec::new();
        // An error is an end, too: the connection was reset.
        let _ = stream.read_to_end(&mut rest);
    }
}

#[test]
fn connections_that_are_refused_are_no_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut agent = start(&["connections", "--address", &address, "--count", "3"]);
    let line = agent.await_line("waiting", "0 of 3 connections are open");
    assert!(line.contains("refused"), "{line}");
    agent.terminate();
    agent.assert_undone("terminated by a signal");
}
