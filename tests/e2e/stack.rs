//! The whole slice on a real stack: verdicts that hold, verdicts that must not pass, and a harness that is killed.
//! One cluster serves all of it, in one test: standing it up is the expensive part.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, text, until};

const NAMESPACE: &str = "ai-platform";

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn verdicts_on_a_real_stack() {
    let cluster = Cluster { name: "e2e-stack" };
    cluster.mettle(&["down"]);
    let started = Instant::now();
    cluster.mettle(&["up", "--components", "postgres,pgbouncer,redis,backend,backup"]);
    eprintln!("up with the stack: {:.1} s", started.elapsed().as_secs_f64());
    // An autoscaler says nothing before its first measure.
    let mut said = String::new();
    let took = until("a stack that is what it promises", Duration::from_secs(180), || {
        let output = cluster.try_mettle(&["verify", "--part"]);
        said = text(&output.stdout);
        output.status.success()
    });
    eprintln!("verify: {} rows, after {:.1} s", said.lines().count(), took.as_secs_f64());
    let files = Files::new();

    holds_and_shows_its_evidence(&cluster, &files);
    a_hung_primary_is_seen_and_resumed(&cluster, &files);
    the_ledger_is_what_the_tables_say(&cluster, &files);
    a_single_replica_fails(&cluster, &files);
    a_load_that_ends_is_never_a_pass(&cluster, &files);
    a_killed_harness_leaves_nothing_that_revert_does_not_undo(&cluster, &files);

    cluster.mettle(&["down"]);
}

/// Experiments of the tests' own, shorter than the shipped ones, and where runs write to.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/platform-api.yaml");
        std::fs::copy(scenario, directory.path().join("platform-api.yaml")).expect("the scenario");
        Self { directory }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("out-{name}"))
    }

    fn experiment(&self, name: &str, rest: &str) -> String {
        let path = self.directory.path().join(format!("{name}.yaml"));
        let text = format!("name: {name}\nscenario: platform-api.yaml\n{rest}\n");
        std::fs::write(&path, text).expect("an experiment");
        path.display().to_string()
    }
}

/// Runs one experiment to its end; exit code and report.
fn run(cluster: &Cluster, files: &Files, name: &str, experiment: &str) -> (Option<i32>, Value) {
    let out = files.out(name);
    let output =
        cluster.try_mettle(&["run", experiment, "--seed", "42", "--out", &out.display().to_string()]);
    let report = std::fs::read_to_string(out.join("report.json"));
    let report = report.unwrap_or_else(|error| panic!("{name}: {error}\n{}", text(&output.stderr)));
    eprintln!("{}", text(&output.stdout));
    (output.status.code(), serde_json::from_str(&report).expect("a report"))
}

const POD_KILL: &str = "
faults: [{ kind: pod-kill, target: { component: backend } }]
phases: { fault: 8, recoveryMax: 60 }
expect:
  - { check: error-rate, window: fault, maxPercent: 10 }
  - { check: recovery-time, maxSeconds: 20 }
  - { check: replicas-restored, maxSeconds: 60 }
  - { check: lost-writes, store: postgres }";

fn holds_and_shows_its_evidence(cluster: &Cluster, files: &Files) {
    let experiment = files.experiment("holds", POD_KILL);
    let (exit, report) = run(cluster, files, "holds", &experiment);
    let one = &report["experiments"][0];
    assert_eq!((exit, report["verdict"].as_str()), (Some(0), Some("pass")), "{report:#}");
    let fault = &one["faults"][0];
    assert!(
        fault["target"]
            .as_str()
            .is_some_and(|target| target.starts_with("pod/ai-platform/ai-platform-backend-"))
    );
    assert!(fault["effective_ms"].as_u64() >= fault["injected_ms"].as_u64(), "{fault}");
    assert!(!fault["evidence"].as_array().expect("evidence").is_empty());
    for window in ["baseline", "fault", "recovery"] {
        assert!(one["windows"][window]["requests"].as_u64() >= Some(100), "{}", one["windows"]);
    }
    assert!(one["recovery_ms"]["redundancy"].as_u64() > Some(0), "{}", one["recovery_ms"]);
    assert_eq!(one["residue"], serde_json::json!([]));
    assert!(
        files.out("holds").join("junit.xml").is_file() && files.out("holds").join("timeline.jsonl").is_file()
    );
}

