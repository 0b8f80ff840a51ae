//! The one place that mutates the cluster during a run. Callers have journalled what they ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, EvictParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::agent::{self, Attached};
use super::power::Power;
use super::read::{node_info, pod_info};
use super::{ClusterError, command, look, missed, object, poll_until, restore};
use crate::model::{Change, ControlPlanePart, Look, NodeHow, OnConflict, PodInfo, PodRef, RunId, Undo};

const REPLACED_DEADLINE: Duration = Duration::from_secs(150);
const READY_DEADLINE: Duration = Duration::from_secs(150);
const NODE_READY_DEADLINE: Duration = Duration::from_secs(120);
/// Less than the time that one change may take altogether.
const EVICT_DEADLINE: Duration = Duration::from_secs(40);
/// One answer.
const EVICT_ANSWER: Duration = Duration::from_secs(4);
const COMMAND_DEADLINE: Duration = Duration::from_secs(40);

/// How an undo ended: what was done, or why it must not be.
pub enum Applied {
    Done(String),
    AlreadyClean(String),
    /// Somebody else changed the object since: it was left as it is.
    Conflict(String),
}

pub struct Applier {
    client: Client,
    power: Option<Arc<dyn Power>>,
    agent_image: String,
    /// Agents that this process feeds with heartbeats, by name.
    agents: Mutex<BTreeMap<String, Attached>>,
    /// Looks for effects; they end with us.
    looks: Mutex<JoinSet<()>>,
}

impl Applier {
    #[must_use]
    pub fn new(client: Client, power: Option<Arc<dyn Power>>, agent_image: String) -> Self {
        Self { client, power, agent_image, agents: Mutex::default(), looks: Mutex::default() }
    }

    /// Makes one change of a run. `said` receives what agents and looks say of its effect.
    ///
    /// # Errors
    /// When the cluster refuses; then it may still have happened.
    pub async fn apply(
        &self,
        run: &RunId,
        change: &Change,
        said: impl Fn(&str, String) + Clone + Send + Sync + 'static,
    ) -> Result<(), ClusterError> {
        let reporter = change.reporter();
        match change {
            Change::DeletePod { pod, grace_seconds } => self.delete_pod(pod, *grace_seconds).await,
            Change::EvictPod { pod, grace_seconds } => self.evict_pod(pod, *grace_seconds).await,
            Change::NodePower { node, how } => {
                let what = change.describe();
                let done = self.power(&what)?.break_node(node, *how).await;
                done.map_err(|why| ClusterError::state(what, why))
            }
            Change::Agent { pod, container, agent: name, arguments, network, ttl_seconds } => {
                let start = agent::Start {
                    pod,
                    container,
                    name,
                    image: &self.agent_image,
                    arguments,
                    network: *network,
                    ttl_seconds: Some(*ttl_seconds),
                };
                if let Some(attached) = agent::start(&self.client, start, said).await? {
                    self.agents.lock().await.insert(name.clone(), attached);
                }
                Ok(())
            }
            Change::Edit { object, edits, look } => {
                let edited = async {
                    let says = object::edit(&self.client, object, edits, run).await?;
                    // With a look of its own, what the API says is no effect yet.
                    let word = if look.is_some() { "note" } else { "effect" };
                    said(&reporter, format!("{word}: {says}"));
                    Ok(())
                };
                self.looking(look.as_ref(), &reporter, said.clone(), edited).await
            }
            Change::Create { object, manifest, look } => {
                let created = object::create(&self.client, object, manifest);
                self.looking(look.as_ref(), &reporter, said, created).await
            }
            Change::Exec { command } => {
                let output = command::run(&self.client, command, COMMAND_DEADLINE).await?;
                let effect = output.lines().find(|line| line.starts_with("effect"));
                let word = effect.map_or_else(|| format!("note: {}", output.trim()), str::to_owned);
                said(&reporter, word.chars().take(300).collect());
                Ok(())
            }
            Change::PauseControlPlane { part } => self.pause(*part, &reporter, said).await,
            Change::DestroyVolumes { claims, pods, .. } => {
                let gone = restore::destroy(&self.client, claims, pods).await?;
                said(&reporter, format!("effect: {gone}"));
                Ok(())
            }
        }
    }

