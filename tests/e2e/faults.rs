//! Faults on a real stack: each bites and is gone afterwards, and whatever kills the harness or the agent, nothing is left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, text, until};
use crate::{replaced, rights};

pub const PART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/rehearsals/part.yaml");

type Story = fn(&Cluster);

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn faults_bite_and_leave_nothing() {
    let cluster = Cluster { name: "e2e-faults" };
    cluster.mettle(&["down"]);
    cluster.mettle(&["up", "--components", "postgres,pgbouncer,redis,backend"]);
    let stories: [(&str, Story); 4] = [
        ("bite", every_fault_bites_and_is_gone),
        ("killed", a_killed_harness_or_agent_leaves_nothing),
        ("replaced", replaced::a_target_that_does_not_stay_leaves_nothing),
        ("rights", rights::the_printed_rights_are_enough),
    ];
    // One cluster for all of them; METTLE_E2E_ONLY=replaced,rights leaves the others out.
    let only = std::env::var("METTLE_E2E_ONLY").unwrap_or_default();
    let unknown =
        only.split(',').find(|name| !name.is_empty() && stories.iter().all(|(known, _)| known != name));
    assert_eq!(unknown, None, "no story of that name");
    for (name, story) in stories {
        if only.is_empty() || only.split(',').any(|one| one == name) {
            eprintln!("story: {name}");
            story(&cluster);
        }
    }
    cluster.mettle(&["down"]);
}

fn every_fault_bites_and_is_gone(cluster: &Cluster) {
    let output = cluster.try_mettle(&["rehearse", PART, "--seed", "7", "--json"]);
    eprint!("{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("rows");
    let bad: Vec<&Value> = rows.iter().filter(|row| row["verdict"] != "pass").collect();
    assert!(bad.is_empty() && rows.len() > 20, "{bad:#?}");
    assert_eq!(output.status.code(), Some(0));
}

/// When in the life of a fault, as its journal tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Intended,
    Applied,
    Later,
}

/// Agents end by themselves; what they held on is free without anybody's help.
const WITH_AGENTS: [&str; 6] =
    ["net-delay", "net-partition", "cpu-stress", "disk-fill", "process-pause", "dns-fail"];

fn a_killed_harness_or_agent_leaves_nothing(cluster: &Cluster) {
    use Moment::{Applied, Intended, Later};
    for (kind, moment) in [
        ("pod-kill", Applied),
        ("process-pause", Intended),
        ("process-pause", Later),
        ("image-broken", Intended),
        ("liveness-broken", Later),
        ("cpu-stress", Applied),
        ("memory-stress", Intended),
        ("disk-fill", Later),
        ("connection-flood", Applied),
        ("net-partition", Later),
        ("net-loss", Applied),
        ("net-delay", Later),
        ("http-respond", Intended),
        ("dns-fail", Later),
        ("endpoints-lost", Applied),
        ("rbac-revoked", Applied),
        ("postgres-replay-pause", Later),
        ("redis-memory-full", Applied),
        ("scheduler-pause", Later),
        ("api-server-pause", Applied),
        ("node-cordon", Intended),
        ("node-freeze", Applied),
        ("node-isolate", Applied),
    ] {
        killed(cluster, kind, moment);
    }
    for kind in WITH_AGENTS {
        agent_killed(cluster, kind);
    }
}

fn killed(cluster: &Cluster, kind: &str, moment: Moment) {
    let earlier = journals(cluster);
    let mut harness = start(cluster, PART, kind);
    reach(cluster, &mut harness, &earlier, kind, moment);
    harness.kill().expect("kill -9");
    harness.wait().expect("an end");
    if WITH_AGENTS.contains(&kind) && moment == Moment::Later {
        // The agent's own switch, and a kubelet that says so.
        let took = until(&format!("{kind}: the agent to end by itself"), Duration::from_secs(20), || {
            living_agents().is_empty()
        });
        eprintln!("{kind}: alone, the agent ended after {:.1} s", took.as_secs_f64());
    }
    clean(cluster, kind);
}

/// An agent that is killed cannot undo; the harness sees to it, or the next agent, or the pod's end.
fn agent_killed(cluster: &Cluster, kind: &str) {
    let earlier = journals(cluster);
    let mut harness = start(cluster, PART, kind);
    reach(cluster, &mut harness, &earlier, kind, Moment::Later);
    for pid in living_agents() {
        let _ = Command::new("kill").args(["-9", &pid]).output();
    }
    // It goes on to its end by itself, and says what it found.
    let _ = harness.wait();
    clean(cluster, kind);
}

pub fn clean(cluster: &Cluster, kind: &str) {
    let reverted = cluster.try_mettle(&["revert"]);
    let said = text(&reverted.stdout) + &text(&reverted.stderr);
    assert!(reverted.status.success(), "{kind}: {said}");
    let again = cluster.mettle(&["revert"]);
    assert!(again.contains("nothing to revert"), "{kind}: {again}");
    // One whose pod was deleted by force goes when the kubelet gets to it.
    until(&format!("{kind}: no agent to live"), Duration::from_secs(30), || living_agents().is_empty());
    assert_eq!(cluster.ready_nodes(), ["n1", "n2", "n3"], "{kind}");
}

pub fn start(cluster: &Cluster, file: &str, kind: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
    command.args(["rehearse", file, "--only", kind, "--seed", "7", "--name", cluster.name]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mettle")
}

/// Waits until the journal of this rehearsal, and of none before it, says that it is so far.
fn reach(cluster: &Cluster, harness: &mut Child, earlier: &BTreeSet<PathBuf>, kind: &str, moment: Moment) {
    let word = if moment == Moment::Intended { "\"entry\":\"intended\"" } else { "\"entry\":\"applied\"" };
    let mut ended = false;
    until(&format!("{kind}: {moment:?}"), Duration::from_secs(180), || {
        ended = harness.try_wait().expect("its state").is_some();
        let own = journals(cluster).difference(earlier).next().cloned();
        let said = own.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        ended || said.contains(word)
    });
    assert!(!ended, "{kind}: the rehearsal ended before {moment:?}");
    if moment == Moment::Later {
        std::thread::sleep(Duration::from_millis(700));
        if WITH_AGENTS.contains(&kind) {
            assert!(!living_agents().is_empty(), "{kind}: no agent lives");
        }
    }
}

pub fn journals(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let state = std::env::var("XDG_STATE_HOME").unwrap_or_else(|_| format!("{home}/.local/state"));
    let directory = PathBuf::from(state).join("mettle/journals").join(format!("local-{}", cluster.name));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect()
}

/// Processes of agents on this machine, by their command.
pub fn living_agents() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let agents = processes.filter_map(|entry| {
        let command = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        (command.trim_end() == "mettle-agent").then(|| entry.file_name().into_string().ok()).flatten()
    });
    agents.collect()
}
