//! `mettle judge`: a stored run, judged again from its files. No cluster is needed, and none is looked at.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde_json::Value;

use crate::cli::{Global, JudgeArgs};
use crate::command::files::{self, NamedBy};
use crate::command::{CommandResult, Failure, one_sentence, report as report_command};
use crate::exit::Exit;
use crate::model::{
    CheckSpec, EvidenceFiles, Experiment, ExperimentRecord, ExperimentReport, Report, Verdict,
};
use crate::run::{DrillRecord, Evidence, Recorded, is_of, judge_again, judge_drill_again, read_evidence};
use crate::{check, report};

/// Longest part of a report that is quoted where it differs.
const QUOTED_MAX: usize = 160;

/// What judging again gave.
#[derive(Debug)]
pub enum Judged {
    /// What is not there any more, or not as it was: nothing is judged.
    Unfit(Vec<String>),
    /// The report as the evidence gives it now, and in what the stored one differs; with other bounds in nothing.
    Again { report: Box<Report>, differences: Vec<String> },
}

pub fn execute(global: &Global, args: &JudgeArgs) -> CommandResult {
    let stored = report::read(&args.path).map_err(report_command::failure)?;
    let directory =
        if args.path.is_dir() { args.path.as_path() } else { args.path.parent().unwrap_or(Path::new(".")) };
    let expect = args.expect.as_deref().map(|file| expect_of(file, &stored)).transpose()?;
    match again(directory, &stored, expect.as_ref()) {
        Judged::Unfit(problems) => {
            for problem in &problems {
                eprintln!("mettle: {problem}");
            }
            eprintln!("verdict: inconclusive · exit 3: the run cannot be judged again");
            Ok(Exit::Inconclusive)
        }
        Judged::Again { report, differences } => {
            if global.json {
                print!("{}", report::to_text(&report).map_err(|error| Failure::new(Exit::Internal, error))?);
            } else {
                print!("{}", report_command::text(&report));
            }
            if differences.is_empty() {
                return Ok(report_command::exit_of(&report));
            }
            for difference in &differences {
                eprintln!("mettle: report.json differs: {difference}");
            }
            if report.mettle_version != stored.mettle_version {
                let (old, new) = (&stored.mettle_version, &report.mettle_version);
                eprintln!(
                    "hint: it was judged by mettle {old}, this is {new}: CHANGELOG.md says what is judged otherwise"
                );
            }
            eprintln!("verdict: fail · exit 1: report.json is not what its evidence gives");
            Ok(Exit::Fail)
        }
    }
}

/// Other bounds, and for which experiments of the run.
pub struct Expect {
    pub name: Option<String>,
    pub checks: Vec<CheckSpec>,
}

/// A file of the same name is for the experiments of that name; any other is for the only one there is.
fn expect_of(file: &Path, stored: &Report) -> Result<Expect, Failure> {
    let given = Experiment::read(file).map_err(|error| files::usage(error, NamedBy::Caller))?;
    let names: BTreeSet<&str> = stored.experiments.iter().map(|one| one.name.as_str()).collect();
    let known = names.contains(given.name.as_str());
    if !known && names.len() != 1 {
        let error = anyhow::anyhow!("{}: name: the run has no experiment {}", file.display(), given.name);
        let all: Vec<&str> = names.into_iter().collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        return Err(Failure::new(Exit::Usage, error).hint(format!("its experiments: {all}")));
    }
    Ok(Expect { name: known.then_some(given.name), checks: given.expect })
}

/// Judges every experiment of a run again, or says why that cannot be done.
#[must_use]
pub fn again(directory: &Path, stored: &Report, expect: Option<&Expect>) -> Judged {
    let (mut experiments, mut problems) = (Vec::new(), Vec::new());
    for experiment in &stored.experiments {
        match one(directory, experiment, expect) {
            Ok(report) => experiments.push(report),
            Err(why) => problems.push(format!("experiment {}: {why}", experiment.name)),
        }
    }
    if stored.experiments.is_empty() {
        problems.push("the run has no experiment".to_owned());
    }
    if !problems.is_empty() {
        return Judged::Unfit(problems);
    }
    let mut report = report::run(
        stored.run.clone(),
        stored.seed,
        stored.cluster.clone(),
        stored.started_at.clone(),
        experiments,
    );
    report.not_run_here.clone_from(&stored.not_run_here);
    // A run that ended before its last experiment says so in its own verdict only.
    if stored.verdict > Verdict::worst(stored.experiments.iter().map(|one| one.verdict)) {
        report.verdict = report.verdict.max(stored.verdict);
    }
    let differences = match expect {
        Some(_) => Vec::new(),
        None => differences(stored, &report),
    };
    Judged::Again { report: Box::new(report), differences }
}

