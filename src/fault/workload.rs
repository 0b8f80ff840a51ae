//! Faults in the template or the size of a Deployment or StatefulSet. The object itself keeps what its fields were.

use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{PlanError, select};
use crate::model::{Change, Edit, FaultKind, FaultSpec, PlannedChange, Snapshot, Target, Undo, WorkloadInfo};

/// A registry that cannot exist (RFC 6761): nobody is asked for it.
const NO_IMAGE: &str = "mettle.invalid/none:0";
/// Nothing listens on it.
const NO_PORT: u16 = 1;

pub fn changes(
    run: &str,
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    let targets = select::workloads(&spec.target, snapshot, random)?;
    targets.into_iter().map(|(workload, target)| change(run, spec, workload, target)).collect()
}

fn change(
    run: &str,
    spec: &FaultSpec,
    workload: &WorkloadInfo,
    target: Target,
) -> Result<PlannedChange, PlanError> {
    let object = workload.object();
    let container = container(workload, &target)?;
    let in_container = |field: &str| format!("/spec/template/spec/containers/{container}/{field}");
    let refused = json!({ "tcpSocket": { "port": NO_PORT }, "periodSeconds": 1, "failureThreshold": 1 });
    let edits = match spec.kind {
        FaultKind::ScaleDown => vec![Edit::set("/spec/replicas", spec.with.replicas.unwrap_or(0))],
        FaultKind::ImageBroken => vec![Edit::set(in_container("image"), NO_IMAGE)],
        FaultKind::CrashLoop => vec![Edit::set(in_container("command"), json!(["/mettle-no-such-program"]))],
        FaultKind::ReadinessBroken => vec![Edit::set(in_container("readinessProbe"), refused)],
        FaultKind::LivenessBroken => vec![
            Edit::set(in_container("livenessProbe"), refused),
            // Else the kubelet waits for this one first, and never asks the other.
            Edit::set(in_container("startupProbe"), serde_json::Value::Null),
        ],
        _ => vec![Edit::set("/spec/template/metadata/annotations/mettle.dev~1restarted-by", run)],
    };
    let undo = match spec.kind {
        FaultKind::RollingRestart => Undo::AwaitRollout { object: object.clone() },
        _ => Undo::Restore { object: object.clone() },
    };
    Ok(PlannedChange { target, change: Change::Edit { object, edits, look: None }, undo })
}

/// The main one bears the component's name; else the first.
fn container(workload: &WorkloadInfo, target: &Target) -> Result<usize, PlanError> {
    let named = workload.component.and_then(|component| {
        workload.containers.iter().position(|container| container == component.as_str())
    });
    let first = (!workload.containers.is_empty()).then_some(0);
    named.or(first).ok_or_else(|| PlanError::Lacks {
        fault: 0,
        object: target.object.clone(),
        what: "container".to_owned(),
    })
}

/// Whether a pod of this name belongs to the workload.
pub fn owns(kind: &str, workload: &str, pod: &str) -> bool {
    let Some(rest) = pod.strip_prefix(workload).and_then(|rest| rest.strip_prefix('-')) else { return false };
    match kind {
        "StatefulSet" => !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()),
        // The hash of the template, and five letters.
        _ => rest.split('-').count() == 2,
    }
}

#[cfg(test)]
mod tests {
    use super::owns;

    #[test]
    fn a_pod_is_told_by_its_name() {
        for (kind, workload, pod, expected) in [
            ("Deployment", "edge", "edge-5d8f-abcde", true),
            ("Deployment", "edge", "edge-shield-5d8f-abcde", false),
            ("StatefulSet", "redis", "redis-0", true),
            ("StatefulSet", "redis", "redis-0-x", false),
            ("StatefulSet", "redis", "redis-exporter-0", false),
        ] {
            assert_eq!(owns(kind, workload, pod), expected, "{workload} {pod}");
        }
    }
}
