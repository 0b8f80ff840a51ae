//! The sabotages on a real stack.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Cluster, text};
use crate::sabotage::{self, By, Sabotage, Seen};
use crate::steps;

const SEED: &str = "42";
/// Proxies, scrapes and controllers take their time to follow.
const FOLLOW: Duration = Duration::from_secs(240);
/// A container that started once too often is forgiven after 300 s.
const SETTLE: Duration = Duration::from_secs(420);

/// How one went; empty: as it must.
struct Row {
    sabotage: String,
    wrong: String,
    told: String,
    seconds: f64,
}

pub fn all() {
    let picked = std::env::var("METTLE_SABOTAGE").unwrap_or_default();
    let picked: BTreeSet<&str> = picked.split(',').filter(|name| !name.is_empty()).collect();
    let wanted: Vec<Sabotage> = sabotage::all()
        .into_iter()
        .filter(|one| picked.is_empty() || picked.contains(one.sabotage.as_str()))
        .collect();
    assert!(picked.is_empty() || wanted.len() == picked.len(), "METTLE_SABOTAGE names one that is not there");
    let standing = std::env::var("METTLE_SABOTAGE_CLUSTER").ok();
    let name: &'static str = standing.clone().map_or("e2e-sabotage", |name| Box::leak(name.into_boxed_str()));
    let cluster = std::mem::ManuallyDrop::new(Cluster { name });
    if standing.is_none() {
        cluster.mettle(&["down"]);
        cluster.mettle(&["up"]);
    }
    let bench = Bench { cluster: &cluster, files: tempfile::tempdir().expect("a directory") };
    let mut rows = bench.clean(&wanted);
    if rows.is_empty() {
        for by in [By::Verify, By::VerifyDeep] {
            rows.extend(bench.verified(&wanted, by));
        }
        let one_by_one = wanted.iter().filter(|one| matches!(one.seen.by, By::Run | By::Drill));
        rows.extend(one_by_one.map(|one| bench.judged(one)));
    }
    for row in &rows {
        let word = if row.wrong.is_empty() { "seen" } else { "NOT SEEN" };
        eprintln!("{:<34} {word:<9} {:>6.1} s  {}{}", row.sabotage, row.seconds, row.wrong, row.told);
    }
    if standing.is_none() {
        cluster.mettle(&["down"]);
    }
    let wrong: Vec<&str> =
        rows.iter().filter(|row| !row.wrong.is_empty()).map(|row| row.sabotage.as_str()).collect();
    assert!(wrong.is_empty(), "not as it must: {wrong:?}");
}

struct Bench<'a> {
    cluster: &'a Cluster,
    files: tempfile::TempDir,
}

