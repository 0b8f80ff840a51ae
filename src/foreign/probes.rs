//! Chaos Toolkit's probes of `chaosk8s`, by module and function, as questions to the API.

use serde_json::Value;

use super::Out;
use super::fields::Fields;
use crate::model::{Judging, Question, Reading};

/// What waits and does not say how long.
const WAIT_SECONDS: u32 = 30;
const WAIT_SECONDS_MAX: u32 = 600;

/// Probes that were moved, by their old name.
const MOVED: [(&str, &str); 6] = [
    ("chaosk8s.probes.all_microservices_healthy", "chaosk8s.pod.probes.all_pods_healthy"),
    (
        "chaosk8s.probes.microservice_available_and_healthy",
        "chaosk8s.deployment.probes.deployment_available_and_healthy",
    ),
    ("chaosk8s.probes.microservice_is_not_available", "chaosk8s.pod.probes.pod_is_not_available"),
    ("chaosk8s.probes.service_endpoint_is_initialized", "chaosk8s.service.probes.service_is_initialized"),
    (
        "chaosk8s.probes.deployment_is_not_fully_available",
        "chaosk8s.deployment.probes.deployment_not_fully_available",
    ),
    (
        "chaosk8s.probes.deployment_is_fully_available",
        "chaosk8s.deployment.probes.deployment_fully_available",
    ),
];

const HERE: &str =
    "is no probe that mettle can ask: docs/foreign.md lists them; http and process can ask anything";

/// The question of a probe; nothing when something of it is refused.
pub fn question(name: &str, at: &str, fields: &mut Fields, out: &mut Out) -> Option<Question> {
    let before = out.refused.len();
    let name = MOVED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new);
    let Some((module, func)) = name.strip_prefix("chaosk8s.").and_then(|name| name.split_once(".probes."))
    else {
        out.refuse(at, format!("{name} {HERE}"));
        return None;
    };
    let question = match module {
        "pod" => pods(func, fields, out),
        "deployment" | "statefulset" => workload(module, func, fields, out),
        "service" => service(func, fields, out),
        "node" if func == "all_nodes_must_be_ready_to_schedule" => {
            let labels = fields.text("label_selector", out).unwrap_or_default().to_owned();
            Some(asked(Reading::Nodes { labels }, Judging::NodesReady))
        }
        _ => None,
    };
    if question.is_none() && out.refused.len() == before {
        out.refuse(at, format!("{name} {HERE}"));
    }
    question.filter(|_| out.refused.len() == before)
}

fn asked(reading: Reading, judging: Judging) -> Question {
    Question { reading, judging, raises: false, within_seconds: 0 }
}

fn namespace(fields: &mut Fields, out: &mut Out) -> String {
    let at = fields.at("ns");
    fields.text("ns", out).map_or_else(
        || {
            out.note(at, "is missing, so it is \"default\"");
            "default".to_owned()
        },
        str::to_owned,
    )
}

/// What raises unless it is told not to.
fn raises(key: &str, fields: &mut Fields, out: &mut Out) -> bool {
    fields.get(key).is_none() || fields.flag(key, out)
}

