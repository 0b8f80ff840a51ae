//! What needs root without needing the network: a process namespace of its own, a small volume.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::net::Net;
use crate::common::{Target, files_in, listen, number_before};

const AGENT: &str = env!("CARGO_BIN_EXE_mettle-agent");

/// A shell that is process 1 of its own process and mount namespace.
fn apart(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script, "sh"]);
    command.args(arguments);
    command
}

#[test]
#[ignore = "needs root and nft"]
fn all_is_everything_of_the_namespace_but_its_process_one_and_the_agent() {
    let script =
        "sleep 300 & sleep 301 & sleep 0.5; \"$1\" kill --all --ttl-ms 20000; echo \"{}\"; sleep 0.1; exit 7";
    let mut agent = listen(apart(script, &[AGENT]));
    agent.await_line("effect", "2 of 2 processes are gone");
    agent.await_line("undone", "done");
    // Process 1 lives on to its own end.
    let (_, _) = agent.ended();
    assert_eq!(agent.child.wait().unwrap().code(), Some(7));
}

#[test]
#[ignore = "needs root and nft"]
fn process_one_is_not_killed_from_inside_and_that_is_said() {
    let script = "cp /proc/self/comm /dev/null; \"$1\" kill --process sh --ttl-ms 9000; exit 0";
    let mut agent = listen(apart(script, &[AGENT]));
    let line = agent.await_line("failed", "no process named sh could be signalled");
    assert!(line.contains("process 1 is protected"), "{line}");
    agent.ended();
}

#[test]
#[ignore = "needs root and nft"]
fn a_small_volume_is_filled_to_what_shall_be_left_and_to_the_brim() {
    for (leave_mib, most_free) in [("8", 9 << 20), ("0", 4096)] {
        let script = "mkdir -p \"$2/v\" && mount -t tmpfs -o size=64m none \"$2/v\" && sleep 300 & sleep 0.5; \
            \"$1\" fill --process sleep --path \"$2/v\" --leave-mib \"$3\" --ttl-ms 60000; \
            exit 0";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let mut agent = listen(apart(script, &[AGENT, path, leave_mib]));
        let line = agent.await_line("effect", "bytes written");
        assert!(number_before(&line, " bytes free") <= most_free, "{line}");
        assert!(number_before(&line, " bytes written") >= 50 << 20, "{line}");
        let last = agent.resume();
        assert!(number_before(&last, " bytes free") >= 60 << 20, "{last}");
    }
}

#[test]
#[ignore = "needs root and nft"]
fn a_file_that_an_agent_left_is_cleaned_and_others_are_not() {
    let net = Net::make();
    let target = Target::start("mtl-clean");
    let volume = tempfile::tempdir().unwrap();
    let path = volume.path().to_str().unwrap();
    std::fs::write(volume.path().join("data"), "the target's own").unwrap();
    let left = volume.path().join(".mettle-fill-7");
    let lives = std::fs::File::create(&left).unwrap();
    lives.try_lock().unwrap();
    let clean = || {
        let output = net.command(&["clean", "--process", "mtl-clean", "--path", path]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(clean().contains("0 tables and 0 files"), "a living agent's file was taken");
    drop(lives);
    let said = clean();
    assert!(said.contains("0 tables and 1 files") && said.contains("/.mettle-fill-7"), "{said}");
    assert_eq!(files_in(volume.path()), ["data"]);
    drop(target);
}

/// A group with 200 MiB, of either version; gone at the end.
struct Group(PathBuf);

impl Group {
    fn make() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let first = root.join("memory/memory.limit_in_bytes").exists();
        assert!(first || root.join("cgroup.controllers").exists(), "no memory groups are mounted here");
        let parent = if first { root.join("memory") } else { root.to_path_buf() };
        if !first {
            std::fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let group = Self(parent.join(format!("mtl-test-{}", std::process::id())));
        std::fs::create_dir(&group.0).unwrap();
        let limit = group.0.join(if first { "memory.limit_in_bytes" } else { "memory.max" });
        assert!(limit.exists(), "the kernel did not make a group of {}", group.0.display());
        std::fs::write(limit, (200 << 20).to_string()).unwrap();
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
#[ignore = "needs root and nft"]
fn memory_runs_out_in_a_group_the_victim_goes_and_the_agent_stays() {
    let group = Group::make();
    let path = group.0.to_str().unwrap().to_owned();
    // As in a pod without a request: whoever is there has a score that is high already.
    let join = "echo $$ > \"$1/cgroup.procs\"; echo 999 > /proc/self/oom_score_adj; shift; exec \"$@\"";
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("mtl-oom");
    std::os::unix::fs::symlink(AGENT, &victim).unwrap();
    // Its memory is freed when it goes, as a server's is.
    let mut command = Command::new("sh");
    command
        .args(["-c", join, "sh", &path, victim.to_str().unwrap(), "hog", "--mib", "10"])
        .stdin(Stdio::piped());
    let mut victim = command.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let mut command = Command::new("sh");
    command.args(["-c", join, "sh", &path, AGENT, "memory", "--fill-cgroup", "--victim", "mtl-oom"]);
    command.args(["--ttl-ms", "60000"]);
    let mut agent = listen(command);
    let line = agent.await_line("effect", &format!("victim {} is gone", victim.id()));
    assert!(number_before(&line, " MiB taken") >= 150, "{line}");
    let killed = victim.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(9), "{killed:?}");
    agent.resume();
}
