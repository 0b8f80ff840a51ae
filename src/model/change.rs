//! One mutation of the cluster and its inverse, both as data: planned purely, applied in one place.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Edit, ObjectRef, Store};

/// A pod pinned by uid: a pod of the same name that replaced it is somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A claim of a volume, pinned by uid: one of the same name that was made after it is another volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// How the data of a store are made again from its backup: a Job out of a suspended CronJob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreRestore {
    pub store: Store,
    pub namespace: String,
    /// What the names of all of the drill's Jobs begin with.
    pub drill: String,
    /// Of the Job; one that is tried again after a failure bears a number behind it.
    pub job: String,
    /// What the Job is told.
    pub parameters: BTreeMap<String, String>,
    /// What it is told after it has failed once: as much as the repository has.
    pub fallback: BTreeMap<String, String>,
    /// As long as all of these are there, no data were destroyed. Empty: nobody can tell.
    pub claims: Vec<ClaimRef>,
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeHow {
    /// Its power is cut.
    Off,
    /// Every process on it stops; its link stays up.
    Freeze,
    /// Its link is cut; its processes go on.
    Isolate,
}

impl NodeHow {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Freeze => "freeze",
            Self::Isolate => "isolate",
        }
    }
}

/// A server of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControlPlanePart {
    Etcd,
    KubeApiserver,
    KubeScheduler,
    KubeControllerManager,
    Coredns,
}

impl ControlPlanePart {
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeScheduler, Self::KubeControllerManager, Self::Coredns];

    /// The name of its program.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Coredns => "coredns",
        }
    }
}

/// A command inside a container, without a shell unless it names one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub pod: PodRef,
    pub container: String,
    pub line: Vec<String>,
}

/// How the effect of a change is seen from outside its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "look", rename_all = "kebab-case")]
pub enum Look {
    /// What these commands print is `name: number` lines. They are read before the change, and after it until their sum
    /// is greater.
    Grows { commands: Vec<Command> },
    /// None of these addresses takes a connection any more.
    Unreachable { addresses: Vec<String> },
    /// The API server says no to somebody whom this binding gave a right, and said yes before.
    Denied { binding: ObjectRef },
    /// Servers at these addresses show certificates that have expired, and showed none before.
    Expired { addresses: Vec<String> },
    /// The node bears this taint, and did not before: another's answer to what was done to it.
    Tainted { node: String, key: String },
}

/// One mutation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Delete the pod; with a grace of 0 the kubelet kills at once.
    DeletePod {
        pod: PodRef,
        grace_seconds: u32,
    },
    /// Evict the pod, as a drain does: a disruption budget may refuse.
    EvictPod {
        pod: PodRef,
        grace_seconds: u32,
    },
    NodePower {
        node: String,
        how: NodeHow,
    },
    /// Start an agent beside the container's processes. It undoes itself when it loses us or after `ttl_seconds`.
    Agent {
        pod: PodRef,
        container: String,
        agent: String,
        arguments: Vec<String>,
        /// It changes the pod's network: it is root with the right to administer that, and nothing else.
        network: bool,
        ttl_seconds: u32,
    },
    /// Change fields of an object. What they were is kept in an annotation of the object itself.
    Edit {
        object: ObjectRef,
        edits: Vec<Edit>,
        look: Option<Look>,
    },
    /// Make an object that bears the run's id.
    Create {
        object: ObjectRef,
        manifest: Value,
        look: Option<Look>,
    },
    /// Run a command in a container.
    /// It prints a line that begins with `effect` when it has seen its own effect.
    Exec {
        command: Command,
    },
    PauseControlPlane {
        part: ControlPlanePart,
    },
    /// The volumes of a store, and the pods that use them, all at once. What was on them is lost.
    DestroyVolumes {
        store: Store,
        claims: Vec<ClaimRef>,
        pods: Vec<PodRef>,
    },
}

/// The inverse of a change. Idempotent, and tolerant of a change that never happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// A deleted pod comes back through its controller: wait until it is there and Ready under a new uid.
    AwaitReplaced {
        pod: PodRef,
        controller: String,
    },
    /// A container that was killed is started again by the kubelet: wait until its pod is Ready, and until the agent that
    /// did it, if one did, has ended.
    AwaitReady {
        pod: PodRef,
        agent: Option<String>,
    },
    /// Undo what was done to the node and wait until it is Ready.
    RestoreNode {
        node: String,
        how: NodeHow,
    },
    /// Tell the agent to undo its work, and wait until it has ended. One that was killed could not: another, with the
    /// arguments `clean`, does it then.
    EndAgent {
        pod: PodRef,
        container: String,
        agent: String,
        clean: Vec<String>,
        network: bool,
    },
    /// Put the object's fields back, and wait until its pods are as they were when it is a workload.
    Restore {
        object: ObjectRef,
    },
    /// A rollout that was started comes to its end by itself.
    AwaitRollout {
        object: ObjectRef,
    },
    /// Delete the object that was made.
    Delete {
        object: ObjectRef,
    },
    /// Run the inverse command; nothing is left where the pod is gone.
    Exec {
        command: Command,
    },
    ResumeControlPlane {
        part: ControlPlanePart,
    },
    /// Make a store's data again from its backup, and wait until all its members are ready.
    RestoreStore {
        restore: StoreRestore,
    },
}

