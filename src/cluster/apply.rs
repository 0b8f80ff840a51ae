//! The one place that mutates the cluster during a run. Callers have journalled what they ask for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::Mutex;

use super::agent::{self, Attached};
use super::read::{node_info, pod_info};
use super::{ClusterError, poll_until};
use crate::model::{Change, PodInfo, PodRef, Undo};

/// Power over nodes, where the provider has it. Both are idempotent.
pub trait NodePower: Send + Sync {
    fn kill<'a>(&'a self, node: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
    fn start<'a>(&'a self, node: &'a str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
    /// Nodes that are off.
    fn off(&self) -> Result<Vec<String>, String>;
}

const REPLACED_DEADLINE: Duration = Duration::from_secs(150);
const NODE_READY_DEADLINE: Duration = Duration::from_secs(120);

/// How an undo ended: what was done, or why it must not be.
pub enum Applied {
    Done(String),
    AlreadyClean(String),
}

pub struct Applier {
    client: Client,
    power: Option<Arc<dyn NodePower>>,
    agent_image: String,
    /// Agents that this process feeds with heartbeats, by name.
    agents: Mutex<BTreeMap<String, Attached>>,
}

impl Applier {
    #[must_use]
    pub fn new(client: Client, power: Option<Arc<dyn NodePower>>, agent_image: String) -> Self {
        Self { client, power, agent_image, agents: Mutex::new(BTreeMap::new()) }
    }

    /// Makes one change. `said` receives what an agent says.
    ///
    /// # Errors
    /// When the cluster refuses; then it may still have happened.
    pub async fn apply(
        &self,
        change: &Change,
        said: impl Fn(&str, String) + Send + 'static,
    ) -> Result<(), ClusterError> {
        match change {
            Change::DeletePod { pod, grace_seconds } => self.delete_pod(pod, *grace_seconds).await,
            Change::KillNode { node } => {
                let power = self.power(&format!("kill node {node}"))?;
                power.kill(node).await.map_err(|why| ClusterError::state(format!("kill node {node}"), why))
            }
            Change::PauseProcess { pod, container, process, agent: name, ttl_seconds } => {
                let start = agent::Start {
                    pod,
                    container,
                    name,
                    image: &self.agent_image,
                    arguments: agent::pause_arguments(process, *ttl_seconds),
                };
                let attached = agent::start(&self.client, start, said).await?;
                self.agents.lock().await.insert(name.clone(), attached);
                Ok(())
            }
        }
    }

    async fn delete_pod(&self, pod: &PodRef, grace_seconds: u32) -> Result<(), ClusterError> {
        let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let parameters = DeleteParams {
            grace_period_seconds: Some(grace_seconds),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let what = format!("delete pod {}/{}", pod.namespace, pod.name);
        self.pods(&pod.namespace).delete(&pod.name, &parameters).await.map_err(ClusterError::api(what))?;
        Ok(())
    }

    /// Undoes one change: idempotent, tolerant of one that never happened.
    ///
    /// # Errors
    /// When it is not undone within its deadline.
    pub async fn undo(&self, undo: &Undo) -> Result<Applied, ClusterError> {
        match undo {
            Undo::AwaitReplaced { pod, controller } => self.await_replaced(pod, controller).await,
            Undo::StartNode { node } => self.start_node(node).await,
            Undo::ResumeProcess { pod, agent: name, .. } => {
                if let Some(attached) = self.agents.lock().await.remove(name) {
                    attached.resume().await;
                }
                agent::await_ended(&self.client, pod, name).await.map(Applied::Done)
            }
        }
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
                None => self.replica_set_full(&pod.namespace, controller).await?,
            })
        })
        .await
    }

    async fn replica_set_full(
        &self,
        namespace: &str,
        controller: &str,
    ) -> Result<Result<Applied, String>, ClusterError> {
        let name = controller.split_once('/').map_or(controller, |(_, name)| name);
        let sets = Api::<k8s_openapi::api::apps::v1::ReplicaSet>::namespaced(self.client.clone(), namespace);
        let set = sets.get(name).await.map_err(ClusterError::api(format!("read {controller}")))?;
        let desired = set.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let ready = set.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        Ok(if ready >= desired {
            Ok(Applied::Done(format!("{controller} has {ready} of {desired} pods ready")))
        } else {
            Err(format!("{controller} has {ready} of {desired} pods ready"))
        })
    }

    async fn start_node(&self, node: &str) -> Result<Applied, ClusterError> {
        let what = format!("start node {node}");
        let power = self.power(&what)?;
        power.start(node).await.map_err(|why| ClusterError::state(what, why))?;
        let nodes = Api::<Node>::all(self.client.clone());
        poll_until(&format!("node {node} to be ready"), NODE_READY_DEADLINE, || async {
            let found = nodes.get(node).await.map_err(ClusterError::api(format!("read node {node}")))?;
            Ok(if node_info(&found).ready { Ok(()) } else { Err("it is not ready".to_owned()) })
        })
        .await?;
        Ok(Applied::Done(format!("node {node} is ready")))
    }

    /// What of ours is still there: nodes that are off, agents that are alive.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn residue(&self, namespace: &str) -> Result<Vec<String>, ClusterError> {
        let mut residue = Vec::new();
        if let Some(power) = &self.power {
            let off = power.off().map_err(|why| ClusterError::state("read which nodes are off", why))?;
            residue.extend(off.into_iter().map(|node| format!("node {node} is off")));
        }
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

    fn power(&self, what: &str) -> Result<&Arc<dyn NodePower>, ClusterError> {
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