fn a_hung_primary_is_seen_and_resumed(cluster: &Cluster, files: &Files) {
    let rest = "
faults: [{ kind: process-pause, target: { component: redis, role: primary, ofKey: a }, holdSeconds: 6 }]
phases: { fault: 6, recoveryMax: 90 }
expect: [{ check: replicas-restored, maxSeconds: 90 }, { check: recovery-time, maxSeconds: 60 }]";
    let (exit, report) = run(cluster, files, "hung", &files.experiment("hung", rest));
    let fault = &report["experiments"][0]["faults"][0];
    assert_eq!(fault["role"], "primary");
    let evidence = fault["evidence"].to_string();
    assert!(evidence.contains("in state T") && evidence.contains("does not answer"), "{report:#}");
    assert_eq!(report["experiments"][0]["residue"], serde_json::json!([]));
    assert_eq!(exit, Some(0), "{report:#}");
}

/// Compared with a read of our own, by the server's own client in its own pod.
fn the_ledger_is_what_the_tables_say(cluster: &Cluster, files: &Files) {
    let report = std::fs::read_to_string(files.out("holds").join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("a report");
    let ledger = &report["experiments"][0]["ledger"]["postgres"];
    let (ok, maybe) =
        (ledger["ok"].as_u64().expect("ok"), ledger["indeterminate_present"].as_u64().unwrap_or(0));
    let run = report["run"].as_str().expect("a run");
    let query = format!(
        "select (select count(*) from predictions where op_id like '{run}e0-%') + (select count(*) from models where op_id like '{run}e0-%')"
    );
    let psql = [
        "exec",
        "-n",
        NAMESPACE,
        "ai-platform-postgres-0",
        "-c",
        "postgres",
        "--",
        "psql",
        "-At",
        "-d",
        "ai_platform",
        "-c",
        &query,
    ];
    let rows: u64 = cluster.kubectl(&psql).trim().parse().expect("a count");
    assert_eq!(rows, ok + maybe - ledger["lost"].as_u64().unwrap_or(0), "{ledger}");
}

/// Nobody takes over from a single replica: the gap must be seen.
fn a_single_replica_fails(cluster: &Cluster, files: &Files) {
    let scale = |count: &str| {
        cluster.kubectl(&[
            "-n",
            NAMESPACE,
            "scale",
            "deployment/ai-platform-backend",
            &format!("--replicas={count}"),
        ]);
        let wait = ["-n", NAMESPACE, "rollout", "status", "deployment/ai-platform-backend", "--timeout=90s"];
        cluster.kubectl(&wait);
    };
    // The autoscaler would bring the others back, and a stack without one is not what it promises.
    let bounds = |least: &str, most: &str| {
        let patch = format!("{{\"spec\":{{\"minReplicas\":{least},\"maxReplicas\":{most}}}}}");
        cluster.kubectl(&["-n", NAMESPACE, "patch", "hpa", "ai-platform-backend", "-p", &patch])
    };
    let of_hpa = |field: &str| {
        let path = format!("jsonpath={{.spec.{field}}}");
        cluster.kubectl(&["-n", NAMESPACE, "get", "hpa", "ai-platform-backend", "-o", &path])
    };
    let promised = (of_hpa("minReplicas"), of_hpa("maxReplicas"));
    bounds("1", "1");
    scale("1");
    let rest = "
faults: [{ kind: pod-kill, target: { component: backend } }]
phases: { fault: 8, recoveryMax: 60 }
expect:
  - { check: error-rate, window: fault, maxPercent: 0.1 }
  - { check: latency, window: fault, quantile: 0.99, maxMs: 300 }";
    let (exit, report) = run(cluster, files, "single", &files.experiment("single", rest));
    assert_eq!((exit, report["verdict"].as_str()), (Some(1), Some("fail")), "{report:#}");
    bounds(promised.0.trim(), promised.1.trim());
    scale("3");
}

fn a_load_that_ends_is_never_a_pass(cluster: &Cluster, files: &Files) {
    let experiment = files.experiment("no-load", POD_KILL);
    let out = files.out("no-load");
    let mut harness = start(cluster, &experiment, &out);
    until("the baseline", Duration::from_secs(60), || timeline(&out, "no-load").contains("\"baseline\""));
    let load = load_of(harness.id());
    Command::new("kill").args(["-9", &load]).status().expect("kill");
    let status = harness.wait().expect("an end");
    let report = std::fs::read_to_string(out.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("a report");
    assert_ne!(status.code(), Some(0));
    assert_eq!(report["verdict"], "inconclusive", "{report:#}");
}

/// At one moment of each kind; every journal entry is tried against the in-memory cluster in `tests/crash.rs`.
fn a_killed_harness_leaves_nothing_that_revert_does_not_undo(cluster: &Cluster, files: &Files) {
    let node_kill = "
faults: [{ kind: node-kill, target: { node: n2 }, holdSeconds: 60 }]
limits: { pods: 1, nodes: 1 }
phases: { warm: 1, baseline: 4, fault: 60, recoveryMax: 90 }
load: { requestsMin: 50 }
expect: [{ check: replicas-restored, maxSeconds: 200, component: redis }]";
    let pause = "
faults: [{ kind: process-pause, target: { component: redis, role: primary, ofKey: a }, holdSeconds: 60 }]
phases: { warm: 1, baseline: 4, fault: 60, recoveryMax: 90 }
load: { requestsMin: 50 }
expect: [{ check: replicas-restored, maxSeconds: 200 }]";
    for (name, rest, moment) in [
        ("killed-early", node_kill, "\"warm\""),
        ("killed-intended", pause, "change-intended"),
        ("killed-applied", node_kill, "change-applied"),
        ("killed-later", pause, "\"effect: "),
    ] {
        healthy(cluster);
        let (experiment, out) = (files.experiment(name, rest), files.out(name));
        let mut harness = start(cluster, &experiment, &out);
        until(moment, Duration::from_secs(90), || timeline(&out, name).contains(moment));
        harness.kill().expect("kill -9");
        harness.wait().expect("an end");
        cluster.mettle(&["revert"]);
        assert_eq!(cluster.ready_nodes(), ["n1", "n2", "n3"], "{name}");
        // Once more: nothing is left, and a run may start again.
        let again = cluster.try_mettle(&["revert"]);
        assert!(text(&again.stdout).contains("nothing to revert"), "{name}: {}", text(&again.stdout));
    }
    healthy(cluster);
}

fn healthy(cluster: &Cluster) {
    let mut said = String::new();
    let healthy = || {
        let output = cluster.try_mettle(&["verify", "--part"]);
        said = text(&output.stdout);
        output.status.success()
    };
    let verified = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("the stack to be healthy", Duration::from_secs(150), healthy);
    }));
    if let Err(panic) = verified {
        eprintln!("{said}");
        std::panic::resume_unwind(panic);
    }
}

fn start(cluster: &Cluster, experiment: &str, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
    command.args(["run", experiment, "--seed", "42", "--name", cluster.name, "--out"]).arg(out);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mettle")
}

/// What the run has recorded so far: its journal-backed events are written at once.
fn timeline(out: &Path, experiment: &str) -> String {
    std::fs::read_to_string(out.join(experiment).join("timeline.jsonl")).unwrap_or_default()
}

/// The load child of a run: the only child of the harness.
fn load_of(harness: u32) -> String {
    let children = format!("/proc/{harness}/task/{harness}/children");
    let mut found = std::fs::read_to_string(&children).unwrap_or_default();
    if found.trim().is_empty() {
        // A child belongs to the thread that started it.
        let tasks = std::fs::read_dir(format!("/proc/{harness}/task")).expect("tasks");
        for task in tasks.flatten() {
            found += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
    }
    found.split_whitespace().next().expect("a load child").to_owned()
}
