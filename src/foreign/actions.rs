//! Chaos Toolkit's actions, by module and function.

use super::fields::Fields;
use super::selector::{by_labels, equalities};
use super::{Out, fault_of, istio};
use crate::model::{Component, FaultKind, FaultSpec, TargetSpec};

/// What Kubernetes gives a pod that says nothing of it.
const GRACE_SECONDS: u32 = 30;

const BY_ITSELF: &str = "mettle reverts each fault by itself: take it out";

/// Actions that are refused with more than that there is no such thing.
const NO_SUCH: [(&str, &str); 11] = [
    (
        "chaosk8s.pod.actions.exec_in_pods",
        "mettle runs no command of yours in a pod: a fault of its catalogue may do it",
    ),
    ("chaosk8s.pod.actions.delete_pods", "deletes every pod that matches: use terminate_pods with qty"),
    ("chaosk8s.node.actions.uncordon_node", BY_ITSELF),
    (
        "chaosk8s.node.actions.delete_nodes",
        "a node that was deleted does not come back: node-kill powers one off",
    ),
    ("chaosk8s.node.actions.create_node", "is no fault: take it out"),
    ("chaosistio.fault.actions.remove_delay_fault", BY_ITSELF),
    ("chaosistio.fault.actions.remove_abort_fault", BY_ITSELF),
    ("chaosistio.fault.actions.unset_fault", BY_ITSELF),
    (
        "chaosistio.fault.actions.set_fault",
        "use add_delay_fault or add_abort_fault, which say what the fault is",
    ),
    ("chaosk8s.networking.actions.remove_deny_all_ingress", BY_ITSELF),
    ("chaosk8s.networking.actions.remove_deny_all_egress", BY_ITSELF),
];

const NO_PORT: &str = "network-policy-deny proves that a port is not reached any more, and the action names none: write a \
                       rehearsal with network-policy-deny and with.port";

/// The fault of an action; nothing when it is refused as a whole.
pub fn fault(
    name: &str,
    at: &str,
    arguments: &mut Fields,
    namespace: &str,
    out: &mut Out,
) -> Option<FaultSpec> {
    let fault = match name {
        "chaosk8s.pod.actions.terminate_pods" => pods(arguments, namespace, out),
        "chaosk8s.node.actions.drain_nodes" => {
            arguments.note_given("timeout", "mettle waits as long as its own revert does", out);
            arguments.note_given(
                "delete_pods_with_local_storage",
                "mettle evicts these pods, too: nothing of a volume of its own outlives a pod",
                out,
            );
            node(FaultKind::NodeDrain, arguments, out)
        }
        "chaosk8s.node.actions.cordon_node" => node(FaultKind::NodeCordon, arguments, out),
        "chaosk8s.deployment.actions.scale_deployment" | "chaosk8s.statefulset.actions.scale_statefulset" => {
            scale(arguments, namespace, out)
        }
        "chaosistio.fault.actions.add_delay_fault" => {
            istio::fault(FaultKind::MeshDelay, arguments, namespace, out)
        }
        "chaosistio.fault.actions.add_abort_fault" => {
            istio::fault(FaultKind::MeshAbort, arguments, namespace, out)
        }
        _ => {
            let known = NO_SUCH.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
            let denies = name.starts_with("chaosk8s.networking.actions.deny_all_").then_some(NO_PORT);
            let why = known
                .or(denies)
                .unwrap_or("has no equal in mettle's catalogue: `mettle list faults` names what there is");
            out.refuse(at, format!("{name}: {why}"));
            return None;
        }
    };
    Some(fault)
}

/// `ai-platform-redis` is a part of the stack.
pub fn component(name: &str, namespace: &str) -> Option<Component> {
    Component::from_label(name.strip_prefix(namespace)?.strip_prefix('-')?)
}

/// The stack's, and said so: without it the toolkit takes another.
pub fn namespace(arguments: &mut Fields, wanted: &str, out: &mut Out) {
    let path = arguments.at("ns");
    match arguments.text("ns", out) {
        Some(given) if given == wanted => {}
        Some(_) => out.refuse(path, format!("mettle's targets are in {wanted}, and nowhere else")),
        None => out.refuse(path, format!("is missing, so it is \"default\": name {wanted}")),
    }
}

