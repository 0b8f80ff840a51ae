//! Faults in the mesh: its routes, its rules, and who may call whom. Istio ignores retries and time-outs on a route that has
//! a fault, and an abort on the caller's side never reaches a host, so it cannot trip outlier detection: `http-respond` can.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::{RUN_LABEL, edited, target_of};
use super::pods::reference;
use super::{PlanError, select};
use crate::model::{
    Change, Command, Component, Edit, FaultKind, FaultSpec, Look, ObjectInfo, ObjectRef, PlannedChange,
    PodInfo, Snapshot, TOUCHED_LABEL, Undo,
};

/// The mesh's label of a pod that takes part in it.
const IN_MESH: &str = "security.istio.io/tlsMode";
const SIDECAR: &str = "istio-proxy";
/// Proxies whose counters are read for evidence.
const PROXIES_MAX: usize = 8;

/// DestinationRules of the target's service.
pub fn rules(spec: &FaultSpec, snapshot: &Snapshot) -> Vec<PlannedChange> {
    let Some(component) = spec.target.component else { return Vec::new() };
    let of_service = |found: &&ObjectInfo| {
        found.object.kind == "DestinationRule"
            && found.spec["host"].as_str().is_some_and(|host| component.is_host(host))
    };
    let changes = snapshot.objects.iter().filter(of_service).map(|found| {
        let host = found.spec["host"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        let (edits, filter) = match spec.kind {
            FaultKind::MeshPoolTiny => (
                vec![Edit::set(
                    "/spec/trafficPolicy/connectionPool",
                    json!({
                        "tcp": { "maxConnections": 1 },
                        "http": { "http1MaxPendingRequests": 1, "http2MaxRequests": 1, "maxRequestsPerConnection": 1 },
                    }),
                )],
                format!("^cluster.outbound.*{host}.*upstream_(rq_pending|cx)_overflow"),
            ),
            _ => (
                vec![Edit::set("/spec/trafficPolicy/tls", json!({ "mode": "DISABLE" }))],
                format!("^cluster.outbound.*{host}.*upstream_rq_5xx"),
            ),
        };
        edited(spec, &found.object, edits, look(snapshot, &filter), "is the rule of the target's service")
    });
    changes.collect()
}

/// Routes of VirtualServices that lead to the target's service.
pub fn routes(spec: &FaultSpec, snapshot: &Snapshot) -> Vec<PlannedChange> {
    let Some(component) = spec.target.component else { return Vec::new() };
    let mut changes = Vec::new();
    for found in snapshot.objects.iter().filter(|found| found.object.kind == "VirtualService") {
        let Some(http) = found.spec["http"].as_array() else { continue };
        let leads = |route: &Value| {
            route["route"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|to| to["destination"]["host"].as_str().is_some_and(|host| component.is_host(host)))
        };
        let hits: Vec<usize> = (0..http.len()).filter(|i| leads(&http[*i])).collect();
        if hits.is_empty() {
            continue;
        }
        let edits = vec![Edit::set("/spec/http", broken(spec, http, &hits))];
        let filter = match spec.kind {
            FaultKind::MeshDelay => "fault.delays_injected",
            FaultKind::MeshAbort => "fault.aborts_injected",
            _ => "^http.outbound.*downstream_rq_5xx",
        };
        changes.push(edited(
            spec,
            &found.object,
            edits,
            look(snapshot, filter),
            "routes to the target's service",
        ));
    }
    changes
}

/// The routes with the fault. With headers it is in a copy of the route before it, for these requests only.
fn broken(spec: &FaultSpec, http: &[Value], hits: &[usize]) -> Value {
    let with = &spec.with;
    let percentage = json!({ "value": f64::from(with.percent.unwrap_or(100)) });
    let mut routes = Vec::with_capacity(http.len() + hits.len());
    for (i, route) in http.iter().enumerate() {
        if !hits.contains(&i) {
            routes.push(route.clone());
            continue;
        }
        let mut faulty = route.clone();
        match spec.kind {
            FaultKind::MeshDelay => {
                let delay = format!("{}ms", with.delay_ms.unwrap_or(0));
                faulty["fault"] = json!({ "delay": { "fixedDelay": delay, "percentage": percentage } });
            }
            FaultKind::MeshAbort => {
                let status = with.status.unwrap_or(503);
                faulty["fault"] = json!({ "abort": { "httpStatus": status, "percentage": percentage } });
            }
            _ => {
                for to in faulty["route"].as_array_mut().into_iter().flatten() {
                    to["destination"]["host"] = json!("mettle-nowhere.invalid");
                }
            }
        }
        if with.header.is_empty() {
            routes.push(faulty);
            continue;
        }
        let headers: BTreeMap<&String, Value> =
            with.header.iter().map(|(name, value)| (name, json!({ "exact": value }))).collect();
        let mut matches = faulty["match"].as_array().cloned().unwrap_or_default();
        if matches.is_empty() {
            matches.push(json!({}));
        }
        matches.iter_mut().for_each(|one| one["headers"] = json!(headers));
        faulty["match"] = json!(matches);
        if let Some(name) = faulty["name"].as_str() {
            faulty["name"] = json!(format!("{name}-mettle"));
        }
        routes.extend([faulty, route.clone()]);
    }
    json!(routes)
}

/// An AuthorizationPolicy that denies everybody.
pub fn denials(
    run: &str,
    index: usize,
    spec: &FaultSpec,
    snapshot: &Snapshot,
) -> Result<Vec<PlannedChange>, PlanError> {
    let pods = select::matching(&spec.target, snapshot)?;
    let in_mesh: Vec<&PodInfo> =
        pods.iter().map(|(pod, _)| *pod).filter(|pod| pod.labels.contains_key(IN_MESH)).collect();
    let (Some(first), Some(component)) = (in_mesh.first(), spec.target.component) else {
        return Err(PlanError::Lacks {
            fault: 0,
            object: select::describe(&spec.target),
            what: "pod in the mesh".into(),
        });
    };
    let name = format!("mettle-{run}-{index}");
    let object = ObjectRef::new("security.istio.io/v1", "AuthorizationPolicy", Some(&first.namespace), &name);
    let manifest = json!({
        "apiVersion": object.api_version,
        "kind": object.kind,
        "metadata": {
            "name": name,
            "namespace": first.namespace,
            "labels": { RUN_LABEL: run, TOUCHED_LABEL.0: TOUCHED_LABEL.1 },
        },
        "spec": {
            "selector": { "matchLabels": { "app.kubernetes.io/name": component.as_str() } },
            "action": "DENY",
            "rules": [{}],
        },
    });
    let look = look_at(in_mesh.iter().map(|pod| (*pod, SIDECAR)), "rbac.denied");
    Ok(vec![PlannedChange {
        target: target_of(spec, &object, "denies everybody the target".to_owned()),
        change: Change::Create { object: object.clone(), manifest, look },
        undo: Undo::Delete { object },
    }])
}

/// The proxies that call others: the gateway's, and those beside a service.
fn look(snapshot: &Snapshot, filter: &str) -> Option<Look> {
    let proxies = snapshot.pods.iter().filter(|pod| pod.ready && !pod.terminating).filter_map(|pod| {
        if pod.component == Some(Component::Gateway) {
            return Some((pod, Component::Gateway.as_str()));
        }
        pod.labels.contains_key(IN_MESH).then_some((pod, SIDECAR))
    });
    look_at(proxies, filter)
}

fn look_at<'a>(proxies: impl Iterator<Item = (&'a PodInfo, &'static str)>, filter: &str) -> Option<Look> {
    let commands: Vec<Command> = proxies
        .take(PROXIES_MAX)
        .map(|(pod, container)| Command {
            pod: reference(pod),
            container: container.to_owned(),
            line: ["pilot-agent", "request", "GET", &format!("stats?filter={filter}")]
                .map(str::to_owned)
                .into(),
        })
        .collect();
    (!commands.is_empty()).then_some(Look::Grows { commands })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::testing::{redis_snapshot, target};
    use crate::model::{OnConflict, ServiceInfo, edit, restore};

    fn mesh() -> Snapshot {
        let mut snapshot = redis_snapshot();
        let mut pod = snapshot.pods[0].clone();
        pod.name = "gateway-1".into();
        pod.component = Some(Component::Gateway);
        snapshot.pods.push(pod.clone());
        pod.name = "inference-1".into();
        pod.component = Some(Component::Inference);
        pod.labels = BTreeMap::from([(IN_MESH.to_owned(), "istio".to_owned())]);
        snapshot.pods.push(pod);
        let object = |kind: &str, spec: Value| ObjectInfo {
            object: ObjectRef::new("networking.istio.io/v1", kind, Some("ai-platform"), "x"),
            component: None,
            spec,
        };
        let to = |host: &str| json!({ "name": host, "match": [{ "uri": { "prefix": "/x" } }], "route": [{ "destination": { "host": host } }], "timeout": "5s" });
        snapshot.objects = vec![
            object(
                "VirtualService",
                json!({ "http": [to("ai-platform-auth"), to("ai-platform-inference")] }),
            ),
            object("VirtualService", json!({ "http": [to("ai-platform-edge")] })),
            object(
                "DestinationRule",
                json!({ "host": "ai-platform-inference.ai-platform.svc.cluster.local" }),
            ),
        ];
        snapshot
    }

    fn planned(kind: FaultKind, with: Value) -> Vec<PlannedChange> {
        let mut spec = FaultSpec::new(kind, target(Component::Inference));
        spec.with = serde_json::from_value(with).unwrap();
        super::super::objects::changes("r1", 0, &spec, &mesh()).unwrap()
    }

    fn edits(change: &PlannedChange) -> &[Edit] {
        let Change::Edit { edits, look, .. } = &change.change else { panic!("another change") };
        assert!(look.is_some());
        edits
    }

    #[test]
    fn a_route_gets_the_fault_and_the_others_stay() {
        let all = planned(FaultKind::MeshAbort, json!({ "percent": 30 }));
        assert_eq!(all.len(), 1, "only the object that routes to it");
        let mut object = json!({ "metadata": { "name": "x" }, "spec": mesh().objects[0].spec });
        let before = object.clone();
        edit(&mut object, edits(&all[0]), "r1").unwrap();
        let http = &object["spec"]["http"];
        assert_eq!(http[0], before["spec"]["http"][0]);
        assert_eq!(
            http[1]["fault"],
            json!({ "abort": { "httpStatus": 503, "percentage": { "value": 30.0 } } })
        );
        restore(&mut object, OnConflict::Tell).unwrap();
        assert_eq!(object, before);
    }

    #[test]
    fn with_headers_only_their_requests_meet_it() {
        let all = planned(FaultKind::MeshDelay, json!({ "delayMs": 200, "header": { "x-chaos": "1" } }));
        let [Edit::Set { value, .. }] = edits(&all[0]) else { panic!("one edit") };
        assert_eq!(value.as_array().unwrap().len(), 3);
        assert_eq!(
            value[1]["match"],
            json!([{ "uri": { "prefix": "/x" }, "headers": { "x-chaos": { "exact": "1" } } }])
        );
        assert_eq!(value[1]["fault"]["delay"]["fixedDelay"], "200ms");
        assert_eq!(value[2], mesh().objects[0].spec["http"][1]);
    }

    #[test]
    fn rules_denials_and_services_are_found_by_the_component() {
        assert_eq!(
            edits(&planned(FaultKind::MeshPlaintext, json!({}))[0])[0].describe(),
            "/spec/trafficPolicy/tls = {\"mode\":\"DISABLE\"}"
        );
        assert_eq!(planned(FaultKind::MeshPoolTiny, json!({})).len(), 1);
        let denial = planned(FaultKind::MeshDeny, json!({})).remove(0);
        assert!(matches!(denial.undo, Undo::Delete { .. }));
        // Not in the mesh: a policy there would deny nobody.
        let outside = FaultSpec::new(FaultKind::MeshDeny, target(Component::Redis));
        assert!(super::super::objects::changes("r1", 0, &outside, &mesh()).is_err());
        let mut snapshot = mesh();
        let selector = BTreeMap::from([(IN_MESH.to_owned(), "istio".to_owned())]);
        snapshot.services =
            vec![ServiceInfo { namespace: "ai-platform".into(), name: "inference".into(), selector }];
        let lost = FaultSpec::new(FaultKind::EndpointsLost, target(Component::Inference));
        let all = super::super::objects::changes("r1", 0, &lost, &snapshot).unwrap();
        assert_eq!(all[0].target.object, "service/ai-platform/inference");
        let nobody = FaultSpec::new(FaultKind::EndpointsLost, target(Component::Redis));
        assert!(super::super::objects::changes("r1", 0, &nobody, &snapshot).is_err());
    }
}