    /// Stops a server, and looks whether anybody misses it: stopped alone is no effect, where somebody can be asked.
    async fn pause(
        &self,
        part: ControlPlanePart,
        what: &str,
        said: impl Fn(&str, String) + Send + Sync + 'static,
    ) -> Result<(), ClusterError> {
        let power = self.power(what)?;
        let question = missed::question(&self.client, part).await;
        let state = power.pause(part).await.map_err(|why| ClusterError::state(what, why))?;
        match question {
            Ok(None) => said(what, format!("effect: {state}")),
            Err(why) => said(what, format!("note: {state}; {why}")),
            Ok(Some(question)) => {
                said(what, format!("note: {state}"));
                let (client, what) = (self.client.clone(), what.to_owned());
                self.looks.lock().await.spawn(async move {
                    if let Some(effect) = look::until_missed(&client, &question).await {
                        said(&what, format!("effect: {state}; {effect}"));
                    }
                });
            }
        }
        Ok(())
    }

    /// Looks before and after a change, the latter for as long as it takes.
    async fn looking(
        &self,
        look: Option<&Look>,
        reporter: &str,
        said: impl Fn(&str, String) + Send + Sync + 'static,
        change: impl Future<Output = Result<(), ClusterError>>,
    ) -> Result<(), ClusterError> {
        let Some(look) = look else { return change.await };
        let before = look::before(&self.client, look).await;
        change.await?;
        let (client, look, reporter) = (self.client.clone(), look.clone(), reporter.to_owned());
        self.looks.lock().await.spawn(async move {
            if let Some(effect) = look::until_effective(&client, &look, before).await {
                said(&reporter, effect);
            }
        });
        Ok(())
    }

    async fn evict_pod(&self, pod: &PodRef, grace_seconds: u32) -> Result<(), ClusterError> {
        let what = format!("evict pod {pod}");
        let parameters =
            EvictParams { delete_options: Some(pinned(pod, grace_seconds)), ..EvictParams::default() };
        poll_until(&what, EVICT_DEADLINE, || async {
            // The client tries again by itself when it is told to come later, for longer than we wait.
            let pods = self.pods(&pod.namespace);
            let answer = pods.evict(&pod.name, &parameters);
            match tokio::time::timeout(EVICT_ANSWER, answer).await {
                Ok(Ok(_)) => Ok(Ok(())),
                // The disruption budget: a drain waits, and so do we.
                Ok(Err(kube::Error::Api(status))) if status.code == 429 => Ok(Err(status.message.clone())),
                Ok(Err(error)) => Err(ClusterError::api(what.clone())(error)),
                Err(_) => Ok(Err("the disruption budget allows none now, or there is no answer".to_owned())),
            }
        })
        .await
    }

    async fn delete_pod(&self, pod: &PodRef, grace_seconds: u32) -> Result<(), ClusterError> {
        let what = format!("delete pod {pod}");
        let parameters = pinned(pod, grace_seconds);
        self.pods(&pod.namespace).delete(&pod.name, &parameters).await.map_err(ClusterError::api(what))?;
        Ok(())
    }

