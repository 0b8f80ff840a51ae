//! Faults in other objects of the API: a service that finds nobody, a right that is taken away, a policy that allows nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{PlanError, mesh, select};
use crate::model::{
    Change, Direction, Edit, FaultKind, FaultSpec, Look, ObjectInfo, ObjectRef, PlannedChange, PodInfo,
    Snapshot, Target, Undo,
};

/// The label by which what we make is found, with the run's id.
pub const RUN_LABEL: &str = "mettle.dev/run";

pub fn changes(
    run: &str,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
) -> Result<Vec<PlannedChange>, PlanError> {
    let found = match spec.kind {
        FaultKind::EndpointsLost => services(spec, snapshot)?,
        FaultKind::RbacRevoked => bindings(spec, snapshot),
        FaultKind::CertificateExpired => certificate(spec, snapshot)?,
        FaultKind::NetworkPolicyDeny => policies(spec, snapshot)?,
        FaultKind::MeshDeny => return mesh::denials(run, index, spec, snapshot),
        FaultKind::MeshPoolTiny | FaultKind::MeshPlaintext => mesh::rules(spec, snapshot),
        _ => mesh::routes(spec, snapshot),
    };
    if found.is_empty() {
        return Err(PlanError::NoMatch { fault: 0, query: select::describe(&spec.target) });
    }
    Ok(found)
}

pub(super) fn target_of(spec: &FaultSpec, object: &ObjectRef, because: String) -> Target {
    let namespace = object.namespace.as_deref().unwrap_or("-");
    let object = format!("{}/{namespace}/{}", object.kind.to_lowercase(), object.name);
    Target { object, node: None, component: spec.target.component, role: None, because }
}

pub(super) fn edited(
    spec: &FaultSpec,
    object: &ObjectRef,
    edits: Vec<Edit>,
    look: Option<Look>,
    because: &str,
) -> PlannedChange {
    PlannedChange {
        target: target_of(spec, object, because.to_owned()),
        change: Change::Edit { object: object.clone(), edits, look },
        undo: Undo::Restore { object: object.clone() },
    }
}

/// Services that select the target's pods.
fn services(spec: &FaultSpec, snapshot: &Snapshot) -> Result<Vec<PlannedChange>, PlanError> {
    let pods = select::matching(&spec.target, snapshot)?;
    let selects = |selector: &BTreeMap<String, String>, pod: &PodInfo| {
        !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    };
    let services = snapshot.services.iter();
    let services = services.filter(|service| {
        pods.iter().any(|(pod, _)| pod.namespace == service.namespace && selects(&service.selector, pod))
    });
    let changes = services.map(|service| {
        let object = ObjectRef::new("v1", "Service", Some(&service.namespace), &service.name);
        let edits = vec![Edit::set("/spec/selector/mettle.dev~1nobody", "true")];
        edited(spec, &object, edits, None, "selects the target's pods")
    });
    Ok(changes.collect())
}

/// Role bindings of the component, without anybody whom they bind.
fn bindings(spec: &FaultSpec, snapshot: &Snapshot) -> Vec<PlannedChange> {
    let objects = snapshot.objects.iter();
    let objects = objects
        .filter(|found| found.object.kind == "RoleBinding" && found.component.is_some())
        .filter(|found| found.component == spec.target.component);
    let changes = objects.map(|found| {
        let edits = vec![Edit::set("/subjects", json!([]))];
        let look = Look::Denied { binding: found.object.clone() };
        edited(spec, &found.object, edits, Some(look), "belongs to the component")
    });
    changes.collect()
}

/// The Secret out of which the target's pods serve TLS.
fn certificate(spec: &FaultSpec, snapshot: &Snapshot) -> Result<Vec<PlannedChange>, PlanError> {
    let pods = select::matching(&spec.target, snapshot)?;
    let (Some((first, _)), Some(secret)) = (pods.first(), &spec.with.secret) else { return Ok(Vec::new()) };
    let port = spec.with.port.unwrap_or(0);
    let addresses = pods.iter().filter_map(|(pod, _)| Some(format!("{}:{port}", pod.ip.as_ref()?))).collect();
    let object = ObjectRef::new("v1", "Secret", Some(&first.namespace), secret);
    let edits = vec![Edit::Expire { certificate: "/data/tls.crt".into(), key: "/data/tls.key".into() }];
    let look = Look::Expired { addresses };
    Ok(vec![edited(spec, &object, edits, Some(look), "the target serves TLS out of it")])
}

