//! What it costs to judge many operations: read from their file, held against the stores, judged by every check. The
//! kernel's own high-water mark says it, so nothing that is allocated on the way escapes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

use mettle::ledger::{Found, compare};
use mettle::load::read_operations;
use mettle::model::{
    Event, Experiment, Fact, FaultKind, FaultRecord, LedgerTotals, ListName, LoadSecond, OpId, Operation,
    OperationOutcome, Seen, Store, Stores, Target, Timeline, Verdict, Window, Windows, parse_yaml,
};

const MILLION: u64 = 1_000_000;
/// Operations of one round: reads, writes to every store, reads of what was written.
const ROUND: u64 = 12;
const LIST_LENGTH: u64 = 50;
/// Each operation is wanted so much after the one before.
const EVERY_US: u64 = 1000;

/// The high-water mark is the process's: one measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_million_operations_cost_a_hundred_bytes_each() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (before, after) = judged(MILLION);
    let bytes_each = (after - before) * 1024 / MILLION;
    assert!(bytes_each <= 100, "{bytes_each} bytes an operation: {before} then {after} KiB");
}

/// Minutes, and 1.5 GB of disk: `cargo test --test memory -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn ten_million_operations_fit_a_gigabyte() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (before, after) = judged(10 * MILLION);
    println!("VmHWM {before} KiB before, {after} KiB after 10 million operations were judged");
    assert!(after * 1024 < 1_000_000_000, "{after} KiB");
}

/// The high-water marks before and after, KiB.
fn judged(count: u64) -> (u64, u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("operations.jsonl");
    write(&path, count);
    let before = high_water_kib();
    let mut timeline = timeline(read_operations(&path).expect("they are read"));
    assert_eq!(timeline.operations.len() as u64, count);
    for store in Store::ALL {
        let totals = compare(&timeline.operations, store, &found(store, count));
        assert!(totals.ok > count / ROUND / 2 && totals.lost + totals.duplicated == 0, "{totals:?}");
        assert!(totals.stale_reads + totals.dirty_reads + totals.reordered == 0, "{totals:?}");
        timeline.ledger.insert(store, totals);
    }
    assert!(timeline.ledger.values().map(|totals: &LedgerTotals| totals.reads).sum::<u64>() > count / 4);
    let (findings, _) = mettle::check::judge_all(&experiment(), &timeline);
    for finding in findings.iter().filter(|finding| finding.check != "probe-heartbeat") {
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
    }
    (before, high_water_kib())
}

fn high_water_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a mark");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn id(number: u64) -> OpId {
    OpId::new(&format!("r6f1a2b3ce0-{number}"))
}

/// Which list the append of this round goes to, and at which place in it.
fn place(round: u64, rounds: u64) -> (ListName, u64) {
    let lists = rounds.div_ceil(LIST_LENGTH);
    (ListName::new(&format!("r6f1a2b3ce0-u{}", round % lists)), round / lists)
}

fn operation(number: u64, count: u64) -> Operation {
    let (round, turn) = (number / ROUND, number % ROUND);
    let first = round * ROUND;
    let blank = Operation {
        id: None,
        step: "reader.catalog".into(),
        writes: Stores::NONE,
        reads: None,
        intended_us: number * EVERY_US,
        sent_us: number * EVERY_US + 1,
        done_us: number * EVERY_US + 900,
        outcome: OperationOutcome::Ok,
        error: None,
        status: Some(200),
        degraded: false,
        seen: None,
    };
    let write = |stores: &[Store], step: &str| Operation {
        id: Some(id(number)),
        step: step.into(),
        writes: stores.iter().copied().collect(),
        ..blank.clone()
    };
    let read = |of: u64| Operation {
        id: Some(id(of)),
        step: "predictor.read-back".into(),
        reads: Some(Store::Postgres),
        ..blank.clone()
    };
    match turn {
        0 | 1 => write(&[Store::Postgres], "predictor.predict"),
        2 | 3 => read(first + turn - 2),
        4 => write(&[Store::Redis], "session.append"),
        5 => {
            let (list, kept) = place(round, count / ROUND);
            let seen = Seen { list, kept: kept as u32, then: [id(first + 4)].into() };
            Operation { reads: Some(Store::Redis), seen: Some(Box::new(seen)), ..blank }
        }
        6 => write(&[Store::Jobs, Store::Kafka], "user.infer"),
        _ => blank,
    }
}

fn write(path: &Path, count: u64) {
    let mut file = BufWriter::new(File::create(path).expect("created"));
    for number in 0..count {
        serde_json::to_writer(&mut file, &operation(number, count)).expect("written");
        file.write_all(b"\n").expect("written");
    }
    file.flush().expect("written");
}

fn found(store: Store, count: u64) -> Found {
    let written = (0..count).filter(|number| match store {
        Store::Postgres => number % ROUND < 2,
        Store::Redis => number % ROUND == 4,
        Store::Jobs | Store::Kafka => number % ROUND == 6,
    });
    if store != Store::Redis {
        return Found::of_ids(written.map(id).collect());
    }
    let mut lists: BTreeMap<ListName, Vec<OpId>> = BTreeMap::new();
    for number in written {
        lists.entry(place(number / ROUND, count / ROUND).0).or_default().push(id(number));
    }
    Found::of_lists(lists)
}

fn timeline(operations: Vec<Operation>) -> Timeline {
    let end_ms = operations.len() as u64 * EVERY_US / 1000;
    let span = |from: u64, to: u64| Window { start_ms: end_ms * from / 10, end_ms: end_ms * to / 10 };
    let second = |second: u64| {
        let load = LoadSecond { at_ms: second * 1000, intended: 1000, ok: 1000, ..LoadSecond::default() };
        Event { at_ms: second * 1000, fact: Fact::Load(load) }
    };
    let target = Target {
        object: "pod/ai-platform/backend-0".into(),
        node: None,
        component: None,
        role: None,
        because: "drawn".into(),
    };
    let injected_ms = span(2, 3).start_ms;
    Timeline {
        events: (0..end_ms / 1000).map(second).collect(),
        windows: Windows { baseline: span(0, 2), fault: span(2, 3), recovery: span(3, 10) },
        faults: vec![FaultRecord {
            kind: FaultKind::PodKill,
            targets: vec![target],
            injected_ms,
            effective_ms: Some(injected_ms + 100),
            reverted_ms: Some(injected_ms + 1000),
            evidence: vec!["it is gone".into()],
        }],
        operations,
        ledger: BTreeMap::new(),
    }
}

fn experiment() -> Experiment {
    let text = "
name: many
scenario: ../scenarios/platform-api.yaml
faults: [{ kind: pod-kill, target: { component: backend } }]
expect:
  - { check: error-rate, window: recovery, maxPercent: 1 }
  - { check: latency, window: recovery, quantile: 0.99, maxMs: 100 }
  - { check: recovery-time, maxSeconds: 5 }
  - { check: lost-writes, store: postgres }
  - { check: duplicated-writes, store: jobs }
  - { check: lost-writes, store: kafka }
  - { check: reordered-writes, store: redis }
  - { check: stale-reads, store: postgres }
  - { check: dirty-reads, store: redis }
";
    parse_yaml(Path::new("many.yaml"), text).expect("the sample is valid")
}
