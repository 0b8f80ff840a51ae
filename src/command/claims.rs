//! `mettle claims`: every promise of the guide, whether it is in the stack, and which run proved it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tabled::builder::Builder;
use tabled::settings::{Style, Width};

use crate::cli::{ClaimsArgs, Global};
use crate::command::{CommandResult, Failure, files};
use crate::exit::Exit;
use crate::model::{Claim, Problem, Report, read_yaml};
use crate::report::{self, Inventory, Standing, standings};
use crate::stack;

const FILE: &str = "stack/claims.yaml";
const OVERLAY: &str = "stack/overlays/local";
/// Directories are searched this deep for reports, and hold at most so many.
const DEPTH_MAX: usize = 4;
const REPORTS_MAX: usize = 2000;

pub fn execute(global: &Global, args: &ClaimsArgs) -> CommandResult {
    let none: Problem<Vec<Claim>> = |_| None;
    let claims =
        read_yaml(&files::home().join(FILE), none).map_err(|error| Failure::new(Exit::SetUp, error))?;
    let (components, files) = stack::inventory(&files::home().join(OVERLAY))
        .map_err(|error| Failure::new(Exit::SetUp, error).hint("set METTLE_HOME to mettle's source tree"))?;
    let mut paths = Vec::new();
    for dir in &args.reports {
        find(dir, DEPTH_MAX, &mut paths);
    }
    let reports: Vec<Report> = paths
        .iter()
        .map(|path| report::read(path))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let found = standings(&claims, &Inventory { components, files }, &reports);
    if global.json {
        let rows: Vec<_> = claims.iter().zip(&found).map(|(claim, standing)| row(claim, standing)).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
        return Ok(Exit::Pass);
    }
    let mut table = Builder::default();
    table.push_record(["id", "promise", "standing", "by"]);
    for (claim, standing) in claims.iter().zip(&found) {
        let because = open_because(claim, standing).cloned();
        let (standing, by) = words(standing);
        let by = [by].into_iter().filter(|by| !by.is_empty()).chain(because).collect::<Vec<_>>().join("; ");
        table.push_record([claim.id.as_str(), &claim.promise, &standing, &by]);
    }
    let mut table = table.build();
    table
        .with(Style::sharp())
        .modify(tabled::settings::object::Columns::one(1), Width::wrap(56).keep_words(true));
    table.modify(tabled::settings::object::Columns::one(3), Width::wrap(40).keep_words(true));
    println!("{table}");
    let proven = found.iter().filter(|standing| matches!(standing, Standing::Proven { .. })).count();
    println!("{proven} of {} proven by {} reports", claims.len(), reports.len());
    Ok(Exit::Pass)
}

/// As `--json` has it: `status` in plain words, the experiments that say so, and why it is not more.
fn row(claim: &Claim, standing: &Standing) -> Value {
    let (status, by) = words(standing);
    json!({
        "id": claim.id,
        "promise": claim.promise,
        "status": status,
        "experiment": (!matches!(standing, Standing::NotBuilt { .. }) && !by.is_empty()).then_some(by),
        "reason": open_because(claim, standing),
        "standing": standing,
    })
}

/// What is written of why it is not more; nothing of one that is proven.
fn open_because<'a>(claim: &'a Claim, standing: &Standing) -> Option<&'a String> {
    claim.reason.as_ref().filter(|_| !matches!(standing, Standing::Proven { .. }))
}

fn words(standing: &Standing) -> (String, String) {
    match standing {
        Standing::Failed { by } => ("FAILED".to_owned(), by.join(", ")),
        Standing::Proven { providers, by } => {
            let providers: Vec<&str> = providers.iter().map(String::as_str).collect();
            (format!("proven on {}", providers.join(", ")), by.join(", "))
        }
        Standing::Partly { by, open } => {
            let open = if open.is_empty() { "more".to_owned() } else { open.join(", ") };
            (format!("partly proven, open: {open}"), by.join(", "))
        }
        Standing::Built => ("built, not proven".to_owned(), String::new()),
        Standing::NotBuilt { missing } => ("not yet".to_owned(), format!("lacks {}", missing.join(", "))),
    }
}

/// Every report below a directory. One that does not exist holds none.
fn find(dir: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && depth > 0 {
            find(&path, depth - 1, into);
        } else if path.file_name().is_some_and(|name| name == report::FILE_NAME) && into.len() < REPORTS_MAX {
            into.push(path);
        }
    }
}
