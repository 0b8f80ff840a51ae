//! Files of other tools: what is told of them, where, and with which exit code.

use super::{Case, shown, table};

const KILL: &str = "\
apiVersion: chaos-mesh.org/v1alpha1
kind: PodChaos
metadata: { name: one, namespace: ai-platform }
spec:
  action: pod-kill
  mode: one
  selector:
    labelSelectors:
      app.kubernetes.io/name: redis
";

const EXPERIMENT: &str = r#"{
  "title": "t",
  "configuration": { "node": { "type": "env", "key": "METTLE_TEST_NODE" } },
  "method": [
    {
      "type": "action",
      "name": "drain",
      "provider": {
        "type": "python",
        "module": "chaosk8s.node.actions",
        "func": "drain_nodes",
        "arguments": { "name": "${node}" }
      }
    }
  ]
}
"#;

fn kill(from: &str, to: &str) -> Case {
    assert!(KILL.contains(from), "{from}");
    Case::new().file("theirs.yaml", KILL.replacen(from, to, 1)).file("also.yaml", KILL)
}

#[test]
fn translated() {
    let with_node = |line: &str| {
        let case = Case::new().file("theirs.json", EXPERIMENT);
        let mut command = case.command();
        command.args(line.split_whitespace()).env("METTLE_TEST_NODE", "worker-1");
        case.answer(command)
    };
    shown(
        "translate",
        &table([
            ("whole", kill("one", "one").run("translate theirs.yaml")),
            ("as JSON", kill("one", "one").run("translate theirs.yaml --json")),
            ("two files", kill("one", "one").run("translate theirs.yaml also.yaml")),
            ("refused", kill("mode: one", "mode: all").run("translate theirs.yaml")),
            ("partly refused", kill("mode: one", "mode: all").run("translate theirs.yaml also.yaml")),
            (
                "an unknown key",
                kill("    labelSelectors", "    zz: 1\n    labelSelectors").run("translate theirs.yaml"),
            ),
            (
                "a key with an escape",
                kill("mode: one", "mode: one\n  \"a\\e[2J\": 1").run("translate theirs.yaml"),
            ),
            ("from the environment", with_node("translate theirs.json")),
            (
                "not in the environment",
                Case::new().file("theirs.json", EXPERIMENT).run("translate theirs.json"),
            ),
            ("ours", Case::new().run("translate x.yaml")),
            ("no YAML", kill("kind: PodChaos", "kind: [").run("translate theirs.yaml")),
            (
                "twice the same key",
                kill("  mode: one", "  mode: one\n  mode: one").run("translate theirs.yaml"),
            ),
            ("missing", Case::new().run("translate nosuch.yaml")),
            (
                "rehearse what is refused",
                kill("mode: one", "mode: all").run("rehearse theirs.yaml --cluster current"),
            ),
        ]),
    );
}

/// One that is translated as a whole gets as far as the cluster.
#[test]
fn a_file_of_theirs_is_rehearsed() {
    let answer = kill("one", "one").run("rehearse theirs.yaml --cluster current");
    assert!(answer.starts_with("exit 4\n") && answer.contains("kubeconfig"), "{answer}");
}

#[test]
fn the_rights_of_a_file_of_theirs() {
    let answer = kill("one", "one").run("rbac theirs.yaml");
    assert!(answer.starts_with("exit 0\n") && answer.contains("\"delete\""), "{answer}");
    // Of a whole experiment those of its faults.
    let whole = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/foreign/scripts/kill-a-pod.json"
    ));
    let answer = Case::new().file("whole.json", whole.expect("it is there")).run("rbac whole.json");
    assert!(answer.starts_with("exit 0\n") && answer.contains("\"delete\""), "{answer}");
    let answer = kill("mode: one", "mode: all").run("rbac theirs.yaml");
    assert!(answer.starts_with("exit 2\n") && !answer.contains("\"delete\""), "{answer}");
}

/// What is printed is a file of ours.
#[test]
fn what_is_printed_is_read_again() {
    let case = kill("one", "one");
    let output = case.command().args(["translate", "theirs.yaml"]).output().expect("it runs");
    let case = case.file("ours.yaml", &output.stdout);
    let answer = case.run("rehearse ours.yaml --cluster current");
    assert!(answer.starts_with("exit 4\n") && answer.contains("kubeconfig"), "{answer}");
}
