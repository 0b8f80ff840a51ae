//! Documents of Chaos Mesh.

use serde_json::Value;

use super::fields::Fields;
use super::quantity::SECONDS;
use super::selector::{self, Scope};
use super::{Out, Surroundings, http, network, pods, stress, workflow};
use crate::model::{FaultKind, FaultSpec};

/// Names the port of faults that Chaos Mesh makes on every port, and mettle on one.
const PORT_ANNOTATION: &str = "mettle.dev/port";

/// Kinds that are translated, with their field in a workflow or a schedule.
pub const KINDS: [(&str, &str); 5] = [
    ("PodChaos", "podChaos"),
    ("NetworkChaos", "networkChaos"),
    ("StressChaos", "stressChaos"),
    ("DNSChaos", "dnsChaos"),
    ("HTTPChaos", "httpChaos"),
];

/// Kinds that are not, and why.
const NO_SUCH: [(&str, &str); 10] = [
    ("IOChaos", "mettle does not slow or break file access: disk-fill takes the space away"),
    ("TimeChaos", "mettle does not move clocks: docs/faults.md says why"),
    ("KernelChaos", "mettle does not fail calls of the kernel: process-kill and memory-oom are the nearest"),
    ("JVMChaos", "mettle does not change programs: process-pause, cpu-stress and http-respond work on any"),
    ("BlockChaos", "mettle does not slow devices: disk-fill takes the space away"),
    ("AWSChaos", "mettle's nodes are Kubernetes': use node-kill"),
    ("GCPChaos", "mettle's nodes are Kubernetes': use node-kill"),
    ("AzureChaos", "mettle's nodes are Kubernetes': use node-kill"),
    ("PhysicalMachineChaos", "mettle works on pods and nodes of Kubernetes: use node-kill or node-isolate"),
    ("StatusCheck", "mettle's checks are in expect of an experiment"),
];

/// Why a kind is refused.
pub fn no_such(kind: &str) -> String {
    let known = NO_SUCH.iter().find(|(name, _)| *name == kind).map(|(_, why)| (*why).to_owned());
    known.unwrap_or_else(|| format!("{kind:?} is no kind that mettle can translate"))
}

/// Name and description; faults and remarks go to `out`.
pub fn document(file: &Value, around: &Surroundings, out: &mut Out) -> (String, String) {
    let Some(mut fields) = Fields::of(file, "", out) else { return Default::default() };
    let version = fields.text("apiVersion", out).unwrap_or_default();
    if version != "chaos-mesh.org/v1alpha1" {
        out.refuse("apiVersion", format!("{version:?} is not chaos-mesh.org/v1alpha1"));
    }
    let kind = fields.text("kind", out).unwrap_or_default();
    let mut scope = Scope { namespace: around.namespace.clone(), ..Scope::default() };
    let name = metadata(&mut fields, &mut scope, out);
    fields.note_given("status", "what a cluster said of it has no meaning here", out);
    match (kind, fields.get("spec")) {
        (_, None) => out.refuse("spec", "is missing"),
        ("Workflow", Some(spec)) => workflow::workflow(spec, "spec", &scope, out),
        ("Schedule", Some(spec)) => workflow::schedule(spec, "spec", None, &scope, out),
        (kind, Some(spec)) if is_translated(kind) => one(kind, spec, "spec", None, &scope, out),
        (kind, Some(_)) => out.refuse("kind", no_such(kind)),
    }
    fields.finish(out);
    let name = name.unwrap_or_else(|| kind.to_owned());
    let description = format!("{kind} {name} of Chaos Mesh.");
    (name, description)
}

pub fn is_translated(kind: &str) -> bool {
    KINDS.iter().any(|(name, _)| *name == kind)
}

