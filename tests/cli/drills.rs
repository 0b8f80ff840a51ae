//! Drills: nothing is touched without the flag that says so, and no file that could not mean anything is begun.

use super::{Case, shown, table};

const DRILL: &str = "\
drill: d
store: postgres
method: volumes
target: latest
scenario: scenarios/s.yaml
writeSeconds: 100
rpoMaxSeconds: 75
rtoMaxSeconds: 300
";

fn drill(from: &str, to: &str) -> String {
    assert!(DRILL.contains(from), "{from}");
    Case::new()
        .file("d.yaml", DRILL.replacen(from, to, 1))
        .run("drill d.yaml --destroy-data --cluster current")
}

#[test]
fn drills() {
    let whole = || Case::new().file("d.yaml", DRILL);
    let answer = whole().run("drill d.yaml --destroy-data --cluster current");
    assert!(answer.starts_with("exit 4\n") && answer.contains("kubeconfig"), "{answer}");
    shown(
        "drills",
        &table([
            ("without the flag", whole().run("drill d.yaml --cluster current")),
            ("no file", whole().run("drill --destroy-data")),
            ("a file that is not there", whole().run("drill nosuch.yaml --destroy-data")),
            ("the same twice", whole().run("drill d.yaml d.yaml --destroy-data")),
            ("an experiment", whole().run("drill x.yaml --destroy-data")),
            ("a scenario that is not there", drill("scenarios/s.yaml", "scenarios/gone.yaml")),
            ("an unknown field", drill("method: volumes", "method: volumes\ncount: 3")),
            ("an unknown method", drill("volumes", "meteor")),
            ("tables to the latest", drill("volumes", "tables")),
            (
                "redis to a moment",
                drill("postgres\nmethod: volumes\ntarget: latest", "redis\nmethod: volumes\ntarget: time"),
            ),
            ("a moment with a recovery point", drill("latest", "time")),
            ("a bound that nothing breaks", drill("writeSeconds: 100", "writeSeconds: 60")),
            ("no writes", drill("rtoMaxSeconds", "writesMin: 0\nrtoMaxSeconds")),
        ]),
    );
}
