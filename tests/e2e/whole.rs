//! The whole stack of the guide: stands up, is what it promises, row by row; and each promise is broken once, on the
//! real thing, to see its row fail.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, text};

const NAMESPACE: &str = "ai-platform";

/// A row of `mettle verify`, and how to make it fail: kubectl's words to break, and to mend (none: `up` does).
struct Break {
    row: &'static str,
    breaks: &'static str,
    mends: &'static str,
}

/// Told apart by reading alone.
const BREAKS: [Break; 9] = [
    Break {
        row: "every service has endpoints",
        breaks: r#"patch service ai-platform-alertmanager -p {"spec":{"selector":{"broken":"yes"}}}"#,
        mends: r#"patch service ai-platform-alertmanager -p {"spec":{"selector":{"broken":null}}}"#,
    },
    Break {
        row: "every autoscaler acts",
        breaks: "scale deployment/ai-platform-model --replicas=0",
        mends: "scale deployment/ai-platform-model --replicas=2",
    },
    Break {
        row: "every component of the guide runs",
        breaks: "scale deployment/ai-platform-edge-shield --replicas=0",
        mends: "scale deployment/ai-platform-edge-shield --replicas=2",
    },
    Break {
        row: "the mesh's objects fit together",
        breaks: r#"patch destinationrule ai-platform-auth --type=merge -p {"spec":{"host":"nobody"}}"#,
        mends: r#"patch destinationrule ai-platform-auth --type=merge -p {"spec":{"host":"ai-platform-auth.ai-platform.svc.cluster.local"}}"#,
    },
    Break {
        row: "every service account may do what its table says, and no more",
        breaks: "create rolebinding too-much --clusterrole=view --serviceaccount=ai-platform:ai-platform-backend",
        mends: "delete rolebinding too-much",
    },
    Break {
        row: "redis: nodes that evict the least recently used of all keys",
        breaks: "exec ai-platform-redis-0 -- redis-cli config set maxmemory-policy noeviction",
        mends: "exec ai-platform-redis-0 -- redis-cli config set maxmemory-policy allkeys-lru",
    },
    Break {
        row: "redis: every node has the promised maxmemory",
        breaks: "exec ai-platform-redis-1 -- redis-cli config set maxmemory 0",
        mends: "exec ai-platform-redis-1 -- redis-cli config set maxmemory 96mb",
    },
    Break {
        row: "plain text at the door is sent to TLS",
        breaks: r#"patch gateway.networking.istio.io ai-platform-gateway --type=json -p [{"op":"replace","path":"/spec/servers/0/tls/httpsRedirect","value":false}]"#,
        mends: r#"patch gateway.networking.istio.io ai-platform-gateway --type=json -p [{"op":"replace","path":"/spec/servers/0/tls/httpsRedirect","value":true}]"#,
    },
    Break {
        row: "kafka: partitions that lack a replica or a leader",
        breaks: "scale statefulset/ai-platform-kafka --replicas=2",
        mends: "scale statefulset/ai-platform-kafka --replicas=3",
    },
];

/// Told apart by use.
const DEEP_BREAKS: [Break; 3] = [
    Break {
        row: "plain text to a STRICT service is refused",
        breaks: r#"patch peerauthentication ai-platform-inference --type=merge -p {"spec":{"mtls":{"mode":"PERMISSIVE"}}}"#,
        mends: r#"patch peerauthentication ai-platform-inference --type=merge -p {"spec":{"mtls":{"mode":"STRICT"}}}"#,
    },
    Break {
        row: "only whom a policy names gets through",
        breaks: r#"patch networkpolicy ai-platform-redis --type=json -p [{"op":"add","path":"/spec/ingress/-","value":{}}]"#,
        mends: "",
    },
    Break {
        row: "one journey is one trace through every component",
        breaks: r#"patch telemetry ai-platform --type=merge -p {"spec":{"tracing":[{"disableSpanReporting":true}]}}"#,
        mends: "",
    },
];

