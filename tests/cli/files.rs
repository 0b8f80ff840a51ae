//! Files that are wrong. Each differs in one thing from one that is right.

use super::{Case, EXPERIMENT, SCENARIO, shown, table};

const PLAN: &str = "plan x.yaml --cluster current";

fn experiment(from: &str, to: &str) -> String {
    Case::experiment(from, to).run(PLAN)
}

fn expect(check: &str) -> String {
    experiment("{ check: recovery-time, maxSeconds: 15 }", check)
}

fn stop_when(condition: &str) -> String {
    experiment("name: x", &format!("name: x\nstopWhen: [{condition}]"))
}

fn target(target: &str) -> String {
    experiment("{ component: backend }", target)
}

fn scenario(from: &str, to: &str) -> String {
    Case::scenario(from, to).run(PLAN)
}

fn whole(content: impl AsRef<[u8]>) -> String {
    Case::new().file("x.yaml", content).run(PLAN)
}

/// The one that is right gets as far as the cluster: everything below fails for its own reason only.
#[test]
fn the_file_that_all_others_differ_from_is_right() {
    let answer = Case::new().run(PLAN);
    assert!(answer.starts_with("exit 4\n") && answer.contains("kubeconfig"), "{answer}");
}

#[test]
fn what_is_no_experiment_at_all() {
    let lines = "# padding\n".repeat(110_000);
    shown(
        "no_experiment",
        &table([
            ("missing", Case::new().run("plan nosuch.yaml --cluster current")),
            ("a directory", Case::new().run("plan scenarios --cluster current")),
            ("endless", Case::new().run("plan /dev/zero --cluster current")),
            ("too large", whole(lines)),
            ("empty", whole("")),
            ("only a comment", whole("# nothing\n")),
            ("not UTF-8", whole(b"name: x\n# \xff\n")),
            ("text", whole("hello\n")),
            ("a list", whole("- a\n- b\n")),
            ("unclosed bracket", whole("name: x\nproves: [a\n")),
            ("unclosed quote", whole("name: \"x\n")),
            ("a tab", whole("name: x\nload:\n\tusers: 3\n")),
            ("an unknown anchor", experiment("name: x", "name: *nosuch")),
            ("two documents", whole(format!("{EXPERIMENT}---\n{EXPERIMENT}"))),
            ("a field twice", experiment("name: x", "name: x\nname: y")),
        ]),
    );
}

#[test]
fn fields_of_another_shape() {
    shown(
        "fields",
        &table([
            ("unknown at the top", experiment("name: x", "name: x\nfault: []")),
            ("unknown in a fault", experiment("kind: pod-kill", "kind: pod-kill\n    hold: 3")),
            ("unknown in a target", target("{ component: backend, rol: primary }")),
            ("unknown in a check", expect("{ check: recovery-time, seconds: 15 }")),
            ("unknown in a stop condition", stop_when("{ check: latency, above: 3, forSeconds: 5 }")),
            ("unknown stop condition", stop_when("{ check: recovery-time, forSeconds: 5 }")),
            ("unknown in phases", experiment("name: x", "name: x\nphases:\n  warm: 3\n  cold: 3")),
            ("unknown fault", experiment("pod-kill", "pod-kil")),
            ("unknown check", expect("{ check: recovery, maxSeconds: 15 }")),
            ("unknown component", target("{ component: mongo }")),
            ("missing at the top", experiment("scenario: scenarios/s.yaml\n", "")),
            ("missing in a fault", experiment("kind: pod-kill\n    ", "")),
            ("text for a number", experiment("name: x", "name: x\nload: { users: many }")),
            ("a negative number", experiment("name: x", "name: x\nload: { users: -3 }")),
            ("a fraction", experiment("name: x", "name: x\nload: { users: 1.5 }")),
            ("a number too large", experiment("name: x", "name: x\nload: { users: 4294967296 }")),
            ("text for a bound", expect("{ check: recovery-time, maxSeconds: soon }")),
            ("a list for text", experiment("name: x", "name: [x]")),
            ("a mapping for a list", experiment("name: x", "name: x\nproves: { a: b }")),
            ("text for a mapping", target("backend")),
        ]),
    );
}

