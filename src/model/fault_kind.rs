//! The catalogue's names, and what each fault takes. What a fault does is in `fault/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a fault's selector is resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Pods,
    /// Deployments and StatefulSets of the selected pods.
    Workloads,
    Nodes,
    /// Objects of the API that belong to the selected component: services, routes, rules, bindings.
    Objects,
    /// The cluster itself: no target is given.
    Cluster,
}

/// How a fault is used in a file.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub on: On,
    /// It lasts until it is reverted; else it is over when it was done.
    pub held: bool,
    /// Fields of `with` that it takes.
    pub takes: &'static [&'static str],
    /// Of these, the ones that it cannot do without.
    pub needs: &'static [&'static str],
}

macro_rules! kinds {
    ($($variant:ident $name:literal $on:ident $held:literal [$($takes:literal)*] [$($needs:literal)*];)*) => {
        /// The faults of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum FaultKind {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl FaultKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            #[must_use]
            pub fn shape(self) -> Shape {
                match self {
                    $(Self::$variant => {
                        Shape { on: On::$on, held: $held, takes: &[$($takes,)* $($needs,)*], needs: &[$($needs,)*] }
                    })*
                }
            }
        }
    };
}

kinds! {
    // pods and processes
    PodKill "pod-kill" Pods false [] [];
    PodEvict "pod-evict" Pods false [] [];
    ContainerKill "container-kill" Pods false [] [];
    ProcessKill "process-kill" Pods false [] [];
    ProcessPause "process-pause" Pods true [] [];
    // workloads
    CrashLoop "crash-loop" Workloads true [] [];
    ImageBroken "image-broken" Workloads true [] [];
    ReadinessBroken "readiness-broken" Workloads true [] [];
    LivenessBroken "liveness-broken" Workloads true [] [];
    ScaleDown "scale-down" Workloads true ["replicas"] [];
    RollingRestart "rolling-restart" Workloads false [] [];
    // nodes and zones
    NodeKill "node-kill" Nodes true [] [];
    NodeFreeze "node-freeze" Nodes true [] [];
    NodeIsolate "node-isolate" Nodes true [] [];
    NodeCordon "node-cordon" Nodes true [] [];
    NodeTaint "node-taint" Nodes true [] [];
    NodeDrain "node-drain" Nodes true [] [];
    ZoneLoss "zone-loss" Nodes true [] [];
    // resources
    CpuStress "cpu-stress" Pods true ["workers"] [];
    MemoryStress "memory-stress" Pods true [] ["mib"];
    MemoryOom "memory-oom" Pods true [] [];
    DiskFill "disk-fill" Pods true ["mib" "leaveMib"] ["path"];
    ConnectionFlood "connection-flood" Pods true [] ["port" "connections"];
    // network, from inside the target's network namespace
    NetPartition "net-partition" Pods true ["peers" "apiServer" "port" "direction"] [];
    NetLoss "net-loss" Pods true ["peers" "apiServer" "port" "direction"] ["percent"];
    NetReject "net-reject" Pods true ["peers" "apiServer" "port" "direction"] [];
    NetDelay "net-delay" Pods true ["jitterMs" "direction"] ["port" "delayMs"];
    NetBandwidth "net-bandwidth" Pods true ["direction"] ["port" "rateKib"];
    NetReset "net-reset" Pods true ["percent" "direction"] ["port"];
    NetHang "net-hang" Pods true ["percent" "direction"] ["port"];
    NetSlowClose "net-slow-close" Pods true ["direction"] ["port" "delayMs"];
    HttpRespond "http-respond" Pods true ["percent" "status"] ["port"];
    DnsFail "dns-fail" Pods true ["domain"] [];
    DnsDrop "dns-drop" Pods true ["domain"] [];
    DnsWrong "dns-wrong" Pods true ["domain"] ["address"];
    DnsSlow "dns-slow" Pods true ["domain"] ["delayMs"];
    // objects of the API
    EndpointsLost "endpoints-lost" Objects true [] [];
    NetworkPolicyDeny "network-policy-deny" Objects true ["direction"] ["port"];
    RbacRevoked "rbac-revoked" Objects true [] [];
    CertificateExpired "certificate-expired" Objects true [] ["secret" "port"];
    // mesh
    MeshDelay "mesh-delay" Objects true ["percent" "header"] ["delayMs"];
    MeshAbort "mesh-abort" Objects true ["percent" "status" "header"] [];
    MeshRouteLost "mesh-route-lost" Objects true [] [];
    MeshPoolTiny "mesh-pool-tiny" Objects true [] [];
    MeshPlaintext "mesh-plaintext" Objects true [] [];
    MeshDeny "mesh-deny" Objects true [] [];
    // PostgreSQL and PgBouncer
    PostgresSwitchover "postgres-switchover" Pods false [] [];
    PostgresReplayPause "postgres-replay-pause" Pods true [] [];
    PostgresDisconnect "postgres-disconnect" Pods false [] [];
    PgbouncerPause "pgbouncer-pause" Pods true [] [];
    // Redis
    RedisFailover "redis-failover" Pods false [] [];
    RedisClientPause "redis-client-pause" Pods true [] [];
    RedisMemoryFull "redis-memory-full" Pods true ["leaveMib"] [];
    // RabbitMQ, Celery
    RabbitmqMemoryAlarm "rabbitmq-memory-alarm" Pods true [] [];
    RabbitmqDiskAlarm "rabbitmq-disk-alarm" Pods true [] [];
    RabbitmqStopApp "rabbitmq-stop-app" Pods true [] [];
    // the control plane
    ApiServerPause "api-server-pause" Cluster true [] [];
    SchedulerPause "scheduler-pause" Cluster true [] [];
    ControllerManagerPause "controller-manager-pause" Cluster true [] [];
    EtcdPause "etcd-pause" Cluster true [] [];
    DnsServerPause "dns-server-pause" Cluster true [] [];
}
