//! A target that does not stay: while a fault is on, its container is killed, or its pod is deleted and another takes its
//! place. Whoever reverts then, nothing is left, and nothing comes over the newcomer.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::faults::{clean, journals, living_agents, start};
use crate::harness::{Cluster, until};

const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/platform-api.yaml");

/// Held for longer than the test needs to come in between. What is seen through traffic has some.
const FAULTS: [(&str, &str); 11] = [
    ("net-delay", "target: { component: pgbouncer }, with: { port: 6432, delayMs: 200 }"),
    (
        "net-partition",
        "target: { component: redis, role: replica }, with: { peers: { component: redis, role: primary } }",
    ),
    ("process-pause", "target: { component: redis, role: replica }"),
    ("cpu-stress", "target: { component: backend }, with: { workers: 1 }"),
    ("disk-fill", "target: { component: redis, role: replica }, with: { path: /data, mib: 64 }"),
    ("dns-fail", "target: { component: pgbouncer }"),
    ("connection-flood", "target: { component: pgbouncer }, with: { port: 6432, connections: 100 }"),
    ("redis-memory-full", "target: { component: redis, role: replica }"),
    ("postgres-replay-pause", "target: { component: postgres, role: replica }"),
    ("image-broken", "target: { component: backend }"),
    // Not one that an autoscaler puts up again.
    ("scale-down", "target: { component: pgbouncer }, with: { replicas: 1 }"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Every process of its container gets SIGKILL; the kubelet starts it again.
    Restarted,
    Replaced,
}

pub fn a_target_that_does_not_stay_leaves_nothing(cluster: &Cluster) {
    let directory = tempfile::tempdir().expect("a directory");
    for (kind, rest) in FAULTS {
        let file = rehearsal(directory.path(), kind, rest);
        for fate in [Fate::Restarted, Fate::Replaced] {
            meets(cluster, &file, kind, fate);
        }
    }
}

fn rehearsal(directory: &Path, kind: &str, rest: &str) -> String {
    let load = if kind == "net-delay" {
        format!("scenario: {SCENARIO}\nload: {{ users: 6 }}\n")
    } else {
        String::new()
    };
    let text = format!(
        "rehearsal: replaced\n{load}limits: {{ pods: 1, nodes: 1, workloads: 1 }}\nfaults:\n  - {{ kind: {kind}, {rest}, holdSeconds: 25 }}\n"
    );
    let path = directory.join(format!("{kind}.yaml"));
    std::fs::write(&path, text).expect("a rehearsal");
    path.display().to_string()
}

fn meets(cluster: &Cluster, file: &str, kind: &str, fate: Fate) {
    let what = format!("{kind} {fate:?}");
    whole(cluster, &what);
    let earlier = journals(cluster);
    let mut harness = start(cluster, file, kind);
    let mut said = String::new();
    until(&format!("{what}: applied"), Duration::from_secs(200), || {
        let ended = harness.try_wait().expect("its state").is_some();
        let own = journals(cluster).difference(&earlier).next().cloned();
        said = own.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        assert!(!ended, "{what}: the rehearsal ended before the fault was on");
        said.contains("\"entry\":\"applied\"")
    });
    let (pod, container) = target(cluster, &said);
    eprintln!("{what}: {pod} ({container})");
    match fate {
        Fate::Restarted => restart(cluster, &pod, &container),
        Fate::Replaced => {
            let args =
                ["-n", "ai-platform", "delete", "pod", &pod, "--grace-period=0", "--force", "--wait=false"];
            cluster.kubectl(&args);
        }
    }
    // It reverts and ends, with whatever verdict: a fault whose target is gone may not have been seen to bite, and nobody
    // waits for that here.
    std::thread::sleep(Duration::from_secs(5));
    let _ = Command::new("kill").args(["-s", "INT", &harness.id().to_string()]).output();
    until(&format!("{what}: the rehearsal to end"), Duration::from_secs(420), || {
        harness.try_wait().expect("its state").is_some()
    });
    clean(cluster, &what);
    whole(cluster, &what);
    newcomers_are_untouched(cluster, &what);
}

/// The pod that the journal names, and its container; of a fault on an object some pod that it is about.
fn target(cluster: &Cluster, journal: &str) -> (String, String) {
    let intended = journal.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let intended = intended.into_iter().find(|line| line["entry"] == "intended").expect("an intent");
    let change = &intended["change"];
    let named =
        |at: &Value| Some((at["pod"]["name"].as_str()?.to_owned(), at["container"].as_str()?.to_owned()));
    if let Some(found) = named(change).or_else(|| named(&change["command"])) {
        return found;
    }
    let object = &change["object"];
    let owned = format!("{}-", object["name"].as_str().unwrap_or("?"));
    let pods = pods(cluster);
    let pod = pods.iter().find(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with(&owned) && pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod)
    });
    let pod = pod.unwrap_or_else(|| panic!("no pod of {object} is ready"));
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    (word(&pod["metadata"]["name"]), word(&pod["metadata"]["labels"]["app.kubernetes.io/name"]))
}