impl Change {
    /// For people: `delete pod ai-platform/x with 0 s of grace`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::DeletePod { pod, grace_seconds } => {
                format!("delete pod {pod} with {grace_seconds} s of grace")
            }
            Self::EvictPod { pod, grace_seconds } => {
                format!("evict pod {pod} with {grace_seconds} s of grace")
            }
            Self::NodePower { node, how: NodeHow::Off } => format!("kill node {node}"),
            Self::NodePower { node, how } => format!("{} node {node}", how.as_str()),
            Self::Agent { pod, container, arguments, ttl_seconds, .. } => format!(
                "run agent '{}' in {pod} (container {container}) for at most {ttl_seconds} s",
                arguments.join(" ")
            ),
            Self::Edit { object, edits, .. } => {
                let edits: Vec<String> = edits.iter().map(Edit::describe).collect();
                format!("edit {object}: {}", edits.join("; "))
            }
            Self::Create { object, .. } => format!("create {object}"),
            Self::Exec { command, .. } => command.describe(),
            Self::PauseControlPlane { part } => format!("pause {}", part.as_str()),
            Self::DestroyVolumes { store, claims, pods } => format!(
                "destroy {} volumes of {} under its {} pods",
                claims.len(),
                store.as_str(),
                pods.len()
            ),
        }
    }

    /// The pod that it is on, when it is on one.
    #[must_use]
    pub fn pod(&self) -> Option<&PodRef> {
        match self {
            Self::DeletePod { pod, .. } | Self::EvictPod { pod, .. } | Self::Agent { pod, .. } => Some(pod),
            Self::Exec { command, .. } => Some(&command.pod),
            Self::NodePower { .. }
            | Self::Edit { .. }
            | Self::Create { .. }
            | Self::PauseControlPlane { .. }
            | Self::DestroyVolumes { .. } => None,
        }
    }

    /// Under which name its own look reports, as an agent does.
    #[must_use]
    pub fn reporter(&self) -> String {
        match self {
            Self::Agent { agent, .. } => agent.clone(),
            other => other.describe(),
        }
    }
}

impl Command {
    fn describe(&self) -> String {
        format!("run '{}' in {} (container {})", self.line.join(" "), self.pod, self.container)
    }
}

impl Undo {
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::AwaitReplaced { pod, controller } => {
                format!("await that {controller} replaces pod {pod}")
            }
            Self::AwaitReady { pod, .. } => format!("await that pod {pod} is ready again"),
            Self::RestoreNode { node, how: NodeHow::Off } => format!("start node {node}"),
            Self::RestoreNode { node, how: NodeHow::Freeze } => format!("thaw node {node}"),
            Self::RestoreNode { node, how: NodeHow::Isolate } => format!("connect node {node}"),
            Self::EndAgent { pod, agent, .. } => format!("end agent {agent} in {pod}"),
            Self::Restore { object } => format!("restore {object}"),
            Self::AwaitRollout { object } => format!("await the rollout of {object}"),
            Self::Delete { object } => format!("delete {object}"),
            Self::Exec { command } => command.describe(),
            Self::ResumeControlPlane { part } => format!("resume {}", part.as_str()),
            Self::RestoreStore { restore } => {
                format!("restore {} from its backup by job {}", restore.store.as_str(), restore.job)
            }
        }
    }

    /// It only waits for a controller, so it comes after what acts: a pod that is bound to a node which is off is not
    /// replaced before the node is on.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        match self {
            Self::AwaitReplaced { .. } | Self::AwaitReady { .. } | Self::AwaitRollout { .. } => true,
            Self::RestoreNode { .. }
            | Self::EndAgent { .. }
            | Self::Restore { .. }
            | Self::Delete { .. }
            | Self::Exec { .. }
            | Self::ResumeControlPlane { .. }
            | Self::RestoreStore { .. } => false,
        }
    }

    /// Without it nothing else can be undone: the servers that the others are undone through.
    #[must_use]
    pub fn comes_first(&self) -> bool {
        matches!(self, Self::ResumeControlPlane { .. })
    }
}
