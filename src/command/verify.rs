//! `mettle verify`: is the stack what the guide promises? One row a check, an exit code for all.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Style, Width};

use crate::cli::{Global, VerifyArgs};
use crate::command::session::Session;
use crate::command::{CommandResult, Failure, files, session, up};
use crate::exit::Exit;
use crate::model::{
    Claim, ExperimentReport, Finding, Problem, Report, RunId, RunOutcome, Seed, Verdict, read_yaml,
};
use crate::promise::{self, Profile};
use crate::report;
use crate::run::World;
use crate::stack::{self, NAMESPACE, StackError};
use crate::verify::{self, Row, Section, Seen, Site};

const CLAIMS: &str = "stack/claims.yaml";
const ACCESS: &str = "stack/access.yaml";
const TICK: Duration = Duration::from_millis(200);

pub async fn execute(global: &Global, args: &VerifyArgs) -> CommandResult {
    let session = session::open(global).await?;
    let started_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let rows = look(global, &session, args).await?;
    let absent = stack::not_run_here(&session.client).await.map_err(set_up)?;
    if global.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
    } else {
        print(&rows);
    }
    if let Some(out) = &args.out {
        write(out, &session.label, started_at, &rows, &absent)?;
        eprintln!("mettle: report in {}", out.display());
    }
    // The absent parts are told, and fail nothing: nobody claims them here.
    for part in absent {
        eprintln!("{part}: not run here");
    }
    Ok(match Verdict::worst(rows.iter().map(|row| row.finding.verdict)) {
        Verdict::Pass => Exit::Pass,
        Verdict::Fail => Exit::Fail,
        Verdict::Inconclusive => Exit::Inconclusive,
    })
}

fn set_up(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::SetUp, error)
}

async fn look(global: &Global, session: &Session, args: &VerifyArgs) -> Result<Vec<Row>, Failure> {
    let workloads = stack::rows(&session.client).await.map_err(set_up)?;
    if workloads.is_empty() {
        let error = anyhow::anyhow!("no workload stands in namespace {NAMESPACE}");
        return Err(set_up(error).hint("`mettle up` brings the stack up"));
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(TICK);
    bar.set_message("reading the stack");
    let mut rows: Vec<Row> = workloads.iter().map(workload).collect();
    let world = session.world().await?;
    let snapshot = world.snapshot().await.map_err(set_up)?;
    rows.extend(verify::members::rows(&snapshot));
    let seen = Seen::read(&session.client, NAMESPACE).await.map_err(set_up)?;
    let site = Site {
        client: session.client.clone(),
        dialer: session.dialer(),
        credentials: session.credentials().await?,
        namespace: NAMESPACE.to_owned(),
        access: files::home().join(ACCESS),
    };
    if args.part {
        rows.extend(verify::look_at_part(&site, &seen).await);
    } else {
        bar.set_message("asking the gateway, prometheus and the API");
        rows.extend(verify::look(&site, &seen).await);
    }
    if args.deep {
        bar.set_message("using the stack: journeys, messages, a weighted route, refused pods, 2000 sessions");
        rows.extend(verify::use_it(&site, &seen).await);
    }
    if !args.part {
        rows.extend(promises(session, &up::overlay(global, args.overlay.as_deref())).await?);
    }
    bar.finish_and_clear();
    rows.sort_by_key(|row| row.section);
    Ok(rows)
}

/// What the manifests state: those of the overlay that was applied, and the guide's own numbers.
async fn promises(session: &Session, applied: &Path) -> Result<Vec<Row>, Failure> {
    let name = applied.file_name().unwrap_or(applied.as_os_str()).to_string_lossy().into_owned();
    let kubectl = session.kubectl().await;
    let claims = claims()?;
    let full = files::home().join("stack/overlays/full");
    let mut rows = vec![as_stated(&name, stack::drift(&session.client, &kubectl, applied).await)];
    for (overlay, path, profile) in
        [(name.as_str(), applied, Profile::Every), ("full", full.as_path(), Profile::Full)]
    {
        let objects = stack::kustomize(&kubectl, path).await.map_err(set_up)?;
        for mut judged in promise::judge(&objects, profile) {
            judged.finding.check = format!("overlay {overlay}: {}", judged.finding.check);
            // Where more must be shown than what is stated, what is stated is one part.
            let parted = claims.iter().any(|claim| claim.id == judged.claim && !claim.parts.is_empty());
            let claim = if parted { format!("{}/spec", judged.claim) } else { judged.claim.to_owned() };
            rows.push(Row::new(Section::Manifests, &[&claim], judged.finding));
        }
    }
    Ok(rows)
}

/// What the manifests state is worth what stands: so they are compared. What cannot be compared is not known to hold.
fn as_stated(overlay: &str, drift: Result<stack::Drift, StackError>) -> Row {
    let check = format!("the stack stands as overlay {overlay} states");
    let drift = drift
        .unwrap_or_else(|error| stack::Drift { unread: vec![error.to_string()], ..stack::Drift::default() });
    let first = |lines: &[String]| match lines {
        [] => String::new(),
        [only] => only.clone(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    };
    let lines = [drift.lines.as_slice(), &drift.unread].concat();
    let finding = if !drift.lines.is_empty() {
        Finding::new(check, Verdict::Fail, first(&drift.lines)).with_evidence(lines)
    } else if !drift.unread.is_empty() {
        Finding::new(check, Verdict::Inconclusive, first(&drift.unread)).with_evidence(lines)
    } else if drift.objects == 0 {
        Finding::new(check, Verdict::Inconclusive, "there is nothing to compare")
    } else {
        Finding::new(check, Verdict::Pass, format!("{} objects", drift.objects))
    };
    Row::new(Section::Pods, &["D4"], finding)
}

fn claims() -> Result<Vec<Claim>, Failure> {
    let none: Problem<Vec<Claim>> = |_| None;
    read_yaml(&files::home().join(CLAIMS), none).map_err(set_up)
}

fn workload(row: &stack::Row) -> Row {
    let verdict = if row.is_ready() { Verdict::Pass } else { Verdict::Fail };
    let finding = Finding::new(row.workload.clone(), verdict, format!("{}/{} ready", row.ready, row.desired));
    Row::new(Section::Pods, &["D4"], finding)
}

fn print(rows: &[Row]) {
    let mut table = Builder::default();
    table.push_record(["what", "claims", "verdict", "seen"]);
    // What the manifests state is many rows: those that hold are counted below.
    let stated = |row: &&Row| row.section == Section::Manifests && row.finding.verdict == Verdict::Pass;
    for row in rows.iter().filter(|row| !stated(row)) {
        let verdict = match row.finding.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Inconclusive => "inconclusive",
        };
        let seen: String = row.finding.reason.chars().take(400).collect();
        table.push_record([&row.finding.check, &row.claims.join(" "), verdict, &seen]);
    }
    let mut table = table.build();
    table.with(Style::sharp());
    table.modify(Columns::one(0), Width::wrap(52).keep_words(true));
    table.modify(Columns::one(3), Width::wrap(70).keep_words(true));
    println!("{table}");
    println!("{} promises that the manifests state hold", rows.iter().filter(stated).count());
    let count = |verdict| rows.iter().filter(|row| row.finding.verdict == verdict).count();
    println!(
        "{} rows: {} pass, {} fail, {} inconclusive",
        rows.len(),
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Inconclusive)
    );
}

