//! What the cluster looked like at one moment. Faults are planned against it, purely.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectRef;

/// A part of the stack, by the label `app.kubernetes.io/name` of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    Postgres,
    Pgbouncer,
    Redis,
    Zookeeper,
    Kafka,
    Rabbitmq,
    Celery,
    Auth,
    Model,
    Inference,
    Decision,
    Gateway,
    Edge,
    EdgeShield,
    Prometheus,
    Alertmanager,
    Zipkin,
    Backend,
    Frontend,
}

/// How a component says who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody does, or nobody can be asked.
    None,
    /// One member leads the whole, or its shard.
    Whole,
    /// Each partition or queue is led by a member of its own.
    Parts,
}

impl Component {
    #[must_use]
    pub fn leadership(self) -> Leadership {
        match self {
            Self::Postgres | Self::Redis | Self::Zookeeper => Leadership::Whole,
            Self::Kafka | Self::Rabbitmq => Leadership::Parts,
            _ => Leadership::None,
        }
    }

    /// Whether its own counters say how often it was asked: its callers have no proxy that would.
    #[must_use]
    pub fn counts_itself(self) -> bool {
        matches!(self, Self::Frontend | Self::EdgeShield)
    }

    pub const ALL: [Self; 19] = [
        Self::Postgres,
        Self::Pgbouncer,
        Self::Redis,
        Self::Zookeeper,
        Self::Kafka,
        Self::Rabbitmq,
        Self::Celery,
        Self::Auth,
        Self::Model,
        Self::Inference,
        Self::Decision,
        Self::Gateway,
        Self::Edge,
        Self::EdgeShield,
        Self::Prometheus,
        Self::Alertmanager,
        Self::Zipkin,
        Self::Backend,
        Self::Frontend,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Pgbouncer => "pgbouncer",
            Self::Redis => "redis",
            Self::Zookeeper => "zookeeper",
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq",
            Self::Celery => "celery",
            Self::Auth => "auth",
            Self::Model => "model",
            Self::Inference => "inference",
            Self::Decision => "decision",
            Self::Gateway => "gateway",
            Self::Edge => "edge",
            Self::EdgeShield => "edge-shield",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
            Self::Zipkin => "zipkin",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
        }
    }

    /// Whether a host of the mesh, short or whole, is the component's service.
    #[must_use]
    pub fn is_host(self, host: &str) -> bool {
        let name = host.split('.').next().unwrap_or_default();
        name == self.as_str() || name.strip_prefix("ai-platform-") == Some(self.as_str())
    }

    /// The value of `app.kubernetes.io/name` on the component's pods.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.as_str() == label)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a member of a component is, in the component's own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Primary,
    Replica,
    Any,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Any => "any",
        }
    }
}

/// A pod's role as its server says it, with where the word comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFact {
    pub component: Component,
    pub role: Role,
    pub pod: String,
    /// Slots that a Redis primary owns, as inclusive ranges; empty elsewhere. A replica carries its primary's.
    pub slots: Vec<(u16, u16)>,
    /// Kafka and RabbitMQ, where a member has a role for each of many things: what it leads (`decisions/0`, `controller`, a
    /// queue's name), and what it follows in sync.
    #[serde(default)]
    pub leads: Vec<String>,
    #[serde(default)]
    pub follows: Vec<String>,
    /// For example `patroni: leader; pg_is_in_recovery = f`.
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInfo {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    pub ip: Option<String>,
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    pub labels: BTreeMap<String, String>,
    pub component: Option<Component>,
    /// `Kind/name` of the controller; a pod without one is never replaced.
    pub controller: Option<String>,
    /// Container name → container id and restart count.
    pub containers: BTreeMap<String, (String, i32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub name: String,
    pub ready: bool,
    pub unschedulable: bool,
    pub labels: BTreeMap<String, String>,
}

/// A Deployment or StatefulSet with how many pods it wants and has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadInfo {
    pub namespace: String,
    /// `Deployment/name` or `StatefulSet/name`.
    pub name: String,
    pub component: Option<Component>,
    pub desired: i32,
    pub ready: i32,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Names of its containers, in the order of the template.
    pub containers: Vec<String>,
}

impl WorkloadInfo {
    /// `Deployment` or `StatefulSet`, and the name.
    #[must_use]
    pub fn kind_and_name(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or(("Deployment", &self.name))
    }

    #[must_use]
    pub fn object(&self) -> ObjectRef {
        let (kind, name) = self.kind_and_name();
        ObjectRef::new("apps/v1", kind, Some(&self.namespace), name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    pub namespace: String,
    pub name: String,
    pub selector: BTreeMap<String, String>,
}

/// Another object that a fault may need to look into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    pub object: ObjectRef,
    pub component: Option<Component>,
    /// `spec`; of a RoleBinding its subjects.
    pub spec: serde_json::Value,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Namespace → labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub pods: Vec<PodInfo>,
    pub nodes: Vec<NodeInfo>,
    pub workloads: Vec<WorkloadInfo>,
    pub roles: Vec<RoleFact>,
    pub services: Vec<ServiceInfo>,
    /// VirtualServices, DestinationRules, RoleBindings.
    pub objects: Vec<ObjectInfo>,
}

impl Snapshot {
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&PodInfo> {
        self.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }
}