/// Policies only ever allow, and what one allows no other takes away: so those that select the target's pods are emptied.
fn policies(spec: &FaultSpec, snapshot: &Snapshot) -> Result<Vec<PlannedChange>, PlanError> {
    let pods = select::matching(&spec.target, snapshot)?;
    let fields: &[&str] = match spec.with.direction.unwrap_or(Direction::Both) {
        Direction::In => &["ingress"],
        Direction::Out => &["egress"],
        Direction::Both => &["ingress", "egress"],
    };
    let port = spec.with.port.unwrap_or(0);
    let addresses = pods.iter().filter_map(|(pod, _)| Some(format!("{}:{port}", pod.ip.as_ref()?))).collect();
    let look = Look::Unreachable { addresses };
    let selects = |policy: &ObjectInfo| {
        let (selector, namespace) = (&policy.spec["podSelector"], policy.object.namespace.as_deref());
        pods.iter().any(|(pod, _)| namespace == Some(&pod.namespace) && matches(selector, &pod.labels))
    };
    let policies =
        snapshot.objects.iter().filter(|found| found.object.kind == "NetworkPolicy" && selects(found));
    let changes = policies.filter_map(|policy| {
        let allows = |field: &&&str| policy.spec[**field].as_array().is_some_and(|rules| !rules.is_empty());
        let edits: Vec<Edit> = fields
            .iter()
            .filter(allows)
            .map(|field| Edit::set(format!("/spec/{field}"), json!([])))
            .collect();
        let because = "allows the target's pods something";
        (!edits.is_empty()).then(|| edited(spec, &policy.object, edits, Some(look.clone()), because))
    });
    Ok(changes.collect())
}

/// Whether a label selector selects an object with these labels. One that is not understood selects nothing.
fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let holds = |expression: &Value| {
        let found = expression["key"].as_str().and_then(|key| labels.get(key));
        let among = || {
            let mut values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.is_some_and(|found| values.any(|value| value == found))
        };
        match expression["operator"].as_str() {
            Some("In") => among(),
            Some("NotIn") => !among(),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    };
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str()) && expressions.all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::Component;

    #[test]
    fn a_policy_that_allows_is_emptied() {
        let mut snapshot = redis_snapshot();
        let policy = |name: &str, spec: Value| ObjectInfo {
            object: ObjectRef::new("networking.k8s.io/v1", "NetworkPolicy", Some("ai-platform"), name),
            component: None,
            spec,
        };
        snapshot.objects = vec![
            policy("deny", json!({ "podSelector": {} })),
            policy(
                "allow",
                json!({ "podSelector": { "matchLabels": { "app.kubernetes.io/name": "redis" } }, "ingress": [{}] }),
            ),
            policy("other", json!({ "podSelector": { "matchLabels": { "a": "b" } }, "ingress": [{}] })),
        ];
        let mut spec = FaultSpec::new(FaultKind::NetworkPolicyDeny, target(Component::Redis));
        spec.with.port = Some(80);
        let all = changes("r1", 0, &spec, &snapshot).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].change.describe(), "edit NetworkPolicy ai-platform/allow: /spec/ingress = []");
    }

    #[test]
    fn selectors() {
        let labels = BTreeMap::from([("app".to_owned(), "a".to_owned())]);
        let expression = |operator: &str, key: &str| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": ["a", "b"] }] });
        for (selector, expected) in [
            (json!({}), true),
            (json!({ "matchLabels": { "app": "b" } }), false),
            (expression("In", "app"), true),
            (expression("In", "other"), false),
            (expression("NotIn", "app"), false),
            (expression("NotIn", "other"), true),
            (expression("Exists", "app"), true),
            (expression("DoesNotExist", "app"), false),
            (expression("Unheard", "app"), false),
        ] {
            assert_eq!(matches(&selector, &labels), expected, "{selector}");
        }
    }
}
