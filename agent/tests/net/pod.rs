//! What needs root without needing the network: a process namespace of its own, a small volume.

use std::process::Command;
use std::time::Duration;

use crate::common::{LONG, await_true, listen, number_before};

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
    let script = "sleep 300 & sleep 301 & sleep 0.5; \"$1\" kill --all --ttl-ms 20000; echo \"{}\"; sleep 0.1; exit 7";
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
fn memory_runs_out_in_a_group_the_victim_goes_and_the_agent_stays() {
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/mtl-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || std::fs::write(group.join("memory.max"), "209715200").is_err() {
        let _ = std::fs::remove_dir(&group);
        panic!("no memory group can be made here");
    }
    let _ = std::fs::write(group.join("memory.swap.max"), "0");
    let join = "echo $$ > \"$1/cgroup.procs\"; shift; exec \"$@\"";
    let target = crate::common::Target::of("mtl-oom", "/bin/sleep", &["60"]);
    std::fs::write(group.join("cgroup.procs"), target.pid().to_string()).unwrap();
    let mut command = Command::new("sh");
    let arguments = ["memory", "--fill-cgroup", "--victim", "mtl-oom", "--ttl-ms", "60000"];
    command.args(["-c", join, "sh", group.to_str().unwrap(), AGENT]).args(arguments);
    let mut agent = listen(command);
    let line = agent.await_line("effect", &format!("victim {} is gone", target.pid()));
    assert!(number_before(&line, " MiB resident") > 100, "{line}");
    agent.resume();
    drop(target);
    let began = std::time::Instant::now();
    await_true("the group is empty and removed", || {
        std::thread::sleep(Duration::from_millis(100));
        std::fs::remove_dir(&group).is_ok() || began.elapsed() > LONG
    });
}