fn pods(arguments: &mut Fields, wanted: &str, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::PodKill);
    namespace(arguments, wanted, out);
    let path = arguments.at("label_selector");
    match arguments.text("label_selector", out).filter(|text| !text.is_empty()) {
        Some(text) => match equalities(text) {
            Some(labels) => fault.target = by_labels(labels),
            None => out
                .refuse(path, format!("{text:?}: mettle takes labels as in a=b,c=d, and no other operator")),
        },
        None => out.refuse(path, "is missing: every pod of a namespace is no target; name labels"),
    }
    let why = "mettle does not pick pods by their name, which changes: use label_selector";
    arguments.refuse_given("name_pattern", why, out);
    if arguments.flag("all", out) {
        let why = "all is as many pods as there are, which is not known without a cluster: use qty";
        out.refuse(arguments.at("all"), why);
    }
    if !arguments.flag("rand", out) {
        out.note(arguments.at("rand"), "mettle draws the pods by its seed, and does not take the first");
    }
    if let Some(mode) = arguments.text("mode", out).filter(|mode| *mode != "fixed") {
        let why = format!("{mode:?}: a share of the pods is not known without a cluster: use fixed with qty");
        out.refuse(arguments.at("mode"), why);
    }
    fault.target.count = arguments.whole("qty", out).unwrap_or(1);
    if let Some(order) = arguments.text("order", out).filter(|order| *order != "alphabetic") {
        out.refuse(
            arguments.at("order"),
            format!("{order:?}: mettle draws the pods by its seed: take it out"),
        );
    }
    grace(&mut fault, arguments, out);
    fault
}

fn grace(fault: &mut FaultSpec, arguments: &mut Fields, out: &mut Out) {
    let path = arguments.at("grace_period");
    let own = arguments.get("grace_period").is_none_or(|value| value.as_i64() == Some(-1));
    if own {
        let why = format!(
            "leaves the pods their own time, and mettle gives one: {GRACE_SECONDS} s, as Kubernetes does when a pod says nothing"
        );
        out.note(path, why);
        fault.grace_seconds = GRACE_SECONDS;
    } else {
        fault.grace_seconds = arguments.whole("grace_period", out).unwrap_or(GRACE_SECONDS);
    }
}

fn node(kind: FaultKind, arguments: &mut Fields, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(kind);
    let path = arguments.at("name");
    match arguments.text("name", out).filter(|name| !name.is_empty()) {
        Some(name) => {
            fault.target = TargetSpec { node: Some(name.to_owned()), count: 1, ..TargetSpec::default() }
        }
        None => out.refuse(path, "is missing: name one node"),
    }
    for key in ["label_selector", "pod_label_selector", "pod_namespace"] {
        arguments.refuse_given(key, "mettle takes one node by its name: use name", out);
    }
    if let Some(count) = arguments.whole("count", out).filter(|count| *count != 1) {
        out.refuse(arguments.at("count"), format!("mettle takes one node by its name, not {count}"));
    }
    fault
}

fn scale(arguments: &mut Fields, wanted: &str, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(FaultKind::ScaleDown);
    namespace(arguments, wanted, out);
    let path = arguments.at("name");
    let name = arguments.text("name", out).unwrap_or_default();
    match component(name, wanted) {
        Some(component) => {
            out.note(path, format!("mettle finds it as the workload of component {component}"));
            fault.target = TargetSpec { component: Some(component), count: 1, ..TargetSpec::default() };
        }
        None => out.refuse(path, format!("{name:?} is not {wanted}- and a component that mettle knows")),
    }
    fault.with.replicas = arguments.whole("replicas", out);
    match fault.with.replicas {
        Some(_) => {
            let why =
                "mettle sees scale-down by pods that go: more replicas than there are would show nothing";
            out.note(arguments.at("replicas"), why);
        }
        None => arguments.needs("replicas", "is missing", out),
    }
    arguments.note_given("timeout", "mettle waits as long as its own revert does", out);
    fault
}
