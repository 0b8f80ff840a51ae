//! Faults on the servers of the control plane: they stop, as hung processes do, and go on.

use super::PlanError;
use crate::model::{Change, ControlPlanePart, FaultKind, FaultSpec, PlannedChange, Target, Undo};

pub fn changes(spec: &FaultSpec) -> Result<Vec<PlannedChange>, PlanError> {
    let part = match spec.kind {
        FaultKind::EtcdPause => ControlPlanePart::Etcd,
        FaultKind::SchedulerPause => ControlPlanePart::KubeScheduler,
        FaultKind::ControllerManagerPause => ControlPlanePart::KubeControllerManager,
        FaultKind::DnsServerPause => ControlPlanePart::Coredns,
        _ => ControlPlanePart::KubeApiserver,
    };
    let target = Target {
        object: format!("control-plane/{}", part.as_str()),
        node: None,
        component: None,
        role: None,
        because: "the cluster has one".to_owned(),
    };
    Ok(vec![PlannedChange {
        target,
        change: Change::PauseControlPlane { part },
        undo: Undo::ResumeControlPlane { part },
    }])
}