    /// Undoes one change: idempotent, tolerant of one that never happened.
    ///
    /// # Errors
    /// When it is not undone within its deadline.
    pub async fn undo(&self, undo: &Undo, on_conflict: OnConflict) -> Result<Applied, ClusterError> {
        match undo {
            Undo::AwaitReplaced { pod, controller } => self.await_replaced(pod, controller).await,
            Undo::AwaitReady { pod, agent: by } => {
                if let Some(name) = by {
                    self.agents.lock().await.remove(name);
                    agent::await_ended(&self.client, pod, name).await?;
                }
                self.await_ready(pod).await
            }
            Undo::RestoreNode { node, how } => self.restore_node(node, *how).await,
            Undo::EndAgent { pod, container, agent: name, clean, network } => {
                if let Some(attached) = self.agents.lock().await.remove(name) {
                    attached.resume().await;
                }
                match agent::await_ended(&self.client, pod, name).await? {
                    agent::Ended::Killed(_) if !clean.is_empty() => {
                        let start = agent::Start {
                            pod,
                            container,
                            name: &format!("{name}-clean"),
                            image: &self.agent_image,
                            arguments: clean,
                            network: *network,
                            ttl_seconds: None,
                        };
                        agent::clean(&self.client, start).await.map(Applied::Done)
                    }
                    agent::Ended::Well(said) | agent::Ended::Killed(said) => Ok(Applied::Done(said)),
                }
            }
            Undo::Restore { object } => object::restore(&self.client, object, on_conflict).await,
            Undo::AwaitRollout { object } => object::settle(&self.client, object).await,
            Undo::Delete { object } => object::delete(&self.client, object, on_conflict).await,
            Undo::Exec { command } => {
                if !command::await_running(&self.client, command).await? {
                    return Ok(Applied::AlreadyClean(format!(
                        "pod {} is gone, and the effect with it",
                        command.pod
                    )));
                }
                command::run(&self.client, command, COMMAND_DEADLINE).await?;
                Ok(Applied::Done(format!("the inverse command ran in pod {}", command.pod)))
            }
            Undo::ResumeControlPlane { part } => {
                let what = undo.describe();
                self.power(&what)?.resume(*part).await.map_err(|why| ClusterError::state(what, why))?;
                Ok(Applied::Done(format!("{} goes on", part.as_str())))
            }
            Undo::RestoreStore { restore } => restore::run(&self.client, restore).await,
        }
    }

    /// The same pod, or whatever took its place.
    async fn await_ready(&self, pod: &PodRef) -> Result<Applied, ClusterError> {
        poll_until(&format!("pod {pod} to be ready"), READY_DEADLINE, || async {
            let found = self.pods(&pod.namespace).get_opt(&pod.name).await;
            let found = found.map_err(ClusterError::api(format!("read pod {pod}")))?;
            Ok(match found.as_ref().map(pod_info) {
                None => Ok(Applied::AlreadyClean(format!("pod {pod} is gone"))),
                Some(info) if info.ready && !info.terminating => {
                    Ok(Applied::Done(format!("pod {pod} is ready")))
                }
                Some(_) => Err("it is not ready".to_owned()),
            })
        })
        .await
    }

    /// A member of a StatefulSet comes back under its own name; one of a Deployment under another, so then
    /// the controller's ready pods are counted.
    async fn await_replaced(&self, pod: &PodRef, controller: &str) -> Result<Applied, ClusterError> {
        let what = format!("a ready replacement of pod {}/{} by {controller}", pod.namespace, pod.name);
        poll_until(&what, REPLACED_DEADLINE, || async {
            let found = self.pods(&pod.namespace).get_opt(&pod.name).await;
            let found = found.map_err(ClusterError::api(format!("read pod {}", pod.name)))?;
            Ok(match found.as_ref().map(pod_info) {
                Some(same) if same.uid == pod.uid && !same.terminating => {
                    if same.ready {
                        Ok(Applied::AlreadyClean(format!("pod {} was never deleted", pod.name)))
                    } else {
                        Err(format!("pod {} has its old uid and is not ready", pod.name))
                    }
                }
                Some(same) if same.uid == pod.uid => Err(format!("pod {} is terminating", pod.name)),
                Some(other) if other.ready => {
                    Ok(Applied::Done(format!("pod {} is ready under uid {}", pod.name, other.uid)))
                }
                Some(other) => Err(format!("pod {} has a new uid and is not ready", other.name)),
                None if controller.starts_with("StatefulSet/") => {
                    Err(format!("pod {} is not there", pod.name))
                }
                None => self.replica_set_full(pod, controller).await?,
            })
        })
        .await
    }

