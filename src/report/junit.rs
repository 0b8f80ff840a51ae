//! `junit.xml`: a suite an experiment, a case a finding and a case a fault. A fail is a failure,
//! inconclusive is an error: neither is green anywhere.

use std::path::{Path, PathBuf};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::model::{ExperimentReport, FaultReport, Finding, Report, Verdict};

use super::json::{ReportError, write_whole};
use super::usable::title;

pub const FILE_NAME: &str = "junit.xml";

/// The report as JUnit XML.
///
/// # Errors
/// When the XML cannot be built; characters that XML cannot hold are left out before.
pub fn to_xml(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut junit = quick_junit::Report::new("mettle");
    junit.add_test_suites(report.experiments.iter().map(|experiment| suite(report, experiment)));
    if report.experiments.is_empty() {
        let mut suite = TestSuite::new("mettle");
        suite.add_test_case(case("run", NonSuccessKind::Error, "inconclusive", "no experiment was run", &[]));
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

/// Writes `junit.xml` into a directory that exists, and answers with its path.
///
/// # Errors
/// When the file cannot be written; an earlier one is then still whole.
pub fn write(directory: &Path, report: &Report) -> Result<PathBuf, ReportError> {
    let path = directory.join(FILE_NAME);
    let xml = to_xml(report)
        .map_err(|error| ReportError::Write { path: path.clone(), source: std::io::Error::other(error) })?;
    write_whole(&path, xml.as_bytes())?;
    Ok(path)
}

fn suite(report: &Report, experiment: &ExperimentReport) -> TestSuite {
    let mut suite = TestSuite::new(title(experiment));
    suite.add_property(("seed", experiment.seed.to_string().as_str()));
    suite.add_property(("cluster", report.cluster.as_str()));
    suite.add_property(("run", report.run.0.as_str()));
    suite.add_property(("proves", experiment.proves.join(" ").as_str()));
    suite.add_test_cases(experiment.faults.iter().map(fault_case));
    suite.add_test_cases(experiment.findings.iter().map(finding_case));
    if experiment.findings.is_empty() {
        suite.add_test_case(case(
            "findings",
            NonSuccessKind::Error,
            "inconclusive",
            "nothing was judged",
            &[],
        ));
    }
    if !experiment.residue.is_empty() {
        let message = "not everything was reverted";
        suite.add_test_case(case("residue", NonSuccessKind::Error, "residue", message, &experiment.residue));
    }
    suite
}

fn finding_case(finding: &Finding) -> TestCase {
    let name = &finding.check;
    match finding.verdict {
        Verdict::Pass => {
            let mut case = TestCase::new(name, TestCaseStatus::success());
            case.set_system_out(lines(&finding.reason, &finding.evidence));
            case
        }
        Verdict::Inconclusive => {
            case(name, NonSuccessKind::Error, "inconclusive", &finding.reason, &finding.evidence)
        }
        Verdict::Fail => case(name, NonSuccessKind::Failure, "fail", &finding.reason, &finding.evidence),
    }
}

/// A fault is a case that it bit and was reverted; what the stack made of it is in the findings.
fn fault_case(fault: &FaultReport) -> TestCase {
    let role = fault.role.as_deref().map(|role| format!(" ({role})")).unwrap_or_default();
    let name = format!("fault {} on {}{role}", fault.kind, fault.target);
    let error = |message| case(&name, NonSuccessKind::Error, "inconclusive", message, &fault.evidence);
    match (fault.effective_ms, fault.reverted_ms) {
        (None, _) => error("nothing shows that the fault bit"),
        (Some(_), None) => error("the fault was not reverted"),
        (Some(effective_ms), Some(_)) => {
            let mut case = TestCase::new(&name, TestCaseStatus::success());
            let after_ms = effective_ms.saturating_sub(fault.injected_ms);
            let first = format!("bit {after_ms} ms after injection; {}", fault.because);
            case.set_system_out(lines(&first, &fault.evidence));
            case
        }
    }
}

fn case(name: &str, kind: NonSuccessKind, ty: &str, message: &str, evidence: &[String]) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty).set_message(message).set_description(lines(message, evidence));
    TestCase::new(name, status)
}

fn lines(first: &str, rest: &[String]) -> String {
    std::iter::once(first).chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::sample::{failing_report, report};
    use super::to_xml;
    use crate::model::Report;

    #[test]
    fn one_suite_an_experiment_one_case_a_finding_and_a_fault() {
        insta::assert_snapshot!("junit", to_xml(&failing_report()).expect("it is XML"));
    }

    #[test]
    fn nothing_is_never_green() {
        let nothing = Report { experiments: Vec::new(), ..report() };
        assert!(to_xml(&nothing).expect("it is XML").contains("errors=\"1\""));
        let mut unjudged = report();
        unjudged.experiments.iter_mut().for_each(|experiment| experiment.findings.clear());
        assert!(to_xml(&unjudged).expect("it is XML").contains("nothing was judged"));
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_left_out() {
        let mut odd = report();
        odd.cluster = "a\u{0}\u{1b}[31m<&>".to_owned();
        let xml = to_xml(&odd).expect("it is XML");
        assert!(!xml.contains('\u{0}') && !xml.contains('\u{1b}') && xml.contains("&lt;&amp;&gt;"));
    }
}
