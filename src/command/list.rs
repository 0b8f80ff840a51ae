//! `mettle list`: the catalogue.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::cli::{Global, ListArgs, ListWhat};
use crate::command::files::{NamedBy, home, usage};
use crate::command::{CommandResult, Failure};
use crate::exit::Exit;
use crate::model::{CheckKind, Experiment, FaultKind, Scenario, Suite};
use crate::provider::docker::{self, Flavour};
use crate::provider::host::Host;
use crate::{check, fault};

pub async fn execute(global: &Global, args: &ListArgs) -> CommandResult {
    let rows = match args.what {
        ListWhat::Faults => faults(),
        ListWhat::Checks => checks(),
        ListWhat::Experiments => files("experiments", experiment_row)?,
        ListWhat::Suites => files("experiments/suites", suite_row)?,
        ListWhat::Scenarios => files("scenarios", scenario_row)?,
        ListWhat::Clusters => clusters()?,
        ListWhat::Images => images()?,
    };
    if global.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?);
        return Ok(Exit::Pass);
    }
    print_table(columns(args.what), &rows);
    Ok(Exit::Pass)
}

/// What a person sees, in this order; `--json` prints every field.
fn columns(what: ListWhat) -> &'static [&'static str] {
    match what {
        ListWhat::Faults => &["name", "level", "does", "evidence", "with"],
        ListWhat::Checks => &["name", "judges"],
        ListWhat::Experiments => &["experiment", "faults", "proves", "file"],
        ListWhat::Suites => &["suite", "experiments", "description", "file"],
        ListWhat::Scenarios => &["scenario", "journeys", "service", "description"],
        ListWhat::Clusters => &["cluster", "provider"],
        ListWhat::Images => &["image", "tag", "size", "build", "save"],
    }
}

fn print_table(columns: &[&str], rows: &[Value]) {
    if rows.is_empty() {
        println!("none");
        return;
    }
    let mut table = Builder::default();
    table.push_record(columns.iter().copied());
    for row in rows {
        table.push_record(columns.iter().map(|column| match &row[*column] {
            Value::String(text) => text.clone(),
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        }));
    }
    println!("{}", table.build().with(Style::sharp()));
}

fn faults() -> Vec<Value> {
    FaultKind::ALL.iter().map(|kind| json!(fault::info(*kind))).collect()
}

fn checks() -> Vec<Value> {
    CheckKind::ALL
        .into_iter()
        .map(|kind| json!({ "name": kind.as_str(), "judges": check::describe(kind) }))
        .collect()
}

fn files(directory: &str, row: fn(&Path) -> Result<Value, Failure>) -> Result<Vec<Value>, Failure> {
    let directory = home().join(directory);
    let read = |error: std::io::Error| {
        Failure::new(
            Exit::SetUp,
            anyhow::Error::new(error).context(format!("failed to read {}", directory.display())),
        )
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| row(path)).collect()
}

fn experiment_row(path: &Path) -> Result<Value, Failure> {
    let experiment = Experiment::read(path).map_err(|error| usage(error, NamedBy::Caller))?;
    let faults = experiment.faults.iter().map(|fault| fault.kind.as_str());
    let faults: Vec<&str> = faults.chain(experiment.load.step.map(|_| "load step")).collect();
    Ok(json!({
        "experiment": experiment.name,
        "faults": faults.join(", "),
        "proves": experiment.proves.join(" "),
        "description": experiment.description,
        "file": path.display().to_string(),
    }))
}

fn suite_row(path: &Path) -> Result<Value, Failure> {
    let suite = Suite::read(path).map_err(|error| usage(error, NamedBy::Caller))?;
    Ok(json!({
        "suite": suite.suite,
        "experiments": suite.experiments.len(),
        "description": suite.description,
        "file": path.display().to_string(),
    }))
}

fn scenario_row(path: &Path) -> Result<Value, Failure> {
    let scenario = Scenario::read(path).map_err(|error| usage(error, NamedBy::Experiment))?;
    Ok(json!({
        "scenario": scenario.scenario,
        "journeys": scenario.journeys.len(),
        "service": scenario.service,
        "description": scenario.description,
    }))
}

fn clusters() -> Result<Vec<Value>, Failure> {
    let failed = super::provider_failure;
    let names = crate::provider::local::down::names().map_err(failed)?;
    let mut rows: Vec<Value> =
        names.into_iter().map(|name| json!({ "provider": "local", "cluster": name })).collect();
    for flavour in [Flavour::Kind, Flavour::K3d] {
        let names = docker::record::names(&Host::this(), flavour).map_err(failed)?;
        rows.extend(names.into_iter().map(|name| json!({ "provider": flavour.name(), "cluster": name })));
    }
    Ok(rows)
}

/// What the cache holds. How long an image took is known of those that this program built itself.
fn images() -> Result<Vec<Value>, Failure> {
    let kept = crate::provider::shelf::kept().map_err(super::provider_failure)?;
    let seconds = |seconds: Option<f64>| {
        seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.1} s"))
    };
    let row = |image: &crate::provider::shelf::Kept| {
        json!({
            "image": image.name,
            "tag": image.tag,
            "size": format!("{:.0} MiB", image.bytes as f64 / f64::from(1 << 20)),
            "build": seconds(image.build_seconds),
            "save": seconds(image.save_seconds),
            "bytes": image.bytes,
            "build_seconds": image.build_seconds,
            "save_seconds": image.save_seconds,
        })
    };
    Ok(kept.iter().map(row).collect())
}