#[test]
#[ignore = "needs root and minutes: `make test` runs it"]
fn every_promise_holds_and_is_seen_to_fail_when_it_is_broken() {
    let cluster = Cluster { name: "e2e-whole" };
    // Goes on with a cluster that METTLE_E2E_KEEP kept.
    if std::env::var_os("METTLE_E2E_STANDING").is_none() {
        cluster.mettle(&["down"]);
        interrupted(&cluster);
        let started = Instant::now();
        cluster.mettle(&["up"]);
        eprintln!("up with the whole stack: {:.1} s", started.elapsed().as_secs_f64());
    }
    let status = cluster.mettle(&["status"]);
    eprintln!("{}", status.lines().filter(|line| line.starts_with("cost now")).collect::<String>());
    assert!(status.contains("Kong: not run here") && status.contains("Grafana: not run here"), "{status}");

    settled(&cluster, "before");
    let deep = verify(&cluster, &["--deep"]);
    assert!(bad(&deep).is_empty(), "{:#?}", bad(&deep));

    break_and_mend(&cluster, &BREAKS, &[]);
    break_and_mend(&cluster, &DEEP_BREAKS, &["--deep"]);
    // `up` puts back what it is in charge of.
    cluster.mettle(&["up"]);
    settled(&cluster, "after");

    cluster.mettle(&["down"]);
}

/// Each `up` goes on where the one before it was cut off: while namespaces and routes are made, while Kubernetes starts,
/// while images come to the nodes, while the stack comes up. The last one, uninterrupted, must end well.
fn interrupted(cluster: &Cluster) {
    let moments_ms = [300, 700, 1_200, 1_800, 2_500, 3_500, 5_000, 8_000, 13_000, 17_000, 25_000];
    let signals = ["KILL", "TERM"].into_iter().cycle();
    let cut = moments_ms
        .into_iter()
        .zip(signals)
        .filter(|(ms, signal)| cluster.interrupted(&["up"], Duration::from_millis(*ms), signal));
    let cut = cut.count();
    eprintln!("up was interrupted {cut} times");
    assert!(cut >= 8, "up was interrupted {cut} times only: the moments are too late for this machine");
}

fn verify(cluster: &Cluster, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["verify", "--json"];
    all.extend(args);
    let output = cluster.try_mettle(&all);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

/// Rows that are no pass.
fn bad(rows: &[Value]) -> Vec<String> {
    let bad = rows.iter().filter(|row| row["verdict"] != "pass");
    bad.map(|row| format!("{}: {} {}", row["check"], row["verdict"], row["reason"])).collect()
}

fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_secs(5));
    }
    true
}

/// Metrics and autoscalers need some time after a start; a container that started once too often is forgiven after 300 s.
fn settled(cluster: &Cluster, when: &str) {
    let mut last = Vec::new();
    let good = within(Duration::from_secs(420), || {
        last = bad(&verify(cluster, &[]));
        last.is_empty()
    });
    assert!(good, "{when}: {last:#?}");
}

/// All at once: each is another object, and each has a row of its own.
fn break_and_mend(cluster: &Cluster, breaks: &[Break], args: &[&str]) {
    let run = |line: &str| {
        if !line.is_empty() {
            let words: Vec<&str> = ["-n", NAMESPACE].into_iter().chain(line.split_whitespace()).collect();
            cluster.kubectl(&words);
        }
    };
    breaks.iter().for_each(|one| run(one.breaks));
    let mut last = Vec::new();
    let unseen = |rows: &[Value]| -> Vec<&'static str> {
        let failed = |row: &str| rows.iter().any(|one| one["check"] == row && one["verdict"] == "fail");
        breaks.iter().map(|one| one.row).filter(|row| !failed(row)).collect()
    };
    // Proxies, scrapes and controllers take their time to follow.
    let seen = within(Duration::from_secs(240), || {
        last = verify(cluster, args);
        unseen(&last).is_empty()
    });
    breaks.iter().for_each(|one| run(one.mends));
    assert!(seen, "broken, and not seen: {:?}\n{:#?}", unseen(&last), bad(&last));
}
