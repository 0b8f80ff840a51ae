//! `mettle report`, and what a report means to the shell.

use crate::cli::{Global, ReportArgs};
use crate::command::{CommandResult, Failure};
use crate::exit::Exit;
use crate::model::{ExperimentReport, Report, RunOutcome, Verdict};
use crate::report::{self, ReportError};

/// Prints the report of an earlier run, or the schema of reports. Leaves with 0 when it could be printed,
/// whatever the run's verdict: the run itself has already left with that.
pub async fn execute(global: &Global, args: &ReportArgs) -> CommandResult {
    if args.schema {
        print!("{}", report::schema());
        return Ok(Exit::Pass);
    }
    let found = report::read(&args.path).map_err(failure)?;
    if global.json {
        print!("{}", report::to_text(&found).map_err(|error| Failure::new(Exit::Internal, error))?);
    } else {
        print!("{}", text(&found));
    }
    Ok(Exit::Pass)
}

/// The table of a run with what its exit code means.
#[must_use]
pub fn text(report: &Report) -> String {
    report::render(report, &exit_meaning(report))
}

/// `exit 0: the stack held`.
#[must_use]
pub fn exit_meaning(report: &Report) -> String {
    let exit = exit_of(report);
    format!("exit {}: {}", exit as u8, meaning(exit))
}

/// The exit code of a run. The first that holds: something was left behind → 5; interrupted by a signal →
/// 130; broken → 4; else by the worst verdict of the run and of its experiments. A run that did not complete,
/// or has no experiment, never leaves with 0.
#[must_use]
pub fn exit_of(report: &Report) -> Exit {
    let experiments = &report.experiments;
    let controls = || experiments.iter().filter_map(|experiment| experiment.control.as_deref());
    if experiments.iter().chain(controls()).any(|experiment| !experiment.residue.is_empty()) {
        return Exit::RevertIncomplete;
    }
    let outcomes = || experiments.iter().chain(controls()).map(|one| &one.outcome).chain([&report.outcome]);
    if outcomes().any(RunOutcome::is_interrupted) {
        return Exit::Interrupted;
    }
    let by_outcome = outcomes().map(|outcome| match outcome {
        RunOutcome::Completed => Exit::Pass,
        RunOutcome::Stopped(_) => Exit::Inconclusive,
        RunOutcome::Broken(_) => Exit::SetUp,
    });
    let by_outcome: Vec<Exit> = by_outcome.collect();
    if by_outcome.contains(&Exit::SetUp) {
        return Exit::SetUp;
    }
    let judged = Verdict::worst(experiments.iter().map(verdict_of)).max(report.verdict);
    match judged {
        Verdict::Fail => Exit::Fail,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::Pass if by_outcome.contains(&Exit::Inconclusive) => Exit::Inconclusive,
        Verdict::Pass => Exit::Pass,
    }
}

/// What an experiment says of itself, but never better than its findings.
fn verdict_of(experiment: &ExperimentReport) -> Verdict {
    Verdict::worst(experiment.findings.iter().map(|finding| finding.verdict)).max(experiment.verdict)
}

fn meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::Pass => "the stack held",
        Exit::Fail => "the stack did not hold",
        Exit::Usage => "the command line or a file is wrong",
        Exit::Inconclusive => "the evidence does not carry a judgement",
        Exit::SetUp => "the run could not go on",
        Exit::RevertIncomplete => "something could not be reverted; see what was left behind",
        Exit::Internal => "a bug in mettle",
        Exit::Interrupted => "interrupted; everything was reverted",
    }
}