/// A report like a run's: a claim is proven by all rows that speak for it, or by none.
fn write(
    out: &Path,
    cluster: &str,
    started_at: String,
    rows: &[Row],
    absent: &[String],
) -> Result<(), Failure> {
    std::fs::create_dir_all(out).map_err(set_up)?;
    let claims: BTreeSet<&String> = rows.iter().flat_map(|row| &row.claims).collect();
    let experiments: Vec<ExperimentReport> =
        claims.into_iter().map(|claim| experiment(claim, rows)).collect();
    let run = RunId(format!("v{:x}", chrono::Utc::now().timestamp()));
    let mut report: Report = report::run(run, Seed(0), cluster.to_owned(), started_at, experiments);
    report.not_run_here = absent.to_vec();
    report::write(out, &report).map(drop).map_err(set_up)
}

fn experiment(claim: &str, rows: &[Row]) -> ExperimentReport {
    let about = rows.iter().filter(|row| row.claims.iter().any(|one| one == claim));
    let findings: Vec<Finding> = about.map(|row| row.finding.clone()).collect();
    let verdict = Verdict::worst(findings.iter().map(|finding| finding.verdict));
    let report = ExperimentReport::new(format!("verify {claim}"), verdict, RunOutcome::Completed, Seed(0));
    ExperimentReport { proves: vec![claim.to_owned()], findings, ..report }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_as_good_as_its_worst_row() {
        let row = |claims: &[&str], verdict| Row::new(Section::Pods, claims, Finding::new("x", verdict, "y"));
        let rows = [
            row(&["R1", "D4"], Verdict::Pass),
            row(&["R1"], Verdict::Inconclusive),
            row(&["D4"], Verdict::Pass),
        ];
        assert_eq!(experiment("R1", &rows).verdict, Verdict::Inconclusive);
        assert_eq!(experiment("D4", &rows).verdict, Verdict::Pass);
        assert_eq!(experiment("D4", &rows).findings.len(), 2);
    }

    #[test]
    fn what_stands_is_as_stated_only_when_all_of_it_was_compared() {
        let drift = |objects, lines: &[&str], unread: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Ok(stack::Drift { objects, lines: owned(lines), unread: owned(unread) })
        };
        let refused = Err(StackError::from(crate::cluster::ClusterError::state("list", "forbidden")));
        for (drift, verdict, said) in [
            (drift(3, &[], &[]), Verdict::Pass, "3 objects"),
            (drift(3, &["a is not there"], &[]), Verdict::Fail, "a is not there"),
            (drift(3, &["a", "b"], &["c"]), Verdict::Fail, "a (and 1 more)"),
            (drift(3, &[], &["a", "b"]), Verdict::Inconclusive, "a (and 1 more)"),
            (drift(0, &[], &[]), Verdict::Inconclusive, "there is nothing to compare"),
            (refused, Verdict::Inconclusive, "failed to list: forbidden"),
        ] {
            let row = as_stated("local", drift);
            assert_eq!((row.finding.verdict, row.finding.reason.as_str()), (verdict, said));
        }
    }
}
