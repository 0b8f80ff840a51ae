//! `report.html`: the report and each experiment's load as a picture, in one file that needs no other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::{ExperimentReport, LoadSecond, Report};

use super::svg::picture;
use super::usable::title;

/// The load of each experiment, by the directory of its evidence.
pub type Series = BTreeMap<String, Vec<LoadSecond>>;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1c1c1c}\
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left;vertical-align:top}\
.pass{color:#1a6b2d}.fail{color:#b3181d}.inconclusive{color:#8a5a00}li{margin:.2em 0}svg{width:100%;height:auto}\
small{color:#555}";

/// The report as one HTML page.
#[must_use]
pub fn to_html(report: &Report, series: &Series, exit_meaning: &str) -> String {
    let verdict = report.verdict.as_str();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>mettle: {verdict}</title>\
         <style>{STYLE}</style></head><body>\n<h1>mettle: <span class=\"{verdict}\">{verdict}</span></h1>\n"
    );
    // Writing into a string cannot fail.
    let _ = writeln!(
        page,
        "<p>Run {}, seed {}, cluster {}, {}. {}.</p>",
        escape(&report.run.0),
        report.seed,
        escape(&report.cluster),
        escape(&report.started_at),
        escape(exit_meaning)
    );
    for experiment in &report.experiments {
        section(&mut page, experiment, series, 2);
    }
    page.push_str("</body></html>\n");
    page
}

fn section(page: &mut String, experiment: &ExperimentReport, series: &Series, level: u8) {
    let (name, verdict) = (escape(&title(experiment)), experiment.verdict.as_str());
    let what = if level > 2 { "control of " } else { "" };
    let _ = writeln!(page, "<h{level}>{what}{name}: <span class=\"{verdict}\">{verdict}</span></h{level}>");
    let seconds = experiment.judged_by.as_ref().and_then(|files| series.get(&files.directory));
    if let Some(seconds) = seconds.filter(|seconds| !seconds.is_empty()) {
        page.push_str(&picture(experiment, seconds));
    }
    page.push_str("<ul>\n");
    for finding in &experiment.findings {
        let verdict = finding.verdict.as_str();
        let (check, reason) = (escape(&finding.check), escape(&finding.reason));
        let _ = write!(page, "<li><b class=\"{verdict}\">{verdict}</b> {check}: {reason}");
        for line in &finding.evidence {
            let _ = write!(page, "<br><small>{}</small>", escape(line));
        }
        page.push_str("</li>\n");
    }
    for line in &experiment.residue {
        let _ = writeln!(page, "<li><b class=\"fail\">left behind</b> {}</li>", escape(line));
    }
    page.push_str("</ul>\n");
    figures(page, experiment);
    if let Some(control) = &experiment.control {
        section(page, control, series, level + 1);
    }
}

fn figures(page: &mut String, experiment: &ExperimentReport) {
    let mut rows: Vec<(String, String)> = Vec::new();
    let phases = experiment.recovery_ms.named().into_iter().filter_map(|(name, ms)| Some((name, ms?)));
    rows.extend(phases.map(|(name, ms)| (format!("recovery: {name}"), format!("{ms} ms"))));
    rows.extend(experiment.resolution_ms.map(|ms| ("resolution".to_owned(), format!("{ms} ms"))));
    if let Some(impact) = &experiment.impact {
        rows.push(("user-minutes lost".to_owned(), impact.user_minutes_lost.to_string()));
        let dip = &impact.goodput;
        rows.push((
            "goodput lost".to_owned(),
            format!(
                "{:.2} %, {} answers of {} a second",
                dip.share * 100.0,
                dip.missing_answers,
                dip.baseline_per_second
            ),
        ));
    }
    for (store, totals) in &experiment.ledger {
        let said = format!("{} ok, {} lost, {} duplicated", totals.ok, totals.lost, totals.duplicated);
        rows.push((format!("writes to {}", store.as_str()), said));
    }
    for fault in &experiment.faults {
        let bit =
            fault.effective_ms.map_or("nothing shows that it bit".to_owned(), |ms| format!("bit at {ms} ms"));
        let said =
            format!("{}, injected at {} ms, {bit}; {}", fault.target, fault.injected_ms, fault.because);
        rows.push((format!("fault {}", fault.kind), said));
    }
    page.push_str("<table>\n");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(&name), escape(&value));
    }
    page.push_str("</table>\n");
}

/// Text that stays text in an element and in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample::{failing_report, report};
    use super::{Series, to_html};
    use crate::model::{EvidenceFiles, LoadSecond};

    fn series() -> Series {
        let second = |at: u64| LoadSecond {
            at_ms: at * 1000,
            ok: if (10..12).contains(&at) { 2 } else { 10 },
            failed: if (10..12).contains(&at) { 8 } else { 0 },
            generator_limited: at == 25,
            ..LoadSecond::default()
        };
        [("x".to_owned(), (0..30).map(second).collect())].into()
    }

    #[test]
    fn a_page_of_its_own_with_a_picture_of_the_load() {
        let mut report = report();
        report.experiments[0].judged_by =
            Some(EvidenceFiles { directory: "x".into(), ..EvidenceFiles::default() });
        let mut control = report.experiments[0].clone();
        control.faults.clear();
        report.experiments[0].control = Some(Box::new(control));
        let page = to_html(&report, &series(), "exit 0: the stack held");
        insta::assert_snapshot!("html", page);
        for outside in ["http", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        // Without the load there is no picture, and still a page.
        assert!(!to_html(&failing_report(), &Series::new(), "").contains("<svg"));
    }

    #[test]
    fn no_name_becomes_markup() {
        let mut report = report();
        report.experiments[0].findings[0].reason = "<script>alert(1)</script>".into();
        report.cluster = "\"><img>".into();
        let page = to_html(&report, &series(), "");
        assert!(!page.contains("<script>") && !page.contains("<img>"), "{page}");
    }
}
