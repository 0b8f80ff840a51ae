//! One file a way to break things, one row of the catalogue a fault. Pure: a snapshot in, changes and their undo out; a
//! timeline in, evidence out. How a new one is added: docs/adding-a-fault.md.

mod agents;
mod catalogue;
mod commands;
mod control_plane;
mod evidence;
mod guard;
mod mesh;
mod nodes;
mod objects;
mod pods;
mod rights;
mod select;
mod slot;
mod workload;

#[cfg(test)]
mod testing;

pub use catalogue::{FaultInfo, info};
pub use evidence::evidence;
pub use guard::{ALLOWED_LABEL, PROTECTED_LABELS, guard};
pub use objects::RUN_LABEL;
pub use rights::{Right, always, rights, watching};
pub use select::PlanError;
pub use slot::key_slot;

use rand_chacha::ChaCha8Rng;

use crate::model::{FaultKind, FaultSpec, PlannedFault, RunId, Snapshot};

/// What carries a fault out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pods,
    Agents,
    Workloads,
    Nodes,
    Objects,
    Commands,
    ControlPlane,
}

fn way(kind: FaultKind) -> Way {
    use FaultKind::*;
    match kind {
        PodKill | PodEvict => Way::Pods,
        CrashLoop | ImageBroken | ReadinessBroken | LivenessBroken | ScaleDown | RollingRestart => {
            Way::Workloads
        }
        NodeKill | NodeFreeze | NodeIsolate | NodeCordon | NodeTaint | NodeDrain | ZoneLoss => Way::Nodes,
        EndpointsLost | NetworkPolicyDeny | RbacRevoked | CertificateExpired | MeshDelay | MeshAbort
        | MeshRouteLost | MeshPoolTiny | MeshPlaintext | MeshDeny => Way::Objects,
        PostgresSwitchover | PostgresReplayPause | PostgresDisconnect | PgbouncerPause | RedisFailover
        | RedisClientPause | RedisMemoryFull | RabbitmqMemoryAlarm | RabbitmqDiskAlarm | RabbitmqStopApp => {
            Way::Commands
        }
        ApiServerPause | SchedulerPause | ControllerManagerPause | EtcdPause | DnsServerPause => {
            Way::ControlPlane
        }
        ContainerKill | ProcessKill | ProcessPause | CpuStress | MemoryStress | MemoryOom | DiskFill
        | ConnectionFlood | NetPartition | NetLoss | NetReject | NetDelay | NetBandwidth | NetReset
        | NetHang | NetSlowClose | HttpRespond | DnsFail | DnsDrop | DnsWrong | DnsSlow => Way::Agents,
    }
}

#[cfg(test)]
fn is_command(kind: FaultKind) -> bool {
    way(kind) == Way::Commands
}

/// Resolves one fault against a snapshot. The same snapshot and generator give the same targets.
///
/// # Errors
/// When the selector matches nothing, or too little: a fault without a target is never a success.
pub fn plan(
    run: &RunId,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<PlannedFault, PlanError> {
    let changes = match way(spec.kind) {
        Way::Pods => pods::changes(spec, snapshot, random)?,
        Way::Agents => agents::changes(run, index, spec, snapshot, random)?,
        Way::Workloads => workload::changes(&run.0, spec, snapshot, random)?,
        Way::Nodes => nodes::changes(spec, snapshot, random)?,
        Way::Objects => objects::changes(&run.0, index, spec, snapshot)?,
        Way::Commands => commands::changes(spec, snapshot, random)?,
        Way::ControlPlane => control_plane::changes(spec)?,
    };
    Ok(PlannedFault {
        index,
        kind: spec.kind,
        at_ms: u64::from(spec.at_seconds) * 1000,
        hold_ms: u64::from(spec.hold_seconds) * 1000,
        changes,
    })
}