fn pods(func: &str, fields: &mut Fields, out: &mut Out) -> Option<Question> {
    let known = [
        "pods_in_phase",
        "pods_not_in_phase",
        "pods_in_conditions",
        "count_pods",
        "count_min_pods",
        "pod_is_not_available",
        "all_pods_healthy",
    ];
    if !known.contains(&func) {
        return None;
    }
    let namespace = namespace(fields, out);
    let phase = |fields: &mut Fields, out: &mut Out| fields.text("phase", out).map(str::to_owned);
    let running = |phase: Option<String>| phase.unwrap_or_else(|| "Running".to_owned());
    let (judging, raising) = match func {
        "pods_in_phase" => {
            (Judging::Phase { phase: running(phase(fields, out)), all: true }, Some("raise_on_invalid_phase"))
        }
        "pods_not_in_phase" => {
            (Judging::Phase { phase: running(phase(fields, out)), all: false }, Some("raise_on_in_phase"))
        }
        "pods_in_conditions" => (conditions(fields, out), Some("raise_on_invalid_conditions")),
        "count_pods" => (Judging::Count { phase: phase(fields, out) }, None),
        "count_min_pods" => {
            let count = u64::from(fields.whole("min_count", out).unwrap_or(2));
            if count == 0 {
                out.refuse(fields.at("min_count"), "is 0, which any number of pods is: name at least 1");
            }
            (Judging::AtLeast { phase: running(phase(fields, out)), count }, None)
        }
        "pod_is_not_available" => (Judging::NoneRuns, Some("raise_on_is_available")),
        _ => (Judging::AllHealthy, Some("raise_on_any_unhealthy")),
    };
    let labels = match func {
        "all_pods_healthy" => String::new(),
        "pod_is_not_available" => by_name(fields, out),
        _ => {
            let labels = fields.text("label_selector", out).unwrap_or_default().to_owned();
            fields.needs("label_selector", "is missing", out);
            labels
        }
    };
    let raises = raising.is_some_and(|key| raises(key, fields, out));
    Some(Question { raises, ..asked(Reading::Pods { namespace, labels }, judging) })
}

/// `{name}` in the selector stands for the name.
fn by_name(fields: &mut Fields, out: &mut Out) -> String {
    let name = fields.name(out);
    let selector = fields.text("label_selector", out).unwrap_or("name in ({name})");
    selector.replace("{name}", &name)
}

fn conditions(fields: &mut Fields, out: &mut Out) -> Judging {
    let at = fields.at("conditions");
    let list = fields.get("conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut conditions = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        match (text("type"), text("status"), value.as_object().map(serde_json::Map::len)) {
            (Some(kind), Some(status), Some(2)) => conditions.push((kind, status)),
            _ => out.refuse(format!("{at}[{i}]"), "must be a type and a status, as texts"),
        }
    }
    if list.is_empty() {
        out.refuse(at, "must be a list of types and statuses");
    }
    Judging::Conditions(conditions)
}

fn workload(module: &str, func: &str, fields: &mut Fields, out: &mut Out) -> Option<Question> {
    let (judging, raising, waits) = match func.strip_prefix(module)?.strip_prefix('_')? {
        "available_and_healthy" if module == "deployment" => {
            (Judging::Available, "raise_on_unavailable", false)
        }
        "partially_available" if module == "deployment" => {
            (Judging::PartlyAvailable, "raise_on_not_partially_available", false)
        }
        "fully_available" => (Judging::Ready(true), "raise_on_not_fully_available", true),
        "not_fully_available" => (Judging::Ready(false), "raise_on_fully_available", true),
        _ => return None,
    };
    let namespace = namespace(fields, out);
    let name = fields.name(out);
    let labels = fields.text("label_selector", out).unwrap_or_default().replace("{name}", &name);
    let within_seconds = if waits { fields.whole("timeout", out).unwrap_or(WAIT_SECONDS) } else { 0 };
    if within_seconds > WAIT_SECONDS_MAX {
        out.refuse(fields.at("timeout"), format!("must be at most {WAIT_SECONDS_MAX}"));
    }
    let raises = raises(raising, fields, out);
    let reading = if module == "deployment" {
        Reading::Deployments { namespace, name, labels }
    } else {
        Reading::StatefulSets { namespace, name, labels }
    };
    Some(Question { reading, judging, raises, within_seconds })
}

fn service(func: &str, fields: &mut Fields, out: &mut Out) -> Option<Question> {
    if func != "service_is_initialized" {
        return None;
    }
    let namespace = namespace(fields, out);
    let name = fields.text("name", out).unwrap_or_default().to_owned();
    let labels = fields.text("label_selector", out).unwrap_or_default().replace("{name}", &name);
    if name.is_empty() && labels.is_empty() {
        out.refuse(fields.at("name"), "is missing: any service would do");
    }
    let raises = raises("raise_if_service_not_initialized", fields, out);
    let reading = Reading::Services { namespace, name, labels };
    Some(Question { raises, ..asked(reading, Judging::Exists) })
}