#[test]
fn what_cannot_be_meant() {
    shown(
        "meaning",
        &table([
            ("a name that leaves the directory", experiment("name: x", "name: ../../x")),
            (
                "no fault",
                experiment("faults:\n  - kind: pod-kill\n    target: { component: backend }", "faults: []"),
            ),
            ("no check", experiment("expect:\n  - { check: recovery-time, maxSeconds: 15 }", "expect: []")),
            ("no users", experiment("name: x", "name: x\nload: { users: 0 }")),
            ("no requests", experiment("name: x", "name: x\nload: { requestsMin: 0 }")),
            ("a phase of hours", experiment("name: x", "name: x\nphases: { fault: 7200 }")),
            ("component and labels", target("{ component: backend, labels: { app: x } }")),
            ("an empty target", target("{}")),
            ("role without component", target("{ labels: { app: x }, role: primary }")),
            ("ofKey on postgres", target("{ component: postgres, ofKey: a }")),
            ("count 0", target("{ component: backend, count: 0 }")),
            ("pod-kill of a node", target("{ node: n1 }")),
            (
                "graceSeconds on node-kill",
                experiment("pod-kill", "node-kill\n    graceSeconds: 3\n    holdSeconds: 9"),
            ),
            ("process on pod-kill", experiment("pod-kill", "pod-kill\n    process: redis-server")),
            ("holdSeconds missing", experiment("pod-kill", "process-pause")),
            ("a bound nothing can break", expect("{ check: error-rate, window: fault, maxPercent: 100 }")),
            ("a bound that is no number", expect("{ check: error-rate, window: fault, maxPercent: .nan }")),
            ("quantile 2", expect("{ check: latency, window: fault, quantile: 2, maxMs: 10 }")),
            ("a check without its bound", expect("{ check: recovery-time }")),
            ("a check without its window", expect("{ check: error-rate, maxPercent: 5 }")),
            ("a check with another's bound", expect("{ check: lost-writes, store: redis, maxPercent: 5 }")),
            ("a ledger check without store", expect("{ check: lost-writes }")),
            ("a stop condition without its bound", stop_when("{ check: error-rate, forSeconds: 5 }")),
            (
                "a stop condition of no time",
                stop_when("{ check: lost-leader, component: redis, forSeconds: 0 }"),
            ),
            (
                "a quantile that no second has",
                stop_when("{ check: latency, quantile: 0.9, maxMs: 9, forSeconds: 5 }"),
            ),
            ("no namespace", experiment("name: x", "name: x\nlimits: { namespaces: [] }")),
            (
                "a protected namespace",
                experiment("name: x", "name: x\nlimits: { namespaces: [kube-system] }"),
            ),
            ("a deadline of no time", experiment("name: x", "name: x\nlimits: { deadlineSeconds: 0 }")),
        ]),
    );
}

#[test]
fn suites() {
    let suite = |text: &str| Case::new().file("suite.yaml", text).run("plan suite.yaml --cluster current");
    shown(
        "suites",
        &table([
            ("empty", suite("suite: s\nexperiments: []\n")),
            ("without a list", suite("suite: s\n")),
            ("unknown field", suite("suite: s\nexperiments: [x.yaml]\nparallel: true\n")),
            ("a missing experiment", suite("suite: s\nexperiments: [x.yaml, gone.yaml]\n")),
            ("an experiment twice", suite("suite: s\nexperiments: [x.yaml, x.yaml]\n")),
            ("a suite in a suite", suite("suite: s\nexperiments: [suite.yaml]\n")),
            (
                "an experiment twice on the command line",
                Case::new().run("plan x.yaml x.yaml --cluster current"),
            ),
        ]),
    );
}

#[test]
fn scenarios() {
    let writes = "path: /items\n        writes: postgres";
    shown(
        "scenarios",
        &table([
            ("missing", experiment("scenarios/s.yaml", "scenarios/gone.yaml")),
            ("empty", Case::new().file("scenarios/s.yaml", "").run(PLAN)),
            ("unknown field of a step", scenario("method: GET", "method: GET\n        retries: 3")),
            ("unknown method", scenario("method: GET", "method: PATCH")),
            ("a step without a path", scenario("\n        path: /items", "")),
            ("a path without a slash", scenario("path: /items", "path: items")),
            ("writes without ${op}", scenario("path: /items", writes)),
            ("an unknown store", scenario("path: /items", "path: /items/${op}\n        writes: mongo")),
            (
                "extract without a pointer",
                scenario("path: /items", "path: /items\n        extract: { a: id }"),
            ),
            ("a service without a port", scenario("shop/api:80", "shop/api")),
            ("a service without a namespace", scenario("shop/api:80", "api:80")),
            ("no think time", scenario("meanMs: 1000", "meanMs: 0")),
            ("no weight", scenario("weight: 1", "weight: 0")),
            (
                "no journey",
                Case::new()
                    .file(
                        "scenarios/s.yaml",
                        SCENARIO
                            .split("  - journey")
                            .next()
                            .unwrap_or_default()
                            .replace("journeys:", "journeys: []"),
                    )
                    .run(PLAN),
            ),
            ("timeout of an hour", scenario("service:", "timeoutMs: 3600000\nservice:")),
        ]),
    );
}
