//! `PodChaos`, and which container of a pod is meant.

use serde_json::Value;

use super::fields::Fields;
use super::{Out, fault_of};
use crate::model::{FaultKind, FaultSpec, TargetSpec};

pub fn fault(fields: &mut Fields, out: &mut Out) -> Option<FaultSpec> {
    let path = fields.at("action");
    match fields.text("action", out) {
        Some("pod-kill") => {
            let mut fault = fault_of(FaultKind::PodKill);
            fault.grace_seconds = fields.whole("gracePeriod", out).unwrap_or(0);
            fields.note_given("containerNames", "has no meaning: the whole pod is killed", out);
            Some(fault)
        }
        Some("container-kill") => {
            fields.note_given("gracePeriod", "has no meaning with container-kill", out);
            Some(fault_of(FaultKind::ContainerKill))
        }
        Some("pod-failure") => {
            let why = "pod-failure keeps a pod from working for a while, and mettle has nothing that is the same: \
                       process-pause hangs its server, crash-loop and image-broken keep new pods from starting";
            out.refuse(path, why);
            None
        }
        Some(other) => {
            out.refuse(path, format!("{other:?} is no action of PodChaos that mettle knows"));
            None
        }
        None => {
            out.refuse(path, "is missing");
            None
        }
    }
}

/// The agent works in the container that bears the component's name; another cannot be named.
pub fn container(fields: &mut Fields, target: &TargetSpec, out: &mut Out) {
    let path = fields.at("containerNames");
    let named = match fields.get("containerNames") {
        Some(Value::Array(names)) => names.as_slice(),
        Some(_) => return out.refuse(path, "must be a list"),
        None => &[],
    };
    match (named, target.component) {
        ([], Some(component)) => out.note(
            path,
            format!("names none: mettle hits the container {component}, or the only one, not the first"),
        ),
        ([], None) => out
            .note(path, "names none: mettle hits the component's container, or the only one, not the first"),
        ([name], Some(component)) if name.as_str() == Some(component.as_str()) => {}
        (_, Some(component)) => {
            let why = format!("mettle hits the component's own container: name only {component}, or none");
            out.refuse(path, why);
        }
        (_, None) => out.refuse(
            path,
            "mettle cannot pick a container by its name: select a component by app.kubernetes.io/name alone",
        ),
    }
}
