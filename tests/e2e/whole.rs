//! The whole stack of the guide: stands up, is what it promises, row by row; and each promise is broken once, on the
//! real thing, to see its row fail.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, text};
use crate::sabotage::{self, By, Sabotage};
use crate::steps;

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

    break_and_mend(&cluster, By::Verify, &[]);
    break_and_mend(&cluster, By::VerifyDeep, &["--deep"]);
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
fn break_and_mend(cluster: &Cluster, by: By, args: &[&str]) {
    let mut breaks = sabotage::all();
    breaks.retain(|one| one.seen.by == by);
    assert!(!breaks.is_empty());
    breaks.iter().for_each(|one| steps::run(cluster, &one.breaks));
    let mut last = Vec::new();
    let unseen = |rows: &[Value]| -> Vec<String> {
        let seen = |one: &&Sabotage| rows.iter().any(|row| one.seen.is(row));
        breaks.iter().filter(|one| !seen(one)).map(|one| one.sabotage.clone()).collect()
    };
    // Proxies, scrapes and controllers take their time to follow.
    let seen = within(Duration::from_secs(240), || {
        last = verify(cluster, args);
        unseen(&last).is_empty()
    });
    breaks.iter().rev().for_each(|one| steps::mend(cluster, one));
    assert!(seen, "broken, and not seen: {:?}\n{:#?}", unseen(&last), bad(&last));
}
