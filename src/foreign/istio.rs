//! Chaos Toolkit's actions on Istio.

use serde_json::Value;

use super::fields::Fields;
use super::quantity::MILLISECONDS;
use super::{Out, fault_of};
use crate::model::{Component, FaultKind, FaultSpec, TargetSpec};

/// A service has its routes in two places at the most: those between services, and those of the gateway.
pub const OBJECTS: u32 = 2;

/// `add_delay_fault`, `add_abort_fault`.
pub fn fault(kind: FaultKind, arguments: &mut Fields, namespace: &str, out: &mut Out) -> FaultSpec {
    let mut fault = fault_of(kind);
    super::actions::namespace(arguments, namespace, out);
    let path = arguments.at("virtual_service_name");
    let name = arguments.text("virtual_service_name", out).unwrap_or_default();
    let component = super::actions::component(name, namespace);
    match component {
        Some(component) => {
            let why = format!("mettle hits every route that leads to {component}, those of the gateway, too");
            out.note(path, why);
            fault.target = TargetSpec { component: Some(component), count: 1, ..TargetSpec::default() };
        }
        None => out.refuse(path, format!("{name:?} is not {namespace}- and a component that mettle knows")),
    }
    routes(arguments, component, namespace, out);
    if kind == FaultKind::MeshDelay {
        fault.with.delay_ms = arguments.duration("fixed_delay", MILLISECONDS, out);
        arguments.needs("fixed_delay", "is missing", out);
    } else {
        fault.with.status = arguments.status("http_status", out);
        arguments.needs("http_status", "is missing", out);
    }
    fault.with.percent = arguments.percent("percentage", out);
    let why = "is missing: Istio hits no request without one, so say how many: 100 for all";
    arguments.needs("percentage", why, out);
    arguments.note_given("version", "mettle reads which version of Istio's API the cluster has", out);
    fault
}

/// Every route to the component: another one, or a subset of it, is refused.
fn routes(arguments: &mut Fields, component: Option<Component>, namespace: &str, out: &mut Out) {
    let path = arguments.at("routes");
    let routes = match arguments.get("routes") {
        Some(Value::Array(routes)) => routes.as_slice(),
        Some(_) => return out.refuse(path, "must be a list"),
        None => &[],
    };
    for (i, route) in routes.iter().enumerate() {
        let Some(mut route) = Fields::of(route, &format!("{path}[{i}]"), out) else { continue };
        let host = route.text("host", out).unwrap_or_default();
        let short = host.split('.').next().unwrap_or_default();
        let of = super::actions::component(short, namespace).or_else(|| Component::from_label(short));
        if of.is_none() || of != component {
            let why = "mettle's routes are those to the component that virtual_service_name names: host must be its";
            out.refuse(route.at("host"), why);
        }
        route.refuse_given("subset", "mettle hits every subset of a service: take it out", out);
        route.finish(out);
    }
}
