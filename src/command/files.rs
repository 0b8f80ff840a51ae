//! Experiment and suite files, read before anything is touched.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::exit::Exit;
use crate::model::{CheckKind, Experiment, FileError, Scenario, Suite, read_text};

/// An experiment with its scenario.
pub struct Loaded {
    pub path: PathBuf,
    pub experiment: Experiment,
    pub scenario: Scenario,
}

const EXPERIMENTS_MAX: usize = 200;

/// Reads files in order; a suite stands for its experiments.
pub fn load(files: &[PathBuf]) -> Result<Vec<Loaded>, Failure> {
    let mut loaded = Vec::new();
    for file in files {
        for path in expand(file).map_err(|error| usage(error, NamedBy::Caller))? {
            let by = if path == *file { NamedBy::Caller } else { NamedBy::Suite };
            let experiment = Experiment::read(&path).map_err(|error| usage(error, by))?;
            let base = path.parent().unwrap_or(Path::new("."));
            let scenario = Scenario::read(&base.join(&experiment.scenario));
            let scenario = scenario.map_err(|error| usage(error, NamedBy::Experiment))?;
            if let Some(problem) = step_problem(&experiment, &scenario) {
                return Err(Failure::new(Exit::Usage, anyhow::anyhow!("{}: {problem}", path.display()))
                    .hint("docs/scenarios.md describes the fields of a step"));
            }
            loaded.push(Loaded { path, experiment, scenario });
        }
    }
    if loaded.len() > EXPERIMENTS_MAX {
        let error =
            anyhow::anyhow!("{} experiments are more than {EXPERIMENTS_MAX} in one run", loaded.len());
        return Err(Failure::new(Exit::Usage, error));
    }
    let mut names: Vec<&str> = loaded.iter().map(|one| one.experiment.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let error = anyhow::anyhow!("experiment {} is listed twice", twice[0]);
        return Err(
            Failure::new(Exit::Usage, error).hint("names must differ: reports and journals bear them")
        );
    }
    Ok(loaded)
}

/// A check on a step that nobody makes, or whose answers cannot say what is asked of them.
fn step_problem(experiment: &Experiment, scenario: &Scenario) -> Option<String> {
    experiment.expect.iter().enumerate().find_map(|(i, check)| {
        let step = check.step.as_deref()?;
        let name = &scenario.scenario;
        match scenario.marks_degraded(step) {
            None => Some(format!("expect[{i}].step: scenario {name} has no step {step}")),
            Some(false) if check.check == CheckKind::Degraded => {
                let what =
                    format!("step {step} of scenario {name} does not say what marks a degraded answer");
                Some(format!("expect[{i}].step: {what} (`degraded`)"))
            }
            Some(_) => None,
        }
    })
}

/// Who named a file decides what its name is relative to, and what should be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    Caller,
    Suite,
    /// Then it is a scenario.
    Experiment,
}

/// A file that is wrong, with what to do about it.
pub fn usage(error: FileError, by: NamedBy) -> Failure {
    let hint = match (&error, by) {
        (FileError::Read { .. }, NamedBy::Caller) => "`mettle list experiments` names those that are there",
        (FileError::Read { .. }, NamedBy::Suite) => "the paths in a suite are relative to its own file",
        (FileError::Read { .. }, NamedBy::Experiment) => {
            "the experiment's `scenario` is a path relative to its own file"
        }
        (_, NamedBy::Experiment) => "docs/scenarios.md describes the fields",
        _ => {
            "docs/experiments.md describes the fields; `mettle list faults` and `mettle list checks` the kinds"
        }
    };
    Failure::new(Exit::Usage, error).hint(hint)
}

/// A suite is told from an experiment by its first field.
fn expand(file: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !read_text(file)?.lines().any(|line| line.starts_with("suite:")) {
        return Ok(vec![file.to_owned()]);
    }
    let suite = Suite::read(file)?;
    let base = file.parent().unwrap_or(Path::new("."));
    Ok(suite.experiments.iter().map(|path| base.join(path)).collect())
}

pub use crate::provider::images::home;
