//! Services, autoscalers, restarts and the mesh's objects, judged from what the API says of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::seen::{Seen, name};
use super::{Row, Section, all_of};
use crate::model::Finding;

/// A container that came back within this many seconds is in a restart loop, or was.
const RESTARTED_S: i64 = 600;

pub fn rows(seen: &Seen) -> Vec<Row> {
    vec![
        Row::new(Section::Pods, &["D4"], restarts(seen, chrono::Utc::now().timestamp())),
        Row::new(Section::Services, &["D4"], services(seen)),
        Row::new(Section::Autoscalers, &["D4"], autoscalers(seen)),
    ]
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// No container waits to be started again, and none was started again of late.
fn restarts(seen: &Seen, now: i64) -> Finding {
    let pods = seen.of("Pod");
    let mut wrong = Vec::new();
    for pod in pods {
        let status = &pod["status"];
        let containers =
            array(&status["initContainerStatuses"]).iter().chain(array(&status["containerStatuses"]));
        for container in containers {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (pod, container_name) = (name(pod), text(&container["name"]));
            let waits = text(&container["state"]["waiting"]["reason"]);
            if matches!(
                waits.as_str(),
                "CrashLoopBackOff" | "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull"
            ) {
                wrong.push(format!("{pod}: container {container_name} waits: {waits}"));
            }
            let ended = text(&container["lastState"]["terminated"]["finishedAt"]);
            let ended = chrono::DateTime::parse_from_rfc3339(&ended).map(|time| time.timestamp());
            if let Ok(ended) = ended
                && now - ended < RESTARTED_S
            {
                let reason = text(&container["lastState"]["terminated"]["reason"]);
                // The runtime does not know how it ended: its node went down beneath it. It did not end by itself.
                if reason != "Unknown" {
                    let seconds = now - ended;
                    wrong.push(format!("{pod}: container {container_name} ended {seconds} s ago: {reason}"));
                }
            }
        }
    }
    all_of("no pod restarts in a loop", pods.len(), "pods, no restart within 10 min", wrong)
}

/// Every service has somebody behind it who is ready.
fn services(seen: &Seen) -> Finding {
    let ready: BTreeSet<&str> = seen
        .of("EndpointSlice")
        .iter()
        .filter(|slice| array(&slice["endpoints"]).iter().any(|end| end["conditions"]["ready"] != false))
        .filter_map(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str())
        .collect();
    // One without ports is a name for other objects (Patroni's), and nobody's address.
    let with_ports = |service: &&Value| !array(&service["spec"]["ports"]).is_empty();
    let services: Vec<&Value> = seen.of("Service").iter().filter(with_ports).collect();
    let wrong = services.iter().map(|service| name(service)).filter(|service| !ready.contains(service));
    let wrong = wrong.map(|service| format!("{service} has no ready endpoint")).collect();
    all_of("every service has endpoints", services.len(), "services", wrong)
}

/// Every autoscaler reads all its metrics, may act, and keeps its workload within its bounds.
fn autoscalers(seen: &Seen) -> Finding {
    let autoscalers = seen.of("HorizontalPodAutoscaler");
    let wrong = autoscalers.iter().filter_map(|hpa| Some(format!("{}: {}", name(hpa), autoscaler(hpa)?)));
    all_of("every autoscaler acts", autoscalers.len(), "autoscalers", wrong.collect())
}

fn autoscaler(hpa: &Value) -> Option<String> {
    let (spec, status) = (&hpa["spec"], &hpa["status"]);
    for wanted in ["AbleToScale", "ScalingActive"] {
        let found = array(&status["conditions"]).iter().find(|one| one["type"] == wanted);
        let Some(found) = found else { return Some(format!("says nothing of {wanted}")) };
        if found["status"] != "True" {
            return Some(format!("not {wanted}: {}", found["message"].as_str().unwrap_or("no reason")));
        }
    }
    let (asked, read) = (array(&spec["metrics"]).len(), array(&status["currentMetrics"]).len());
    if read < asked || asked == 0 {
        return Some(format!("reads {read} of {asked} metrics"));
    }
    let least = spec["minReplicas"].as_i64().unwrap_or(1);
    let most = spec["maxReplicas"].as_i64().unwrap_or(0);
    let current = status["currentReplicas"].as_i64().unwrap_or(0);
    (current < least || current > most).then(|| format!("{current} replicas, not {least} to {most}"))
}

/// Routes go to services that exist, gateways have pods, and no rule is for nobody.
pub fn mesh(seen: &Seen) -> Finding {
    let services: BTreeSet<&str> = seen.of("Service").iter().map(name).collect();
    let known = |host: &str| services.contains(host.split('.').next().unwrap_or_default());
    let mut wrong = Vec::new();
    for route in seen.of("VirtualService") {
        let https = array(&route["spec"]["http"]).iter();
        for host in https
            .flat_map(|http| array(&http["route"]))
            .filter_map(|to| to["destination"]["host"].as_str())
            .filter(|host| !known(host))
        {
            wrong.push(format!("VirtualService {} routes to {host}, which is no service", name(route)));
        }
        for gateway in array(&route["spec"]["gateways"]).iter().filter_map(Value::as_str) {
            if gateway != "mesh" && seen.named("Gateway", gateway).is_none() {
                wrong.push(format!(
                    "VirtualService {} is for gateway {gateway}, which is not there",
                    name(route)
                ));
            }
        }
    }
    for rule in seen.of("DestinationRule") {
        let host = rule["spec"]["host"].as_str().unwrap_or_default();
        if !known(host) {
            wrong.push(format!("DestinationRule {} is for {host}, which is no service", name(rule)));
        }
    }
    for gateway in seen.of("Gateway") {
        let selector = gateway["spec"]["selector"].as_object().cloned().unwrap_or_default();
        let selects =
            |pod: &&Value| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
        if !seen.of("Pod").iter().any(|pod| selects(&pod)) {
            wrong.push(format!("Gateway {} selects no pod", name(gateway)));
        }
    }
    let kinds = ["VirtualService", "DestinationRule", "Gateway"];
    if let Some(kind) = kinds.iter().find(|kind| seen.of(kind).is_empty()) {
        return all_of("the mesh's objects fit together", 0, &format!("objects of kind {kind}"), wrong);
    }
    let count = kinds.iter().map(|kind| seen.of(kind).len()).sum();
    all_of("the mesh's objects fit together", count, "VirtualServices, DestinationRules, Gateways", wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    fn seen(kinds: &[(&'static str, Value)]) -> Seen {
        let objects = kinds.iter().map(|(kind, items)| (*kind, array(items).to_vec())).collect();
        Seen { objects }
    }

    #[test]
    fn a_restart_of_late_fails_and_an_old_one_does_not() {
        let pods = |container: Value| {
            seen(&[(
                "Pod",
                json!([{ "metadata": { "name": "p" }, "status": { "containerStatuses": [container] } }]),
            )])
        };
        let ended = json!({ "name": "c", "state": { "running": {} },
            "lastState": { "terminated": { "finishedAt": "1970-01-01T00:00:10Z", "reason": "OOMKilled" } } });
        assert_eq!(restarts(&pods(ended.clone()), 100).verdict, Fail);
        assert_eq!(restarts(&pods(ended.clone()), 10_000).verdict, Pass);
        let mut with_its_node = ended;
        with_its_node["lastState"]["terminated"]["reason"] = json!("Unknown");
        assert_eq!(restarts(&pods(with_its_node), 100).verdict, Pass);
        let waits = json!({ "name": "c", "state": { "waiting": { "reason": "CrashLoopBackOff" } } });
        assert_eq!(restarts(&pods(waits), 100).verdict, Fail);
        assert_eq!(restarts(&Seen::default(), 0).verdict, Inconclusive);
    }

    #[test]
    fn a_service_needs_a_ready_endpoint() {
        let with = |ready: bool| {
            seen(&[
                ("Service", json!([{ "metadata": { "name": "s" }, "spec": { "ports": [{}] } }])),
                (
                    "EndpointSlice",
                    json!([{ "metadata": { "labels": { "kubernetes.io/service-name": "s" } },
                    "endpoints": [{ "conditions": { "ready": ready } }] }]),
                ),
            ])
        };
        assert_eq!(services(&with(true)).verdict, Pass);
        assert_eq!(services(&with(false)).verdict, Fail);
        assert_eq!(services(&Seen::default()).verdict, Inconclusive);
    }

    #[test]
    fn an_autoscaler_that_cannot_read_or_act_fails() {
        let hpa = |active: &str, read: Value, replicas: i32| {
            seen(&[(
                "HorizontalPodAutoscaler",
                json!([{ "metadata": { "name": "h" },
                "spec": { "minReplicas": 2, "maxReplicas": 4, "metrics": [{}, {}] },
                "status": { "currentReplicas": replicas, "currentMetrics": read, "conditions": [
                    { "type": "AbleToScale", "status": "True" },
                    { "type": "ScalingActive", "status": active, "message": "no metrics" }] } }]),
            )])
        };
        assert_eq!(autoscalers(&hpa("True", json!([{}, {}]), 2)).verdict, Pass);
        assert_eq!(autoscalers(&hpa("False", json!([{}, {}]), 2)).verdict, Fail);
        assert_eq!(autoscalers(&hpa("True", json!([{}]), 2)).verdict, Fail);
        assert_eq!(autoscalers(&hpa("True", json!([{}, {}]), 5)).verdict, Fail);
        assert_eq!(autoscalers(&Seen::default()).verdict, Inconclusive);
    }

    #[test]
    fn a_route_to_nowhere_fails() {
        let with = |host: &str, gateway: &str, label: &str| {
            seen(&[
                ("Service", json!([{ "metadata": { "name": "a" } }])),
                ("Pod", json!([{ "metadata": { "name": "g-0", "labels": { "app": label } } }])),
                ("Gateway", json!([{ "metadata": { "name": "g" }, "spec": { "selector": { "app": "g" } } }])),
                ("DestinationRule", json!([{ "metadata": { "name": "r" }, "spec": { "host": "a.ns.svc" } }])),
                (
                    "VirtualService",
                    json!([{ "metadata": { "name": "v" }, "spec": { "gateways": [gateway],
                    "http": [{ "route": [{ "destination": { "host": host } }] }] } }]),
                ),
            ])
        };
        assert_eq!(mesh(&with("a", "g", "g")).verdict, Pass);
        assert_eq!(mesh(&with("b", "g", "g")).verdict, Fail);
        assert_eq!(mesh(&with("a", "h", "g")).verdict, Fail);
        assert_eq!(mesh(&with("a", "g", "x")).verdict, Fail);
        assert_eq!(mesh(&Seen::default()).verdict, Inconclusive);
    }
}
