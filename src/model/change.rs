//! One mutation of the cluster and its inverse, both as data: planned purely, applied in one place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pod pinned by uid: a pod of the same name that replaced it is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// One mutation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Delete the pod; with a grace of 0 the kubelet kills at once.
    DeletePod { pod: PodRef, grace_seconds: u32 },
    /// Power the node off.
    KillNode { node: String },
    /// Stop every process of the container that runs `process` (SIGSTOP), by an agent that
    /// continues them itself when it loses us or after `ttl_seconds`.
    PauseProcess { pod: PodRef, container: String, process: String, agent: String, ttl_seconds: u32 },
}

/// The inverse of a change. Idempotent, and tolerant of a change that never happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// A deleted pod comes back through its controller: wait until it is there and Ready under a new uid.
    AwaitReplaced { pod: PodRef, controller: String },
    /// Power the node on and wait until it is Ready.
    StartNode { node: String },
    /// Continue what the agent stopped and wait until the agent has ended.
    ResumeProcess { pod: PodRef, container: String, process: String, agent: String },
}

impl Change {
    /// For people: `delete pod ai-platform/x (uid …) with grace 0 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::DeletePod { pod, grace_seconds } => {
                format!("delete pod {}/{} with {grace_seconds} s of grace", pod.namespace, pod.name)
            }
            Self::KillNode { node } => format!("kill node {node}"),
            Self::PauseProcess { pod, container, process, ttl_seconds, .. } => format!(
                "pause {process} in {}/{} (container {container}) for at most {ttl_seconds} s",
                pod.namespace, pod.name
            ),
        }
    }
}

impl Undo {
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::AwaitReplaced { pod, controller } => {
                format!("await that {controller} replaces pod {}/{}", pod.namespace, pod.name)
            }
            Self::StartNode { node } => format!("start node {node}"),
            Self::ResumeProcess { pod, process, .. } => {
                format!("resume {process} in {}/{}", pod.namespace, pod.name)
            }
        }
    }
}
