//! The cluster itself: pods, nodes, groups, agents, and what is going to happen to them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mettle::model::{self, Change, Component, ControlPlanePart, Edit, ObjectRef, OpId, RunId};
use serde_json::Value;
use tokio::time::Instant;

use super::Behaviour;
use super::group::Group;
use super::meddle::Meddling;
use super::object::{key, object_before};

pub const NAMESPACE: &str = "ai-platform";

const GONE_MS: u64 = 50;
const CREATE_MS: u64 = 300;
const NODE_NOT_READY_MS: u64 = 10_000;
const NODE_START_MS: u64 = 3000;
const PODS_BACK_MS: u64 = 5000;
const PROBE_FAILS_MS: u64 = 3000;
const PROBE_PASSES_MS: u64 = 1000;
const SYNC_MS: u64 = 1000;
/// Until another leads: after a death that is told, and after a silence.
const ELECT_KILLED_MS: u64 = 2000;
const ELECT_SILENT_MS: u64 = 6000;
const ELECT_AGAIN_MS: u64 = 500;
/// Until it is known that there is no leader.
const LEASE_MS: u64 = 400;
/// An agent that hears nothing continues what it stopped.
const DEAD_MAN_MS: u64 = 5000;

#[derive(Debug, Clone)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub node: String,
    pub component: Component,
    pub controller: String,
    /// As the API says; what is true is `running`, `paused` and the node's power.
    pub ready: bool,
    pub terminating: bool,
    pub running: bool,
    pub paused: bool,
    /// The others cannot reach it, nor it them; we and its kubelet can.
    pub cut: bool,
    /// Counts the starts of its processes.
    pub incarnation: u64,
    pub synced_at_ms: u64,
}

pub struct Node {
    pub name: String,
    pub on: bool,
    pub ready: bool,
}

#[derive(Debug, Clone)]
pub enum Happening {
    PodGone(String),
    PodCreate(Box<Pod>),
    PodStarted(String),
    ProbeLooks(String),
    NodeNotReady(String),
    NodeReady(String),
    PodsBack(String),
    Elect(usize),
    AgentEnds(String),
    Meddled { how: Meddling, uid: String, node: String },
}

pub struct State {
    pub behaviour: Behaviour,
    origin: Instant,
    base_ms: u64,
    pub now_ms: u64,
    serial: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub pods: Vec<Pod>,
    pub nodes: Vec<Node>,
    pub groups: Vec<Group>,
    /// Writes that were answered.
    pub acknowledged: HashSet<OpId>,
    /// Agent → uid of the pod whose processes it holds.
    pub agents: BTreeMap<String, String>,
    /// Agents whose process is gone: nobody can tell them anything.
    pub orphans: BTreeSet<String>,
    /// Objects that somebody looked into; all others are as [`object_before`] says.
    pub objects: BTreeMap<ObjectRef, Value>,
    /// Objects that were made.
    pub made: BTreeSet<ObjectRef>,
    /// Commands whose effect lasts, by pod and container.
    pub commands: BTreeSet<(String, String)>,
    pub stopped: BTreeSet<ControlPlanePart>,
    /// Changes that took effect.
    pub applied: Vec<Change>,
    /// What is wanted of each controller.
    pub desired: BTreeMap<String, (Component, i32)>,
}

impl State {
    pub fn new(behaviour: Behaviour) -> Self {
        let mut state = Self {
            origin: Instant::now(),
            base_ms: 0,
            now_ms: 0,
            serial: 0,
            queue: BTreeMap::new(),
            pods: Vec::new(),
            nodes: ["n1", "n2", "n3"]
                .map(|name| Node { name: name.to_owned(), on: true, ready: true })
                .into(),
            groups: Vec::new(),
            acknowledged: HashSet::new(),
            agents: BTreeMap::new(),
            orphans: BTreeSet::new(),
            objects: BTreeMap::new(),
            made: BTreeSet::new(),
            commands: BTreeSet::new(),
            stopped: BTreeSet::new(),
            applied: Vec::new(),
            desired: BTreeMap::new(),
            behaviour,
        };
        state.fill();
        state
    }

    /// Another process looks at the cluster: its clock is another, and the agents of the one before are alone.
    pub fn attach(&mut self) {
        (self.base_ms, self.origin) = (self.now_ms, Instant::now());
        let agents: Vec<String> = self.agents.keys().cloned().collect();
        for agent in agents {
            self.orphans.insert(agent.clone());
            self.after(DEAD_MAN_MS, Happening::AgentEnds(agent));
        }
    }