fn one(
    directory: &Path,
    stored: &ExperimentReport,
    expect: Option<&Expect>,
) -> Result<ExperimentReport, String> {
    let Some(files) = &stored.judged_by else {
        return Err("it was stored without what it was judged by".to_owned());
    };
    let inside = Path::new(&files.directory);
    if !matches!(inside.components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
        return Err(format!("its directory {:?} is not one of the run", files.directory));
    }
    let inside = directory.join(inside);
    let own = expect.filter(|expect| expect.name.as_ref().is_none_or(|name| *name == stored.name));
    let mut report = if is_of::<DrillRecord>(files) {
        drill(&inside, stored, files, own)?
    } else {
        experiment(&inside, stored, files, own)?
    };
    report.repeat = stored.repeat;
    report.judged_by = Some(files.clone());
    match &stored.control {
        None => Ok(report),
        Some(control) => {
            let control = one(directory, control, expect).map_err(|why| format!("its control: {why}"))?;
            let says = check::against_control(&control);
            Ok(report::with_control(report, control, says))
        }
    }
}

fn experiment(
    inside: &Path,
    stored: &ExperimentReport,
    files: &EvidenceFiles,
    expect: Option<&Expect>,
) -> Result<ExperimentReport, String> {
    let mut evidence: Evidence<ExperimentRecord> = evidence(inside, files)?;
    let record = &mut evidence.record;
    whose(&record.experiment.name, stored)?;
    if let Some(expect) = expect {
        record.experiment.expect.clone_from(&expect.checks);
    }
    Ok(judge_again(evidence))
}

fn drill(
    inside: &Path,
    stored: &ExperimentReport,
    files: &EvidenceFiles,
    expect: Option<&Expect>,
) -> Result<ExperimentReport, String> {
    if expect.is_some() {
        return Err("it is a drill, whose bounds are its own: --expect is for experiments".to_owned());
    }
    let evidence: Evidence<DrillRecord> = evidence(inside, files)?;
    whose(&evidence.record.drill.drill, stored)?;
    Ok(judge_drill_again(evidence))
}

fn evidence<R: Recorded>(inside: &Path, files: &EvidenceFiles) -> Result<Evidence<R>, String> {
    read_evidence(inside, files).map_err(|error| one_sentence(&anyhow::Error::new(error)))
}

fn whose(name: &str, stored: &ExperimentReport) -> Result<(), String> {
    if name == stored.name { Ok(()) } else { Err(format!("its files are those of {name}")) }
}

/// In what the stored report is not what the evidence gives, part by part.
fn differences(stored: &Report, again: &Report) -> Vec<String> {
    let mut all = Vec::new();
    // Through text, as the stored one went: a figure in a file is the same figure.
    let values = |report: &Report| -> Option<Value> {
        let text = report::to_text(report).ok()?;
        serde_json::from_str(&text).ok()
    };
    let (Some(old), Some(new)) = (values(stored), values(again)) else {
        return vec!["it cannot be compared".to_owned()];
    };
    for field in ["verdict", "outcome", "repeats"] {
        differ(&mut all, field, &old[field], &new[field]);
    }
    let experiments = |report: &Value| report["experiments"].as_array().cloned().unwrap_or_default();
    for (old, new) in experiments(&old).iter().zip(&experiments(&new)) {
        let name = old["name"].as_str().unwrap_or_default();
        let name = old["repeat"].as_u64().map_or(name.to_owned(), |repeat| format!("{name} #{repeat}"));
        by_part(&mut all, &name, old, new);
    }
    all
}

fn by_part(all: &mut Vec<String>, name: &str, old: &Value, new: &Value) {
    let keys =
        |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<BTreeSet<_>>());
    let fields =
        keys(old).unwrap_or_default().union(&keys(new).unwrap_or_default()).cloned().collect::<Vec<_>>();
    for field in fields {
        let (old, new) = (&old[&field], &new[&field]);
        match field.as_str() {
            "control" if !old.is_null() && !new.is_null() => {
                by_part(all, &format!("{name}: control"), old, new)
            }
            "findings" => by_finding(all, name, old, new),
            _ => differ(all, &format!("{name}: {field}"), old, new),
        }
    }
}

fn by_finding(all: &mut Vec<String>, name: &str, old: &Value, new: &Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (old, new) = (list(old), list(new));
    for index in 0..old.len().max(new.len()) {
        let (old, new) = (old.get(index).unwrap_or(&Value::Null), new.get(index).unwrap_or(&Value::Null));
        let check = old["check"].as_str().or(new["check"].as_str()).unwrap_or_default();
        differ(all, &format!("{name}: finding {check}"), old, new);
    }
}

fn differ(all: &mut Vec<String>, what: &str, old: &Value, new: &Value) {
    if old != new {
        all.push(format!("{what}: it says {}, the evidence {}", quoted(old), quoted(new)));
    }
}

fn quoted(value: &Value) -> String {
    // Of a finding what it says; of anything else all of it.
    let text = match (value["verdict"].as_str(), value["reason"].as_str()) {
        (Some(verdict), Some(reason)) => format!("{verdict} ({reason})"),
        _ if value.is_null() => "nothing".to_owned(),
        _ => value.to_string(),
    };
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