/// From outside, by its cgroup: from inside a pod nobody can kill its first process.
fn restart(cluster: &Cluster, pod: &str, container: &str) {
    let ids = format!("jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].containerID}}");
    let id = cluster.kubectl(&["-n", "ai-platform", "get", "pod", pod, "-o", &ids]);
    let id = id.trim().trim_start_matches("containerd://").to_owned();
    assert!(id.len() > 20, "{pod}: container {container} has no id: {id:?}");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids: Vec<String> = processes
        .filter_map(|entry| {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            groups.contains(&id).then(|| entry.file_name().into_string().ok()).flatten()
        })
        .collect();
    assert!(!pids.is_empty(), "{pod}: no process of container {id}");
    // Some die with their first process before their turn comes.
    let _ = Command::new("kill").arg("-9").args(&pids).output();
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.try_kubectl(&["-n", "ai-platform", "get", "pods", "-o", "json"]).unwrap_or_default();
    let list: Value = serde_json::from_str(&list).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Every pod is ready, and every workload has all of its pods.
fn whole(cluster: &Cluster, what: &str) {
    let mut left = String::new();
    until(&format!("{what}: every pod ready"), Duration::from_secs(240), || {
        let running = |pod: &&Value| pod["status"]["phase"] != "Succeeded";
        let all = pods(cluster);
        let waiting: Vec<&Value> = all.iter().filter(running).filter(|pod| !is_ready(pod)).collect();
        let names = waiting.iter().map(|pod| pod["metadata"]["name"].to_string());
        left = names.collect::<Vec<_>>().join(" ");
        let full = ["jsonpath={range .items[*]}{.spec.replicas}={.status.readyReplicas} {end}"];
        let counts = cluster.try_kubectl(
            &[&["-n", "ai-platform", "get", "deployments,statefulsets", "-o"] as &[&str], &full].concat(),
        );
        let counts = counts.unwrap_or_default();
        let whole =
            |pair: &str| pair.split_once('=').is_some_and(|(wanted, ready)| wanted == ready || wanted == "0");
        !all.is_empty() && waiting.is_empty() && counts.split_whitespace().all(whole) && !counts.is_empty()
    });
    assert_eq!(left, "", "{what}");
}

/// Neither a mark on an object nor an agent, nor a node that takes no pods, nor a file of ours.
fn newcomers_are_untouched(cluster: &Cluster, what: &str) {
    assert_eq!(living_agents(), [] as [&str; 0], "{what}: an agent lives");
    for kinds in ["deployments,statefulsets,services,rolebindings,networkpolicies", "nodes"] {
        let args = ["-n", "ai-platform", "get", kinds, "-l", "mettle.dev/touched=true", "-o", "name"];
        assert_eq!(cluster.kubectl(&args).trim(), "", "{what}: an object bears our mark");
    }
    let cordoned = "jsonpath={.items[?(@.spec.unschedulable==true)].metadata.name}";
    assert_eq!(cluster.kubectl(&["get", "nodes", "-o", cordoned]).trim(), "", "{what}");
    for pod in
        pods(cluster).iter().filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/name"] == "redis")
    {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let script = "ls -A /data /dev/shm; redis-cli -h 127.0.0.1 config get maxmemory | tail -n 1";
        let said =
            cluster.kubectl(&["-n", "ai-platform", "exec", name, "-c", "redis", "--", "sh", "-c", script]);
        assert!(!said.contains("mettle") && said.lines().last() != Some("1048576"), "{what}: {name}: {said}");
    }
}