impl Bench<'_> {
    /// The stack as it is passes everything that will have to fail; rows of what does not.
    fn clean(&self, wanted: &[Sabotage]) -> Vec<Row> {
        self.settled();
        let mut rows = Vec::new();
        if wanted.iter().any(|one| one.seen.by == By::VerifyDeep) {
            let bad = not_passed(&self.verify(By::VerifyDeep));
            rows.extend((!bad.is_empty()).then(|| row("the stack as it is", bad.join("; "), 0.0)));
        }
        // Said by a person who saw them pass on this cluster just now.
        if std::env::var("METTLE_SABOTAGE_CLEAN").as_deref() == Ok("seen") {
            return rows;
        }
        let files: BTreeMap<&PathBuf, &Seen> =
            wanted.iter().filter_map(|one| Some((one.seen.file.as_ref()?, &one.seen))).collect();
        for (path, seen) in files {
            let started = Instant::now();
            let report = self.report(seen, "clean");
            if report["verdict"] != "pass" {
                let name = format!("clean {}", path.display());
                rows.push(row(&name, told(&report), started.elapsed().as_secs_f64()));
            }
        }
        rows
    }

    /// All at once: each is another object, and each has a row of its own.
    fn verified(&self, wanted: &[Sabotage], by: By) -> Vec<Row> {
        let wanted: Vec<&Sabotage> = wanted.iter().filter(|one| one.seen.by == by).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        wanted.iter().for_each(|one| steps::run(self.cluster, &one.breaks));
        let mut seen: BTreeMap<&str, String> = BTreeMap::new();
        while seen.len() < wanted.len() && started.elapsed() < FOLLOW {
            let rows = self.verify(by);
            for one in &wanted {
                if let Some(row) = rows.iter().find(|row| one.seen.is(row)) {
                    seen.entry(&one.sabotage).or_insert_with(|| reason(row));
                }
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        wanted.iter().rev().for_each(|one| steps::mend(self.cluster, one));
        self.mended();
        let row = |one: &&Sabotage| Row {
            sabotage: one.sabotage.clone(),
            wrong: if seen.contains_key(one.sabotage.as_str()) {
                String::new()
            } else {
                "no such row fails".to_owned()
            },
            told: seen.get(one.sabotage.as_str()).cloned().unwrap_or_default(),
            seconds,
        };
        wanted.iter().map(row).collect()
    }

    /// Weak, judged, mended.
    fn judged(&self, one: &Sabotage) -> Row {
        let started = Instant::now();
        eprintln!("{}: {}", one.sabotage, one.does);
        steps::run(self.cluster, &one.breaks);
        let report = self.report(&one.seen, &one.sabotage);
        steps::mend(self.cluster, one);
        self.mended();
        let findings = report["experiments"][0]["findings"].as_array().cloned().unwrap_or_default();
        let found = findings.iter().find(|finding| one.seen.is(finding)).map(reason);
        let seconds = started.elapsed().as_secs_f64();
        match found {
            Some(told) => Row { sabotage: one.sabotage.clone(), wrong: String::new(), told, seconds },
            None => row(&one.sabotage, told(&report), seconds),
        }
    }

    /// `up` puts back what it is in charge of.
    fn mended(&self) {
        self.cluster.mettle(&["up"]);
        self.settled();
    }

    fn settled(&self) {
        let started = Instant::now();
        loop {
            let bad = not_passed(&self.verify(By::Verify));
            if bad.is_empty() {
                return;
            }
            assert!(started.elapsed() < SETTLE, "the stack does not come to rest: {bad:#?}");
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    fn verify(&self, by: By) -> Vec<Value> {
        let args: &[&str] =
            if by == By::VerifyDeep { &["verify", "--json", "--deep"] } else { &["verify", "--json"] };
        let output = self.cluster.try_mettle(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", text(&output.stderr)))
    }

    fn report(&self, seen: &Seen, name: &str) -> Value {
        let stem =
            seen.file.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str()).unwrap_or("none");
        let out = self.files.path().join(format!("{name}-{stem}"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(seen.file.as_deref().unwrap_or(Path::new("")));
        let (path, directory) = (path.display().to_string(), out.display().to_string());
        let output = match seen.by {
            By::Drill => self.cluster.try_mettle(&[
                "drill",
                &path,
                "--destroy-data",
                "--seed",
                SEED,
                "--out",
                &directory,
            ]),
            _ => self.cluster.try_mettle(&["run", &path, "--seed", SEED, "--out", &directory]),
        };
        let report = std::fs::read_to_string(out.join("report.json"));
        let report = report.unwrap_or_else(|why| panic!("{name}: {why}\n{}", text(&output.stderr)));
        serde_json::from_str(&report).expect("a report")
    }
}

fn row(sabotage: &str, wrong: String, seconds: f64) -> Row {
    Row { sabotage: sabotage.to_owned(), wrong, told: String::new(), seconds }
}

fn reason(finding: &Value) -> String {
    finding["reason"].as_str().unwrap_or_default().to_owned()
}

fn not_passed(rows: &[Value]) -> Vec<String> {
    let bad = rows.iter().filter(|row| row["verdict"] != "pass");
    bad.map(|row| format!("{}: {} {}", row["check"], row["verdict"], row["reason"])).collect()
}

/// Every finding of a report, in short.
fn told(report: &Value) -> String {
    let findings = report["experiments"][0]["findings"].as_array().cloned().unwrap_or_default();
    let words = findings.iter().map(|one| format!("{} {} ({})", one["check"], one["verdict"], one["reason"]));
    words.collect::<Vec<_>>().join("; ")
}
