//! `mettle judge` and `mettle compare`: only files are looked at, and the exit code is the answer.

use mettle::model::{
    ExperimentReport, FaultReport, Finding, Report, RunId, RunOutcome, Seed, Verdict, WindowReport,
};

use super::{Case, shown, table};

/// A report of so many runs, each with its clients' recovery.
fn report(run: &str, client_ms: &[u64]) -> String {
    let fault = FaultReport {
        kind: "pod-kill".into(),
        target: "pod/shop/api-0".into(),
        role: None,
        because: "named".into(),
        injected_ms: 1,
        effective_ms: Some(2),
        reverted_ms: Some(3),
        evidence: vec!["gone".into()],
    };
    let one = |(repeat, client_ms): (u32, &u64)| {
        let mut one = ExperimentReport::new("x", Verdict::Pass, RunOutcome::Completed, Seed(1));
        one.findings = vec![Finding::new("recovery-time", Verdict::Pass, "held")];
        one.faults = vec![fault.clone()];
        one.recovery_ms.client = Some(*client_ms);
        one.repeat = Some(repeat);
        let window = WindowReport { requests: 100, p99_ms: Some(10.0), ..WindowReport::default() };
        one.windows.baseline = window.clone();
        one.windows.fault = window.clone();
        one.windows.recovery = window;
        one
    };
    let experiments = (1..).zip(client_ms).map(one).collect();
    let mut report: Report =
        mettle::report::run(RunId(run.into()), Seed(1), "local/x".into(), String::new(), experiments);
    report.mettle_version = "0.0.0".into();
    mettle::report::to_text(&report).expect("JSON")
}

fn case() -> Case {
    Case::new()
        .file("a/report.json", report("a", &[5000, 5100, 4900, 5050, 4950, 5000]))
        .file("slow/report.json", report("slow", &[7500, 7600, 7400, 7550, 7450, 7500]))
        .file("one/report.json", report("one", &[5000]))
        .file("none/report.json", report("none", &[]))
        .file("bad/report.json", "{}")
}

#[test]
fn compare_answers_with_its_exit_code() {
    let answer = |line: &str| case().run(line);
    shown(
        "compare",
        &table([
            ("itself", answer("compare a a")),
            ("slower", answer("compare a slow/report.json")),
            ("faster", answer("compare slow a")),
            ("slower, and allowed to be", answer("compare a slow --margin 60%")),
            ("slower, and under the floor", answer("compare a slow --floor-seconds 5")),
            ("too few", answer("compare a one")),
            ("nothing in common", answer("compare a none")),
            ("no report", answer("compare a nosuch")),
            ("no report either", answer("compare bad a")),
            ("no margin", answer("compare a slow --margin lots")),
            ("less than no margin", answer("compare a slow --margin=-5%")),
        ]),
    );
    let json = answer("compare a slow --json");
    let (code, text) = json.split_once('\n').expect("lines");
    let found: mettle::model::Comparison = serde_json::from_str(text).expect("it is a comparison");
    assert_eq!((code, found.verdict), ("exit 1", Verdict::Fail));
}

#[test]
fn judge_says_why_it_judges_nothing() {
    let other = "name: other\nscenario: x.yaml\nfaults: [{kind: pod-kill, target: {component: backend}}]\n\
                 expect: [{check: recovery-time, maxSeconds: 1}]\n";
    let answer = |line: &str| case().file("other.yaml", other).run(line);
    shown(
        "judge",
        &table([
            ("no run", answer("judge nosuch")),
            ("no report", answer("judge bad")),
            ("nothing was run", answer("judge none")),
            ("without evidence", answer("judge one")),
            ("no such bounds", answer("judge one --expect nosuch.yaml")),
            ("whose bounds", answer("judge none --expect other.yaml")),
        ]),
    );
}
