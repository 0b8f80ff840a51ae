//! Actions that take back what an earlier one did: in mettle, the end of one of its own faults.

use serde_json::Value;

use super::actions::component;
use super::fields::Fields;
use crate::model::{FaultKind, FaultSpec};

pub const NOTHING: &str =
    "takes back nothing that mettle has done by then: http and process can undo what they did, too";

pub const SEVERAL: &str = "takes back several faults of this method at once, and mettle one at a time: leave all but one of them out";

/// What an action takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undoes {
    /// This fault of the script.
    Fault(usize),
    /// It would take something back, but mettle did no such thing.
    Nothing(String),
    /// It would take back several at once.
    Several(String),
}

impl Undoes {
    /// Nothing at all when the action is none of these. The one fault of the kind on the same object is
    /// meant.
    pub fn of(
        name: &str,
        arguments: &mut Fields,
        namespace: &str,
        faults: &[FaultSpec],
        open: &[usize],
    ) -> Option<Self> {
        use FaultKind::{MeshAbort, MeshDelay, NodeCordon, NodeDrain, ScaleDown};
        let (kinds, key): (&[FaultKind], &str) = match name {
            "chaosk8s.node.actions.uncordon_node" => (&[NodeCordon, NodeDrain], "name"),
            "chaosistio.fault.actions.remove_delay_fault" => (&[MeshDelay], "virtual_service_name"),
            "chaosistio.fault.actions.remove_abort_fault" => (&[MeshAbort], "virtual_service_name"),
            "chaosistio.fault.actions.unset_fault" => (&[MeshDelay, MeshAbort], "virtual_service_name"),
            "chaosk8s.deployment.actions.scale_deployment"
            | "chaosk8s.statefulset.actions.scale_statefulset" => (&[ScaleDown], "name"),
            _ => return None,
        };
        let on = arguments.get(key).and_then(Value::as_str).unwrap_or_default();
        let same = |fault: &FaultSpec| match &fault.target.node {
            Some(node) => node == on,
            None => fault.target.component.is_some() && fault.target.component == component(on, namespace),
        };
        let found: Vec<_> = faults
            .iter()
            .enumerate()
            .filter(|(index, fault)| kinds.contains(&fault.kind) && same(fault) && open.contains(index))
            .collect();
        let replicas = arguments.get("replicas").and_then(Value::as_u64);
        let undoes = match found[..] {
            // Fewer than before is another fault, and none of fewer is none of taking back.
            [(_, fault)] if fault.kind == ScaleDown && replicas <= fault.with.replicas.map(u64::from) => None,
            [(index, _)] => Some(Self::Fault(index)),
            [] if kinds == [ScaleDown] => None,
            [] => Some(Self::Nothing(name.to_owned())),
            _ => Some(Self::Several(name.to_owned())),
        };
        if undoes.is_some() {
            // They say where, and not what.
            for key in ["ns", "version", "routes", "timeout", "label_selector"] {
                arguments.get(key);
            }
        }
        undoes
    }
}