    /// Lets everything happen that is due.
    pub fn sync(&mut self) {
        let elapsed = u64::try_from(self.origin.elapsed().as_millis()).expect("a short test");
        let now_ms = self.base_ms + elapsed;
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= now_ms) {
            self.now_ms = first.key().0;
            let happening = first.remove();
            self.happen(happening);
        }
        self.now_ms = now_ms;
    }

    pub fn after(&mut self, ms: u64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.now_ms + ms, self.serial), happening);
    }

    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    pub fn by_uid(&mut self, uid: &str) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.uid == uid)
    }

    pub fn node_on(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name && node.on)
    }

    pub fn answers(&self, pod: &Pod) -> bool {
        pod.running && !pod.paused && self.node_on(&pod.node)
    }

    pub fn serves(&self, pod: &Pod) -> bool {
        self.answers(pod) && !pod.cut
    }

    pub fn in_sync(&self, pod: &Pod) -> bool {
        self.serves(pod) && self.now_ms >= pod.synced_at_ms
    }

    pub fn leader_serves(&self, group: &Group) -> bool {
        group.headless_since_ms.is_none()
            && group.leader.as_deref().and_then(|name| self.pod(name)).is_some_and(|pod| self.serves(pod))
    }

    /// Who leads, as the members say it.
    pub fn leader<'a>(&self, group: &'a Group) -> Option<&'a String> {
        let known = group.headless_since_ms.is_none_or(|since_ms| self.now_ms < since_ms + LEASE_MS);
        group.leader.as_ref().filter(|_| known)
    }

    pub fn apply(&mut self, run: &RunId, change: &Change) -> Result<(), String> {
        if self.behaviour.ignores_changes {
            return Ok(());
        }
        match change {
            Change::DeletePod { pod, .. } | Change::EvictPod { pod, .. } => self.delete(&pod.uid)?,
            // However it was broken: it does nothing, and nobody hears of it.
            Change::NodePower { node, .. } => {
                let found = self.nodes.iter_mut().find(|known| known.name == *node);
                found.ok_or_else(|| format!("there is no node {node}"))?.on = false;
                self.pods.iter_mut().filter(|pod| pod.node == *node).for_each(|pod| pod.running = false);
                self.after(NODE_NOT_READY_MS, Happening::NodeNotReady(node.clone()));
                self.miss_leaders(ELECT_SILENT_MS);
            }
            Change::Agent { pod, agent, arguments, ttl_seconds, .. } => {
                let uid = pod.uid.clone();
                let found = self.by_uid(&uid).ok_or_else(|| format!("pod {} was replaced", pod.name))?;
                match arguments.first().map(String::as_str) {
                    Some("pause") => found.paused = true,
                    Some("drop") => found.cut = true,
                    // It is started again, and its agent dies with it.
                    Some("kill") => {
                        (found.running, found.ready) = (false, false);
                        self.after(CREATE_MS, Happening::PodStarted(uid));
                        self.miss_leaders(ELECT_KILLED_MS);
                        self.applied.push(change.clone());
                        return Ok(());
                    }
                    _ => {}
                }
                self.agents.insert(agent.clone(), uid.clone());
                self.after(PROBE_FAILS_MS, Happening::ProbeLooks(uid));
                self.after(u64::from(*ttl_seconds) * 1000, Happening::AgentEnds(agent.clone()));
                self.miss_leaders(ELECT_SILENT_MS);
            }
            Change::Edit { object, edits, .. } => {
                let before = self.objects.entry(object.clone()).or_insert_with(|| object_before(object));
                // What the cluster's side makes of it, without a key.
                let made = |edit: &Edit| match edit {
                    Edit::Expire { certificate, .. } => Edit::set(certificate, "expired"),
                    Edit::Set { .. } | Edit::Add { .. } => edit.clone(),
                };
                model::edit(before, &edits.iter().map(made).collect::<Vec<_>>(), &run.0)?;
            }
            Change::Create { object, .. } => {
                self.made.insert(object.clone());
            }
            Change::Exec { command } => {
                self.by_uid(&command.pod.uid)
                    .ok_or_else(|| format!("pod {} was replaced", command.pod.name))?;
                self.commands.insert(key(command));
            }
            Change::PauseControlPlane { part } => {
                self.stopped.insert(*part);
            }
            // Of drills, which have a stage of their own.
            Change::DestroyVolumes { .. } => return Err("this cluster has no volumes".to_owned()),
        }
        self.applied.push(change.clone());
        Ok(())
    }

    pub fn delete(&mut self, uid: &str) -> Result<(), String> {
        let replaces = self.behaviour.replaces;
        let pod = self.by_uid(uid).ok_or_else(|| format!("there is no pod of uid {uid}"))?;
        (pod.terminating, pod.running) = (true, false);
        let mut next = Pod {
            uid: format!("{uid}+"),
            ready: false,
            terminating: false,
            paused: false,
            cut: false,
            incarnation: pod.incarnation + 1,
            ..pod.clone()
        };
        if !next.controller.starts_with("StatefulSet/") {
            next.name = format!("{}x", next.name);
        }
        self.after(GONE_MS, Happening::PodGone(uid.to_owned()));
        if replaces {
            self.after(CREATE_MS, Happening::PodCreate(Box::new(next)));
        }
        self.miss_leaders(ELECT_KILLED_MS);
        Ok(())
    }

    pub fn start_node(&mut self, name: &str) {
        let found = self.nodes.iter_mut().find(|node| node.name == name && !node.on);
        let Some(node) = found else { return };
        node.on = true;
        self.after(NODE_START_MS, Happening::NodeReady(name.to_owned()));
        self.after(PODS_BACK_MS, Happening::PodsBack(name.to_owned()));
    }

    pub fn resume(&mut self, agent: &str) {
        let Some(uid) = self.agents.remove(agent) else { return };
        let synced_at_ms = self.now_ms + SYNC_MS;
        if let Some(pod) = self.by_uid(&uid) {
            (pod.paused, pod.cut, pod.synced_at_ms) = (false, false, synced_at_ms);
            self.after(PROBE_PASSES_MS, Happening::ProbeLooks(uid));
        }
    }

    pub fn miss_leaders(&mut self, elected_after_ms: u64) {
        for i in 0..self.groups.len() {
            let group = &self.groups[i];
            if group.headless_since_ms.is_none() && !self.leader_serves(group) {
                self.groups[i].headless_since_ms = Some(self.now_ms);
                self.after(elected_after_ms, Happening::Elect(i));
            }
        }
    }

    fn elect(&mut self, i: usize) {
        let group = &self.groups[i];
        let led = group.leader.as_deref().and_then(|name| self.pod(name)).filter(|pod| self.serves(pod));
        if let Some(pod) = led {
            let incarnation = pod.incarnation;
            self.groups[i].lead_on(incarnation);
            return;
        }
        let in_sync = |name: &&String| self.pod(name).is_some_and(|pod| self.in_sync(pod));
        let candidate = group.members.iter().find(in_sync).and_then(|name| self.pod(name));
        match candidate.map(|pod| (pod.name.clone(), pod.incarnation)) {
            Some((name, incarnation)) => self.groups[i].take_over(&name, incarnation),
            None => self.after(ELECT_AGAIN_MS, Happening::Elect(i)),
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now_ms = self.now_ms;
        match happening {
            Happening::PodGone(uid) => {
                self.pods.retain(|pod| pod.uid != uid);
                self.forget_pod(&uid);
            }
            Happening::Meddled { how, uid, node } => self.meddled(how, &uid, &node),
            Happening::PodCreate(mut pod) if !self.node_on(&pod.node) => {
                if self.nodes.iter().all(|node| node.name != pod.node) {
                    pod.node.clone_from(&self.nodes[0].name);
                }
                self.after(1000, Happening::PodCreate(pod));
            }
            Happening::PodCreate(pod) => {
                self.after(self.behaviour.start_ms, Happening::PodStarted(pod.uid.clone()));
                self.pods.push(*pod);
            }
            Happening::PodStarted(uid) => {
                if let Some(pod) = self.by_uid(&uid) {
                    (pod.running, pod.ready, pod.synced_at_ms) = (true, true, now_ms + SYNC_MS);
                }
            }
            Happening::ProbeLooks(uid) => {
                let answers = self.pods.iter().any(|pod| pod.uid == uid && self.answers(pod));
                if let Some(pod) = self.by_uid(&uid) {
                    pod.ready = answers;
                }
            }
            Happening::NodeNotReady(name) => {
                if !self.node_on(&name) {
                    self.nodes
                        .iter_mut()
                        .filter(|node| node.name == name)
                        .for_each(|node| node.ready = false);
                    self.pods.iter_mut().filter(|pod| pod.node == name).for_each(|pod| pod.ready = false);
                }
            }
            Happening::NodeReady(name) => {
                self.nodes.iter_mut().filter(|node| node.name == name).for_each(|node| node.ready = true);
            }
            Happening::PodsBack(name) => {
                for pod in self.pods.iter_mut().filter(|pod| pod.node == name && !pod.terminating) {
                    (pod.running, pod.ready, pod.synced_at_ms) = (true, true, now_ms + SYNC_MS);
                    pod.incarnation += 1;
                }
            }
            Happening::Elect(i) => self.elect(i),
            Happening::AgentEnds(agent) => self.resume(&agent),
        }
    }
}