fn metadata(fields: &mut Fields, scope: &mut Scope, out: &mut Out) -> Option<String> {
    let mut metadata = fields.below("metadata", out)?;
    let name = metadata.text("name", out).map(str::to_owned);
    scope.home = metadata.text("namespace", out).map(str::to_owned);
    let elsewhere = scope.home.as_ref().filter(|home| **home != scope.namespace);
    if let Some(home) = elsewhere {
        let why = format!("mettle keeps no object in {home}: only the selectors' namespaces matter");
        out.note(metadata.at("namespace"), why);
    }
    if let Some(mut annotations) = metadata.below("annotations", out) {
        scope.port = annotations.port(PORT_ANNOTATION, out);
        let others = annotations.keys().filter(|key| *key != PORT_ANNOTATION);
        for key in others.collect::<Vec<_>>() {
            out.note(annotations.at(key), "an annotation has no meaning here");
        }
    }
    metadata.note_given("labels", "the document's own labels have no meaning here", out);
    let of_the_api = [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "finalizers",
        "managedFields",
        "generateName",
    ];
    for key in of_the_api {
        metadata.note_given(key, "what a cluster keeps of it has no meaning here", out);
    }
    metadata.finish(out);
    name
}

/// One chaos. In a workflow its template's deadline bounds it, too.
pub fn one(kind: &str, spec: &Value, path: &str, deadline: Option<u32>, scope: &Scope, out: &mut Out) {
    let before = out.refused.len();
    let Some(mut fields) = Fields::of(spec, path, out) else { return };
    let fault = match kind {
        "PodChaos" => pods::fault(&mut fields, out),
        "NetworkChaos" => network::fault(&mut fields, scope, out),
        "StressChaos" => stress::fault(&mut fields, out),
        "DNSChaos" => stress::names(&mut fields, out),
        "HTTPChaos" => http::fault(&mut fields, out),
        _ => {
            out.refuse(path, no_such(kind));
            None
        }
    };
    // Of what is refused as a whole nothing more is to be said.
    let Some(mut fault) = fault else { return };
    fault.target = selector::target(&mut fields, scope, out);
    if matches!(
        fault.kind,
        FaultKind::ContainerKill | FaultKind::CpuStress | FaultKind::MemoryStress | FaultKind::DnsFail
    ) {
        pods_container(&mut fields, &fault, out);
    }
    hold(&mut fault, &mut fields, deadline, out);
    fields.refuse_given("remoteCluster", "mettle works on the cluster of its kubeconfig: take it out", out);
    fields.refuse_given(
        "scheduler",
        "schedules are the caller's: take it out, and duration with it if it is over by itself",
        out,
    );
    fields.finish(out);
    out.fault(before, path, fault);
}

fn pods_container(fields: &mut Fields, fault: &FaultSpec, out: &mut Out) {
    // A look-up leaves the pod's network namespace, whichever container asked: one of them cannot be picked.
    if fault.kind == FaultKind::DnsFail {
        let why = "mettle hits the look-ups of every container of the pod: take it out";
        fields.refuse_given("containerNames", why, out);
        return;
    }
    pods::container(fields, &fault.target, out);
}

fn hold(fault: &mut FaultSpec, fields: &mut Fields, deadline: Option<u32>, out: &mut Out) {
    let path = fields.at("duration");
    let kind = fault.kind.as_str();
    if !fault.kind.shape().held {
        let why = format!("{kind} is over when it was done: its time has no effect");
        fields.note_given("duration", &why, out);
        return;
    }
    let given = fields.get("duration").is_some();
    let duration = fields.duration("duration", SECONDS, out);
    fault.hold_seconds = match (duration, deadline) {
        (Some(duration), Some(deadline)) if duration != deadline => {
            out.note(
                path,
                format!("the template's deadline and this: the shorter is {} s", duration.min(deadline)),
            );
            duration.min(deadline)
        }
        (Some(seconds), _) | (None, Some(seconds)) => seconds,
        (None, None) => {
            if !given {
                out.refuse(path, format!("is missing: {kind} lasts until it is reverted, so say how long"));
            }
            0
        }
    };
}
