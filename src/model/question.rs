//! Probes of `chaosk8s` as questions to the API: what is read, and what the answer is. Pure; the reading is
//! `cluster/facts.rs`.

use serde_json::Value;

/// What is read for an answer. Label selectors are the API's own language, and go there as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    Pods { namespace: String, labels: String },
    Deployments { namespace: String, name: String, labels: String },
    StatefulSets { namespace: String, name: String, labels: String },
    Services { namespace: String, name: String, labels: String },
    Nodes { labels: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFact {
    pub name: String,
    pub phase: String,
    /// Type and status.
    pub conditions: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFact {
    pub name: String,
    pub wanted: i32,
    pub ready: i32,
    pub available: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFact {
    pub name: String,
    pub ready: bool,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub pods: Vec<PodFact>,
    pub workloads: Vec<WorkloadFact>,
    pub services: Vec<String>,
    pub nodes: Vec<NodeFact>,
}

/// What is asked of the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judging {
    /// There are pods, and all are in the phase, or none is.
    Phase {
        phase: String,
        all: bool,
    },
    /// There are pods, and each has all of these.
    Conditions(Vec<(String, String)>),
    /// How many, in a phase or in any.
    Count {
        phase: Option<String>,
    },
    AtLeast {
        phase: String,
        count: u64,
    },
    /// No pod is running.
    NoneRuns,
    /// No pod has failed or waits. Without any pod there is nothing to be healthy.
    AllHealthy,
    /// The workload has what it wants: available, or ready.
    Available,
    Ready(bool),
    /// One replica at least.
    PartlyAvailable,
    /// There is such a service.
    Exists,
    /// Every node is Ready; without any node there is nothing to be ready.
    NodesReady,
}

/// A probe of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub reading: Reading,
    pub judging: Judging,
    /// Not as it should be is a failed probe, and not the answer false.
    pub raises: bool,
    /// It is asked again until it is as it should be, at most so long; 0 asks once.
    pub within_seconds: u32,
}

/// The answer; the error is that things are not as they should be.
pub type Answered = Result<Value, String>;

impl Question {
    /// # Errors
    /// When things are not as they should be, and the probe says so by failing.
    pub fn answer(&self, facts: &Facts) -> Answered {
        let wrong = match &self.judging {
            Judging::Count { phase } => {
                let of = |pod: &&PodFact| phase.as_ref().is_none_or(|phase| pod.phase == *phase);
                return Ok(Value::from(facts.pods.iter().filter(of).count()));
            }
            Judging::AtLeast { phase, count } => {
                let have = facts.pods.iter().filter(|pod| pod.phase == *phase).count() as u64;
                return Ok(Value::from(have >= *count));
            }
            Judging::NodesReady => {
                let ready = !facts.nodes.is_empty() && facts.nodes.iter().all(|node| node.ready);
                return Ok(Value::from(ready));
            }
            judging => wrong_with(judging, facts),
        };
        match wrong {
            None => Ok(Value::from(true)),
            Some(why) if self.raises => Err(why),
            Some(_) => Ok(Value::from(false)),
        }
    }

    /// Whether it is worth asking again: only a wait is.
    #[must_use]
    pub fn is_answered(&self, answered: &Answered) -> bool {
        self.within_seconds == 0 || *answered == Ok(Value::from(true))
    }

    /// For people.
    #[must_use]
    pub fn describe(&self) -> String {
        let labels =
            |labels: &String| if labels.is_empty() { String::new() } else { format!(" with {labels}") };
        match &self.reading {
            Reading::Pods { namespace, labels: of } => format!("ask for pods of {namespace}{}", labels(of)),
            Reading::Deployments { namespace, name, .. } => format!("ask for deployment {namespace}/{name}"),
            Reading::StatefulSets { namespace, name, .. } => {
                format!("ask for stateful set {namespace}/{name}")
            }
            Reading::Services { namespace, name, labels: of } => {
                format!("ask for service {namespace}/{name}{}", labels(of))
            }
            Reading::Nodes { labels: of } => format!("ask for nodes{}", labels(of)),
        }
    }
}

fn wrong_with(judging: &Judging, facts: &Facts) -> Option<String> {
    let none = || Some("there is no such object".to_owned());
    let pods = &facts.pods;
    match judging {
        Judging::Phase { .. } | Judging::Conditions(_) | Judging::AllHealthy if pods.is_empty() => {
            Some("there is no such pod".to_owned())
        }
        Judging::Phase { phase, all } => {
            let other = pods.iter().find(|pod| (pod.phase == *phase) != *all)?;
            let must = if *all { "must be" } else { "must not be" };
            Some(format!("pod {} is {}, and {must} {phase}", other.name, other.phase))
        }
        Judging::Conditions(wanted) => pods.iter().find_map(|pod| {
            let lacks = wanted.iter().find(|condition| !pod.conditions.contains(condition))?;
            Some(format!("pod {} has no condition {} {}", pod.name, lacks.0, lacks.1))
        }),
        Judging::NoneRuns => {
            let runs = pods.iter().find(|pod| pod.phase == "Running")?;
            Some(format!("pod {} is running", runs.name))
        }
        Judging::AllHealthy => {
            let healthy = |pod: &&PodFact| !matches!(pod.phase.as_str(), "Running" | "Succeeded");
            pods.iter().find(healthy).map(|pod| format!("pod {} is {}", pod.name, pod.phase))
        }
        Judging::Available | Judging::PartlyAvailable | Judging::Ready(_) if facts.workloads.is_empty() => {
            none()
        }
        Judging::Available => facts
            .workloads
            .iter()
            .find(|one| one.available != one.wanted)
            .map(|one| format!("{} has {} of {} replicas available", one.name, one.available, one.wanted)),
        Judging::PartlyAvailable => {
            let all = facts.workloads.iter();
            all.clone().all(|one| one.available < 1).then(|| "no replica is available".to_owned())
        }
        Judging::Ready(wanted) => facts
            .workloads
            .iter()
            .find(|one| (one.ready == one.wanted) != *wanted)
            .map(|one| format!("{} has {} of {} replicas ready", one.name, one.ready, one.wanted)),
        Judging::Exists => facts.services.is_empty().then(none)?,
        // These answer with more than yes and no.
        Judging::Count { .. } | Judging::AtLeast { .. } | Judging::NodesReady => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pods(phases: &[&str]) -> Facts {
        let pods = phases.iter().enumerate().map(|(i, phase)| PodFact {
            name: format!("p{i}"),
            phase: (*phase).to_owned(),
            conditions: vec![(
                "Ready".to_owned(),
                if *phase == "Running" { "True" } else { "False" }.to_owned(),
            )],
        });
        Facts { pods: pods.collect(), ..Facts::default() }
    }

    fn workload(wanted: i32, ready: i32, available: i32) -> Facts {
        let workloads = vec![WorkloadFact { name: "w".to_owned(), wanted, ready, available }];
        Facts { workloads, ..Facts::default() }
    }

    fn nodes(ready: &[bool]) -> Facts {
        let nodes = ready.iter().map(|ready| NodeFact { name: "n".to_owned(), ready: *ready });
        Facts { nodes: nodes.collect(), ..Facts::default() }
    }

    #[test]
    fn every_question_has_its_answer_and_none_passes_on_nothing() {
        use Judging::{
            AllHealthy, AtLeast, Available, Conditions, Count, Exists, NodesReady, NoneRuns, PartlyAvailable,
            Phase, Ready,
        };
        let running = |all| Phase { phase: "Running".to_owned(), all };
        let ready = || Conditions(vec![("Ready".to_owned(), "True".to_owned())]);
        let wrong = Value::from("wrong");
        let (yes, no) = (json!(true), json!(false));
        let service = || Facts { services: vec!["s".to_owned()], ..Facts::default() };
        for (judging, facts, answer) in [
            (running(true), pods(&["Running", "Running"]), yes.clone()),
            (running(true), pods(&["Running", "Pending"]), wrong.clone()),
            (running(true), pods(&[]), wrong.clone()),
            (running(false), pods(&["Pending"]), yes.clone()),
            (running(false), pods(&["Pending", "Running"]), wrong.clone()),
            (running(false), pods(&[]), wrong.clone()),
            (ready(), pods(&["Running"]), yes.clone()),
            (ready(), pods(&["Running", "Pending"]), wrong.clone()),
            (ready(), pods(&[]), wrong.clone()),
            (Count { phase: None }, pods(&["Running", "Pending"]), json!(2)),
            (Count { phase: Some("Pending".to_owned()) }, pods(&["Running", "Pending"]), json!(1)),
            (Count { phase: None }, pods(&[]), json!(0)),
            (AtLeast { phase: "Running".to_owned(), count: 2 }, pods(&["Running", "Pending"]), no.clone()),
            (AtLeast { phase: "Running".to_owned(), count: 1 }, pods(&["Running", "Pending"]), yes.clone()),
            (NoneRuns, pods(&["Pending"]), yes.clone()),
            (NoneRuns, pods(&[]), yes.clone()),
            (NoneRuns, pods(&["Running"]), wrong.clone()),
            (AllHealthy, pods(&["Running", "Succeeded"]), yes.clone()),
            (AllHealthy, pods(&["Running", "Failed"]), wrong.clone()),
            (AllHealthy, pods(&[]), wrong.clone()),
            (Available, workload(2, 2, 2), yes.clone()),
            (Available, workload(2, 2, 1), wrong.clone()),
            (Available, Facts::default(), wrong.clone()),
            (PartlyAvailable, workload(2, 0, 1), yes.clone()),
            (PartlyAvailable, workload(2, 0, 0), wrong.clone()),
            (Ready(true), workload(2, 2, 0), yes.clone()),
            (Ready(true), workload(2, 1, 0), wrong.clone()),
            (Ready(false), workload(2, 1, 0), yes.clone()),
            (Ready(false), workload(2, 2, 0), wrong.clone()),
            (Ready(false), Facts::default(), wrong.clone()),
            (Exists, service(), yes.clone()),
            (Exists, Facts::default(), wrong.clone()),
            (NodesReady, nodes(&[true, true]), yes.clone()),
            (NodesReady, nodes(&[true, false]), no.clone()),
            (NodesReady, nodes(&[]), no.clone()),
        ] {
            let reading = Reading::Nodes { labels: String::new() };
            let question = |raises| Question {
                reading: reading.clone(),
                judging: judging.clone(),
                raises,
                within_seconds: 0,
            };
            let told = question(true).answer(&facts);
            assert_eq!(told.clone().unwrap_or_else(|_| wrong.clone()), answer, "{judging:?} of {facts:?}");
            // What does not fail says no.
            let quiet = question(false).answer(&facts).unwrap();
            assert_eq!(quiet, if told.is_err() { no.clone() } else { answer }, "{judging:?} of {facts:?}");
        }
    }
}
