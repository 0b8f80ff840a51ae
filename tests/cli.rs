//! The command line as a person meets it: what is wrong is said in one sentence, with the file, the line and the
//! field, a hint, and the right exit code; nothing is left behind. Every case runs the real program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt;

#[path = "cli/again.rs"]
mod again;
#[path = "cli/catalogue.rs"]
mod catalogue;
#[path = "cli/drills.rs"]
mod drills;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/foreign.rs"]
mod foreign;
#[path = "cli/machine.rs"]
mod machine;
#[path = "cli/script.rs"]
mod script;

/// A directory of its own, outside of which nothing is written, and a program that knows of nothing else.
struct Case {
    directory: tempfile::TempDir,
    kubeconfig: PathBuf,
}

const EXPERIMENT: &str = "\
name: x
scenario: scenarios/s.yaml
faults:
  - kind: pod-kill
    target: { component: backend }
expect:
  - { check: recovery-time, maxSeconds: 15 }
";

const SCENARIO: &str = "\
scenario: s
service: shop/api:80
think: { meanMs: 1000 }
journeys:
  - journey: j
    weight: 1
    steps:
      - step: get
        method: GET
        path: /items
";

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let case = Self { kubeconfig: directory.path().join("no-kubeconfig"), directory };
        case.file("x.yaml", EXPERIMENT).file("scenarios/s.yaml", SCENARIO)
    }

    /// The experiment with one part replaced: what is wrong is the only difference to one that is right.
    fn experiment(from: &str, to: &str) -> Self {
        assert!(EXPERIMENT.contains(from), "{from}");
        Self::new().file("x.yaml", EXPERIMENT.replacen(from, to, 1))
    }

    fn scenario(from: &str, to: &str) -> Self {
        assert!(SCENARIO.contains(from), "{from}");
        Self::new().file("scenarios/s.yaml", SCENARIO.replacen(from, to, 1))
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("it is made");
        fs::write(path, content).expect("it is written");
        self
    }

    fn kubeconfig(mut self, content: &str) -> Self {
        self.kubeconfig = self.path("kubeconfig");
        self.file("kubeconfig", content)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::cargo_bin("mettle").expect("it is built");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(self.directory.path());
        command.env("HOME", self.directory.path()).env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// What a person sees, with everything of this machine taken out.
    fn run(&self, line: &str) -> String {
        let mut command = self.command();
        command.args(line.split_whitespace());
        self.answer(command)
    }

    fn answer(&self, mut command: Command) -> String {
        let before = tree(self.directory.path());
        let output = command.output().expect("it runs");
        assert_eq!(tree(self.directory.path()), before, "nothing is left behind");
        let code = output.status.code().map_or("by a signal".to_owned(), |code| code.to_string());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        self.redact(&format!("exit {code}\n{out}{err}"))
    }

    fn redact(&self, text: &str) -> String {
        let directory = self.directory.path().display().to_string();
        text.replace(&directory, "[dir]").replace(env!("CARGO_MANIFEST_DIR"), "[home]").trim_end().to_owned()
    }
}

fn tree(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("it is read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}

/// All cases of a table in one snapshot, each under its name.
fn table<const N: usize>(cases: [(&str, String); N]) -> String {
    cases.map(|(name, answer)| format!("## {name}\n{answer}\n")).join("\n")
}

/// Compares with the snapshot of that name.
fn shown(name: &str, text: &str) {
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, text) });
}
