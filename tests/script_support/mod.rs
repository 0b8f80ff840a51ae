//! A stage for scripts: the in-memory cluster, canned answers of everybody else, and small experiments.

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mettle::command::report::exit_of;
use mettle::exit::Exit;
use mettle::foreign::{Surroundings, script};
use mettle::model::{
    Change, ExperimentReport, Facts, Finding, HttpCall, NodeFact, PodFact, ProcessCall, Reading, RunId, Seed,
    WorkloadFact,
};
use mettle::run::{
    Outside, Played, Recorder, RunClock, ScriptContext, Settings, Stop, Unanswered, find_unreverted,
    run_script,
};
use serde_json::{Value, json};

use crate::fake::{Behaviour, FakeWorld, Points, Trip};

/// Answers by what it is asked, and remembers it.
pub struct Canned {
    world: Arc<FakeWorld>,
    stop: Stop,
    asked: Mutex<Vec<String>>,
}

impl Canned {
    fn hear(&self, what: String) -> usize {
        let mut asked = self.asked.lock().unwrap();
        asked.push(what.clone());
        asked.iter().filter(|one| **one == what).count()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn status(status: u16) -> Result<Value, Unanswered> {
    Ok(json!({ "status": status, "headers": {}, "body": "it is up" }))
}

impl Outside for Canned {
    async fn http(&self, call: &HttpCall) -> Result<Value, Unanswered> {
        let path = call.url.split("/").last().unwrap().to_owned();
        let nth = self.hear(path.clone());
        let broken = self.world.with(|state| !state.applied.is_empty());
        match path.as_str() {
            "up" => status(200),
            "down" => status(503),
            // Once, and never again.
            "then-down" => status(if nth == 1 { 200 } else { 503 }),
            "then-silent" if nth > 1 => Err(Unanswered::Silent("connection refused".to_owned())),
            "then-unasked" if nth > 1 => Err(Unanswered::Unasked("the answer is too long".to_owned())),
            "up-while-broken" => status(if nth == 1 || broken { 200 } else { 503 }),
            "hangs" => pending().await,
            "panics" => panic!("a probe of the test"),
            _ => status(200),
        }
    }

    async fn process(&self, call: &ProcessCall) -> Result<Value, Unanswered> {
        self.hear(format!("{} {}", call.path, call.arguments.join(" ")).trim().to_owned());
        let left = |status: i32| Ok(json!({ "status": status, "stdout": "", "stderr": "" }));
        match call.path.as_str() {
            "true" => left(0),
            "false" => left(1),
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(call.timeout_ms)).await;
                Err(Unanswered::Unasked("it was not done in time, and was killed".to_owned()))
            }
            "interrupt" => {
                self.stop.interrupt("SIGINT");
                left(0)
            }
            "panic" => panic!("a program of the test"),
            _ => Err(Unanswered::Unasked("there is no such program".to_owned())),
        }
    }

    async fn facts(&self, reading: &Reading) -> Result<Facts, Unanswered> {
        let seen = self.world.look();
        let mut facts = Facts::default();
        match reading {
            Reading::Pods { namespace, labels } if namespace == "ai-platform" => {
                let of = seen.pods.iter().filter(|pod| {
                    labels
                        .split_once('=')
                        .is_none_or(|(key, value)| pod.labels.get(key).map(String::as_str) == Some(value))
                });
                facts.pods = of
                    .map(|pod| PodFact {
                        name: pod.name.clone(),
                        phase: if pod.ready { "Running" } else { "Pending" }.to_owned(),
                        conditions: Vec::new(),
                    })
                    .collect();
            }
            Reading::Deployments { name, .. } => {
                let of = seen.workloads.iter().filter(|one| one.name == format!("Deployment/{name}"));
                let fact = |one: &mettle::model::WorkloadInfo| WorkloadFact {
                    name: one.name.clone(),
                    wanted: one.desired,
                    ready: one.ready,
                    available: one.ready,
                };
                facts.workloads = of.map(fact).collect();
            }
            Reading::Nodes { .. } => {
                let fact =
                    |node: &mettle::model::NodeInfo| NodeFact { name: node.name.clone(), ready: node.ready };
                facts.nodes = seen.nodes.iter().map(fact).collect();
            }
            _ => return Err(Unanswered::Unasked("the API does not answer".to_owned())),
        }
        Ok(facts)
    }
}

pub struct Stage {
    pub world: Arc<FakeWorld>,
    pub outside: Arc<Canned>,
    pub stop: Stop,
    directory: tempfile::TempDir,
}

