//! `--help` of every command, and the lists, as they are published.

use super::{Case, shown};

#[test]
fn help() {
    let commands = [
        "",
        "up",
        "down",
        "status",
        "node",
        "node kill",
        "node start",
        "node list",
        "plan",
        "run",
        "rehearse",
        "translate",
        "rbac",
        "revert",
        "verify",
        "report",
        "list",
        "doctor",
    ];
    let case = Case::new();
    let text = commands.map(|command| {
        let answer = case.run(&format!("{command} --help"));
        format!("## mettle {command} --help\n{answer}\n")
    });
    shown("help", &text.join("\n"));
}

#[test]
fn lists() {
    let case = Case::new();
    let mut text = String::new();
    for what in ["faults", "checks", "experiments", "suites", "scenarios"] {
        for json in ["", " --json"] {
            let answer = case.run(&format!("list {what}{json}"));
            text.push_str(&format!("## mettle list {what}{json}\n{answer}\n\n"));
        }
    }
    shown("lists", &without_widths(&text));
}

/// A table is as wide as the path of the checkout makes it: runs of blanks and of rules become one.
fn without_widths(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let repeats = matches!(character, ' ' | '─') && out.ends_with(character);
        if !repeats {
            out.push(character);
        }
    }
    out
}

/// What is shipped can be listed, and what is listed can be planned as far as the cluster.
#[test]
fn every_experiment_and_suite_that_is_shipped_is_right() {
    let case = Case::new();
    for directory in ["experiments", "experiments/suites"] {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        for entry in std::fs::read_dir(directory).expect("it is read") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let answer = case.run(&format!("plan {} --cluster current", path.display()));
                assert!(answer.starts_with("exit 4\n"), "{}: {answer}", path.display());
            }
        }
    }
}
