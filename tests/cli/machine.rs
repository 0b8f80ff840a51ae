//! Flags, rights, clusters that are not there, reports and journals that are not.

use std::process::Command;

use super::{Case, shown, table};

fn run(line: &str) -> String {
    Case::new().run(line)
}

const UNREACHABLE: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
users: [{name: u, user: {}}]
"#;

#[test]
fn flags() {
    shown(
        "flags",
        &table([
            ("unknown flag", run("plan x.yaml --dry")),
            ("unknown command", run("brake")),
            ("unknown cluster kind", run("plan x.yaml --cluster minikube")),
            ("a seed that is no number", run("plan x.yaml --seed abc")),
            ("a seed too large", run("plan x.yaml --seed 18446744073709551616")),
            ("no file", run("run")),
            ("an unknown list", run("list nemeses")),
            ("a name that is none", run("verify --name NO_SUCH")),
            ("a registry and none", run("up --cluster current --registry r.example --preloaded")),
            ("a revert that wins and gives up", run("revert --force --abandon")),
            ("node without an action", run("node --name nosuch kill")),
        ]),
    );
}

#[test]
fn clusters_that_are_not_there() {
    let current = |kubeconfig: &str, line: &str| {
        Case::new().kubeconfig(kubeconfig).run(&format!("{line} --cluster current"))
    };
    let no_context = UNREACHABLE.replace("current-context: c\n", "");
    let gone = UNREACHABLE.replace("current-context: c", "current-context: gone");
    shown(
        "clusters",
        &table([
            ("no kubeconfig", run("verify --cluster current")),
            ("malformed kubeconfig", current("clusters: [\n", "verify")),
            ("empty kubeconfig", current("", "verify")),
            ("kubeconfig without a current context", current(&no_context, "verify")),
            ("kubeconfig with a context that is not there", current(&gone, "verify")),
            ("connection refused", current(UNREACHABLE, "verify")),
            ("connection refused to a plan", current(UNREACHABLE, "plan x.yaml")),
            ("connection refused to a run", current(UNREACHABLE, "run x.yaml")),
            ("connection refused to a revert", current(UNREACHABLE, "revert")),
            ("a current cluster and only a cluster wanted", current(UNREACHABLE, "up --only cluster")),
            ("no way for the images", current(UNREACHABLE, "up")),
            ("its status", current(UNREACHABLE, "status")),
            ("a kind cluster that does not stand", run("verify --cluster kind --name nosuch")),
            ("its status", run("status --cluster k3d --name nosuch")),
            ("killing a node of it", run("node kill n1 --cluster k3d --name nosuch")),
            ("a local cluster that does not stand", run("verify --name nosuch")),
            ("a run on it", run("run x.yaml --name nosuch")),
            ("a revert on it", run("revert --name nosuch")),
            ("killing a node of it", run("node kill n1 --name nosuch")),
            ("killing a node of a cluster that is not ours", current(UNREACHABLE, "node kill n1")),
        ]),
    );
}

#[test]
fn reports_journals_and_places_to_write() {
    let report = |text: &str| Case::new().file("out/report.json", text).run("report out");
    let out = |out: &str| run(&format!("run x.yaml --cluster current --out {out}"));
    shown(
        "places",
        &table([
            ("no report", run("report nosuch")),
            ("a directory without a report", run("report scenarios")),
            ("a report cut short", report("{\n")),
            ("a report of something else", report("{}")),
            ("a report with another verdict", report(r#"{"run":"r","verdict":"maybe"}"#)),
            ("a journal that is not there", run("revert --journal gone.jsonl --cluster current")),
            ("a journal that is a directory", run("revert --journal scenarios --cluster current")),
            ("a file where the report should go", out("x.yaml")),
            ("a file on the way there", out("x.yaml/deeper")),
            ("a device on the way there", out("/dev/full/out")),
        ]),
    );
}

/// Somebody who may nothing. `setpriv` is part of util-linux, so of every Debian; without it this fails.
fn nobody(case: &Case, line: &str) -> String {
    let program = case.command();
    // The program may lie where only we can read.
    let readable = std::env::temp_dir().join(format!("mettle-of-nobody-{}", std::process::id()));
    std::fs::copy(program.get_program(), &readable).expect("it is copied");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&readable);
    command.args(line.split_whitespace()).current_dir("/").env_clear();
    command.env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    let answer = case.answer(command);
    std::fs::remove_file(&readable).expect("it is removed");
    answer
}

#[test]
fn without_root() {
    assert!(nix::unistd::geteuid().is_root(), "only root can become nobody: run this test as root");
    let case = Case::new();
    shown(
        "without_root",
        &table([
            ("up", nobody(&case, "up --name nosuch")),
            ("up of the cluster only", nobody(&case, "up --only cluster --name nosuch")),
            ("down", nobody(&case, "down --name nosuch")),
            ("killing a node", nobody(&case, "node kill n1 --name nosuch")),
        ]),
    );
}