pub(super) fn failure(error: ReportError) -> Failure {
    let hint = match &error {
        ReportError::Missing(_) => {
            Some("give the directory that `mettle run --out` wrote to, or its report.json")
        }
        ReportError::Parse { .. } => Some("`mettle report --schema` prints what a report looks like"),
        ReportError::Read { .. } | ReportError::Write { .. } => None,
    };
    let failure = Failure::new(Exit::Usage, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::{exit_of, text};
    use crate::exit::Exit;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};
    use crate::model::{ExperimentReport, Finding, Report, RunId, RunOutcome, Seed, Verdict};

    fn one(verdict: Verdict, outcome: RunOutcome, residue: &[&str]) -> ExperimentReport {
        ExperimentReport {
            findings: vec![Finding::new("check", verdict, "because")],
            residue: residue.iter().map(|line| (*line).to_owned()).collect(),
            ..ExperimentReport::new("x", verdict, outcome, Seed(1))
        }
    }

    fn run(experiments: Vec<ExperimentReport>) -> Report {
        let (run, cluster) = (RunId("r".into()), "local/mettle".to_owned());
        crate::report::run(run, Seed(1), cluster, String::new(), experiments)
    }

    #[test]
    fn every_ending_has_its_code_and_the_worst_wins() {
        let done = || RunOutcome::Completed;
        let stopped = || RunOutcome::Stopped("the deadline passed".into());
        let interrupted = || RunOutcome::interrupted("SIGINT");
        let broken = || RunOutcome::Broken("the load died".into());
        for (name, experiments, exit) in [
            ("held", vec![one(Pass, done(), &[])], Exit::Pass),
            ("did not hold", vec![one(Fail, done(), &[])], Exit::Fail),
            ("unclear", vec![one(Inconclusive, done(), &[])], Exit::Inconclusive),
            ("nothing was run", vec![], Exit::Inconclusive),
            ("one of two", vec![one(Pass, done(), &[]), one(Fail, done(), &[])], Exit::Fail),
            ("fail over unclear", vec![one(Inconclusive, done(), &[]), one(Fail, done(), &[])], Exit::Fail),
            ("stopped is no pass", vec![one(Pass, stopped(), &[])], Exit::Inconclusive),
            ("stopped, but already failed", vec![one(Fail, stopped(), &[])], Exit::Fail),
            ("interrupted", vec![one(Pass, interrupted(), &[])], Exit::Interrupted),
            (
                "interrupted after a fail",
                vec![one(Fail, done(), &[]), one(Pass, interrupted(), &[])],
                Exit::Interrupted,
            ),
            ("broken", vec![one(Inconclusive, broken(), &[])], Exit::SetUp),
            ("left behind wins", vec![one(Pass, interrupted(), &["node-1"])], Exit::RevertIncomplete),
            ("left behind after a fail", vec![one(Fail, broken(), &["node-1"])], Exit::RevertIncomplete),
            (
                "left behind though it held",
                vec![one(Pass, done(), &["node-1"]), one(Pass, done(), &[])],
                Exit::RevertIncomplete,
            ),
        ] {
            let report = run(experiments);
            assert_eq!(exit_of(&report), exit, "{name}");
            assert!(text(&report).contains(&format!("exit {}: ", exit as u8)), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_no_report_is_a_mistake_of_the_caller_with_a_hint() {
        use clap::Parser;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("text");
        let answer = async || {
            let cli = crate::cli::Cli::parse_from(["mettle", "report", path]);
            let crate::cli::Command::Report(args) = &cli.command else { panic!("another command") };
            super::execute(&cli.global, args).await
        };
        let missing = answer().await.expect_err("there is none");
        assert_eq!(missing.exit, Exit::Usage);
        assert!(missing.hint.is_some_and(|hint| hint.contains("--out")));
        std::fs::write(directory.path().join("report.json"), "{}").expect("it is written");
        let other = answer().await.expect_err("it is another file");
        assert!(other.exit == Exit::Usage && other.hint.is_some(), "{other:?}");
        let report = run(vec![one(Fail, RunOutcome::Completed, &[])]);
        crate::report::write(directory.path(), &report).expect("it is written");
        assert_eq!(answer().await.expect("it is shown"), Exit::Pass);
    }

    #[test]
    fn a_report_that_contradicts_itself_is_never_a_pass() {
        let mut unjudged = one(Pass, RunOutcome::Completed, &[]);
        unjudged.findings.clear();
        assert_eq!(exit_of(&run(vec![unjudged])), Exit::Inconclusive);
        let mut hidden = one(Fail, RunOutcome::Completed, &[]);
        hidden.verdict = Pass;
        assert_eq!(exit_of(&run(vec![hidden])), Exit::Fail);
        let mut whole = run(vec![one(Pass, RunOutcome::Completed, &[])]);
        whole.verdict = Fail;
        assert_eq!(exit_of(&whole), Exit::Fail);
    }
}