    /// By its pods, not by its status: that may still count the pod which has just gone.
    async fn replica_set_full(
        &self,
        gone: &PodRef,
        controller: &str,
    ) -> Result<Result<Applied, String>, ClusterError> {
        let name = controller.split_once('/').map_or(controller, |(_, name)| name);
        let sets =
            Api::<k8s_openapi::api::apps::v1::ReplicaSet>::namespaced(self.client.clone(), &gone.namespace);
        let set = sets.get_opt(name).await.map_err(ClusterError::api(format!("read {controller}")))?;
        let Some(set) = set else { return Ok(Ok(Applied::AlreadyClean(format!("{controller} is gone")))) };
        let desired = set.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let pods = self.pods(&gone.namespace).list(&kube::api::ListParams::default().limit(2000)).await;
        let pods = pods.map_err(ClusterError::api(format!("list the pods of {controller}")))?;
        let ready = pods.items.iter().map(pod_info).filter(|pod| {
            let ours = pod.controller.as_deref() == Some(controller) && pod.uid != gone.uid;
            ours && pod.ready && !pod.terminating
        });
        let ready = ready.count();
        Ok(if i32::try_from(ready).is_ok_and(|ready| ready >= desired) {
            Ok(Applied::Done(format!("{controller} has {ready} of {desired} pods ready")))
        } else {
            Err(format!("{controller} has {ready} of {desired} pods ready"))
        })
    }

    async fn restore_node(&self, node: &str, how: NodeHow) -> Result<Applied, ClusterError> {
        let what = format!("restore node {node}");
        let power = self.power(&what)?;
        power.restore_node(node, how).await.map_err(|why| ClusterError::state(what, why))?;
        let nodes = Api::<Node>::all(self.client.clone());
        poll_until(&format!("node {node} to be ready"), NODE_READY_DEADLINE, || async {
            let found = nodes.get(node).await.map_err(ClusterError::api(format!("read node {node}")))?;
            Ok(if node_info(&found).ready { Ok(()) } else { Err("it is not ready".to_owned()) })
        })
        .await?;
        Ok(Applied::Done(format!("node {node} is ready")))
    }

    /// What of ours is still there: nodes that are off, servers that are stopped, objects that bear our marks, agents that
    /// are alive.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn residue(&self, namespace: &str) -> Result<Vec<String>, ClusterError> {
        let mut residue = Vec::new();
        if let Some(power) = &self.power {
            let broken = power.broken().await;
            residue.extend(broken.map_err(|why| ClusterError::state("read which nodes are off", why))?);
        }
        let touched = object::touched(&self.client, namespace).await?;
        residue.extend(touched.into_iter().map(|object| format!("{object} bears an edit of ours")));
        let pods = self.pods(namespace).list(&kube::api::ListParams::default().limit(2000)).await;
        let pods = pods.map_err(ClusterError::api(format!("list pods of {namespace}")))?;
        for pod in &pods.items {
            let PodInfo { name, .. } = pod_info(pod);
            residue.extend(
                agent::alive_in(pod).map(|agent| format!("agent {agent} is alive in pod {namespace}/{name}")),
            );
        }
        Ok(residue)
    }

    fn power(&self, what: &str) -> Result<&Arc<dyn Power>, ClusterError> {
        self.power.as_ref().ok_or_else(|| {
            ClusterError::state(
                what,
                "this provider has no power over its nodes; use --cluster local, kind or k3d",
            )
        })
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// A deletion of this pod and of no other of its name.
fn pinned(pod: &PodRef, grace_seconds: u32) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(grace_seconds),
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    }
}