pub struct Ran {
    pub played: Played,
    pub asked: Vec<String>,
    pub applied: Vec<Change>,
    pub exit: Exit,
    pub journals: PathBuf,
}

impl Stage {
    pub fn new(behaviour: Behaviour, points: Points) -> Self {
        let stop = Stop::default();
        let world = Arc::new(FakeWorld::new(behaviour, points));
        let outside = Canned { world: world.clone(), stop: stop.clone(), asked: Mutex::default() };
        Self { world, outside: Arc::new(outside), stop, directory: tempfile::tempdir().unwrap() }
    }

    pub async fn run(&self, file: Value) -> Ran {
        let around = Surroundings {
            namespace: "ai-platform".to_owned(),
            environment: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
        };
        let scripted = script(&file, &around).expect("it is of Chaos Toolkit");
        assert_eq!(scripted.refused, []);
        let script = Arc::new(scripted.script);
        let recorder = Recorder::in_memory(RunClock::start());
        let journals = self.directory.path().join("journals");
        let settings = Settings {
            out: self.directory.path().to_owned(),
            journal: journals.join("s.jsonl"),
            cluster: "fake".to_owned(),
            hook: None,
        };
        let played = run_script(ScriptContext {
            world: &self.world,
            outside: &self.outside,
            script: &script,
            name: "s",
            run: &RunId("c1e0".to_owned()),
            seed: Seed(7),
            settings: &settings,
            stop: &self.stop,
            recorder: &recorder,
        })
        .await;
        let told = format!("{played:?} {:?}", recorder.events());
        assert!(!told.contains("hunter2"), "a secret is told: {told}");
        let whole = mettle::report::run(
            RunId("c1".to_owned()),
            Seed(7),
            "fake".to_owned(),
            String::new(),
            vec![played.report.clone()],
        );
        let applied = self.world.with(|state| state.applied.clone());
        Ran { exit: exit_of(&whole), played, asked: self.outside.asked(), applied, journals }
    }
}

pub async fn run(file: Value) -> Ran {
    Stage::new(Behaviour::default(), Points::new(Trip::None)).run(file).await
}

pub fn http(name: &str, path: &str) -> Value {
    let url = format!("http://shop/{path}");
    json!({ "type": "probe", "name": name, "tolerance": 200, "provider": { "type": "http", "url": url, "timeout": 3 } })
}

pub fn program(path: &str) -> Value {
    let provider = json!({ "type": "process", "path": path, "timeout": 5 });
    json!({ "type": "action", "name": path, "provider": provider })
}

pub fn kill() -> Value {
    let arguments = json!({ "label_selector": "app.kubernetes.io/name=backend", "ns": "ai-platform", "rand": true, "grace_period": 0 });
    let provider = json!({ "type": "python", "module": "chaosk8s.pod.actions", "func": "terminate_pods", "arguments": arguments });
    json!({ "type": "action", "name": "kill", "provider": provider })
}

pub fn python(kind: &str, name: &str, arguments: Value) -> Value {
    let (module, func) = name.rsplit_once('.').unwrap();
    let provider = json!({ "type": "python", "module": module, "func": func, "arguments": arguments });
    json!({ "type": kind, "name": func, "tolerance": true, "provider": provider })
}

pub fn experiment(probe: Value, method: Value, rollbacks: Value) -> Value {
    json!({
        "title": "s", "method": method, "rollbacks": rollbacks,
        "steady-state-hypothesis": { "title": "it is up", "probes": [probe] },
    })
}

pub fn finding<'a>(report: &'a ExperimentReport, check: &str) -> &'a Finding {
    let found = report.findings.iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("no finding {check}: {:#?}", report.findings))
}

/// Nothing of mettle's is left, and the rollback was played once.
pub fn clean(ran: &Ran, why: &str) {
    assert_eq!(ran.played.report.residue, [] as [&str; 0], "{why}");
    assert_eq!(find_unreverted(&ran.journals).unwrap(), [] as [PathBuf; 0], "{why}");
    let rollbacks = ran.asked.iter().filter(|asked| *asked == "true back").count();
    assert_eq!(rollbacks, 1, "{why}: {:?}", ran.asked);
    let rolled = ran.played.journal["rollbacks"].as_array().unwrap();
    assert_eq!(rolled.last().unwrap()["status"], "succeeded", "{why}");
}

pub fn back() -> Value {
    let provider = json!({ "type": "process", "path": "true", "arguments": ["back"], "timeout": 5 });
    json!({ "type": "action", "name": "back", "provider": provider })
}
