//! Faults with exactly the rights that `mettle rbac` prints, and without one of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::faults::{PART, living_agents};
use crate::harness::{Cluster, text};

/// What only a provider can do: a kubeconfig gives no power over machines.
const BY_PROVIDER: [&str; 4] = ["scheduler-pause", "api-server-pause", "node-freeze", "node-isolate"];

pub fn the_printed_rights_are_enough(cluster: &Cluster) {
    let directory = tempfile::tempdir().expect("a directory");
    let account = Account { cluster, home: directory.path() };
    account.grant(PART);
    let kinds = kinds(&std::fs::read_to_string(PART).expect("the rehearsal"));
    let kinds: Vec<&str> =
        kinds.iter().map(String::as_str).filter(|kind| !BY_PROVIDER.contains(kind)).collect();
    assert!(kinds.len() > 18, "{kinds:?}");

    let output = account.mettle(&["rehearse", PART, "--only", &kinds.join(","), "--seed", "7", "--json"]);
    eprint!("{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("rows");
    let bad: Vec<&Value> = rows.iter().filter(|row| row["verdict"] != "pass").collect();
    assert!(bad.is_empty() && rows.len() == kinds.len(), "{bad:#?}");
    assert_eq!(output.status.code(), Some(0));

    one_right_less_is_refused(&account);
    account.nothing_is_left();
    account.remove();
}

/// The rights of a killed pod do not let a pod be evicted: that is said before anything is done.
fn one_right_less_is_refused(account: &Account) {
    let less = account.home.join("less.yaml");
    let text_of = "rehearsal: less\nfaults: [{ kind: pod-kill, target: { component: backend } }]\n";
    std::fs::write(&less, text_of).expect("a rehearsal");
    account.grant(&less.display().to_string());
    let output = account.mettle(&["rehearse", PART, "--only", "pod-evict", "--seed", "7"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("may not: create pods/eviction in ai-platform\n"), "{said}");
    assert!(said.contains("hint: `mettle rbac FILE`"), "{said}");
    let output = account.mettle(&["rehearse", &less.display().to_string(), "--seed", "7"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn kinds(rehearsal: &str) -> Vec<String> {
    let lines = rehearsal.lines().filter_map(|line| line.trim().strip_prefix("- { kind: "));
    lines.filter_map(|rest| rest.split([',', ' ']).next()).map(str::to_owned).collect()
}

/// A service account, the kubeconfig with its token, and a state directory of its own.
struct Account<'a> {
    cluster: &'a Cluster,
    home: &'a Path,
}

impl Account<'_> {
    fn manifest(&self) -> PathBuf {
        self.home.join("rights.json")
    }

    /// Exactly the rights of that file; those of another, from before, are taken away.
    fn grant(&self, file: &str) {
        std::fs::write(self.manifest(), self.cluster.mettle(&["rbac", file])).expect("a manifest");
        let manifest = self.manifest().display().to_string();
        self.cluster.kubectl(&["apply", "-f", &manifest]);
        let shown = self.cluster.kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&shown).expect("a kubeconfig");
        let token = ["-n", "ai-platform", "create", "token", "mettle", "--duration=2h"];
        let token = self.cluster.kubectl(&token).trim().to_owned();
        let cluster = config["clusters"][0]["name"].clone();
        config["users"] = json!([{ "name": "mettle", "user": { "token": token } }]);
        config["contexts"] =
            json!([{ "name": "mettle", "context": { "cluster": cluster, "user": "mettle" } }]);
        config["current-context"] = json!("mettle");
        std::fs::write(self.home.join("kubeconfig"), config.to_string()).expect("a kubeconfig");
    }

    fn mettle(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
        command.args(args).args(["--cluster", "current"]);
        command.env("KUBECONFIG", self.home.join("kubeconfig")).env("XDG_STATE_HOME", self.home);
        command.output().expect("mettle")
    }

    fn nothing_is_left(&self) {
        let reverted = self.mettle(&["revert"]);
        let said = text(&reverted.stdout) + &text(&reverted.stderr);
        assert!(reverted.status.success() && said.contains("nothing to revert"), "{said}");
        let reverted = self.cluster.mettle(&["revert"]);
        assert!(reverted.contains("nothing to revert"), "{reverted}");
        assert_eq!(living_agents(), [] as [&str; 0], "an agent lives");
    }

    fn remove(&self) {
        self.cluster.kubectl(&["delete", "-f", &self.manifest().display().to_string()]);
    }
}
