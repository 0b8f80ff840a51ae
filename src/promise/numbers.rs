//! The guide's own numbers: how far everything scales, and on what.

use std::collections::BTreeSet;

use serde_json::Value;

use super::case::Case;
use super::manifests::{Manifests, PREFIX, bytes, env, list, long_running, pod, setting, title};

const GIB: i64 = 1 << 30;

pub(super) fn backend(manifests: &Manifests<'_>, case: &mut Case) {
    on_resources(manifests, case, "backend", 50, 500);
}

pub(super) fn frontend(manifests: &Manifests<'_>, case: &mut Case) {
    on_resources(manifests, case, "frontend", 10, 100);
}

fn on_resources(manifests: &Manifests<'_>, case: &mut Case, app: &str, least: i64, most: i64) {
    let Some((workload, scaler)) = scaled(manifests, case, app) else { return };
    bounds(case, scaler, least, most);
    case.want(format!("CPU threshold of {app} in %"), utilization(scaler, "cpu"), &70);
    case.want(format!("memory threshold of {app} in %"), utilization(scaler, "memory"), &80);
    requests(case, workload);
}

/// A workload and what scales it; the autoscaler alone says how many there are.
fn scaled<'a>(manifests: &Manifests<'a>, case: &mut Case, app: &str) -> Option<(&'a Value, &'a Value)> {
    let workload = case.need(format!("the workload {app}"), manifests.workload(app))?;
    let scaler = case.need(format!("the autoscaler of {app}"), manifests.autoscaler(workload))?;
    let free = workload["spec"]["replicas"].is_null();
    case.hold(format!("{} sets replicas, which each apply would put back", title(workload)), free);
    Some((workload, scaler))
}

fn bounds(case: &mut Case, scaler: &Value, least: i64, most: i64) {
    let of = title(scaler);
    case.want(format!("minReplicas of {of}"), scaler["spec"]["minReplicas"].as_i64(), &least);
    case.want(format!("maxReplicas of {of}"), scaler["spec"]["maxReplicas"].as_i64(), &most);
}

fn utilization(scaler: &Value, resource: &str) -> Option<i64> {
    let metric = list(&scaler["spec"]["metrics"]).find(|metric| metric["resource"]["name"] == resource)?;
    metric["resource"]["target"]["averageUtilization"].as_i64()
}

/// A share is a share of the request: without one nothing scales.
fn requests(case: &mut Case, workload: &Value) {
    for container in list(&pod(workload)["containers"]) {
        for resource in ["cpu", "memory"] {
            let stated = container["resources"]["requests"][resource].is_string();
            case.hold(format!("a container of {} requests no {resource}", title(workload)), stated);
        }
    }
}

/// By kind of service: replicas and resources of its own, scaled on CPU and memory.
pub(super) fn services(manifests: &Manifests<'_>, case: &mut Case) {
    const SERVICES: [&str; 4] = ["auth", "model", "inference", "decision"];
    let mut settings = BTreeSet::new();
    for app in SERVICES {
        let Some((workload, scaler)) = scaled(manifests, case, app) else { continue };
        for resource in ["cpu", "memory"] {
            case.hold(
                format!("{} does not scale on {resource}", title(scaler)),
                utilization(scaler, resource).is_some(),
            );
        }
        requests(case, workload);
        let Some((least, most)) = case.need(format!("the bounds of {app}"), manifests.copies(workload))
        else {
            continue;
        };
        case.hold(format!("{app} does not scale: {least} to {most}"), least >= 2 && most > least);
        let resources: Vec<String> =
            list(&pod(workload)["containers"]).map(|one| one["resources"].to_string()).collect();
        settings.insert(format!("{least} {most} {resources:?}"));
    }
    if !settings.is_empty() {
        case.hold("services share one setting of replicas and resources", settings.len() == SERVICES.len());
    }
}

pub(super) fn workers(manifests: &Manifests<'_>, case: &mut Case) {
    let Some((_, scaler)) = scaled(manifests, case, "celery") else { return };
    bounds(case, scaler, 5, 50);
    on_metric(manifests, case, scaler, "external", "celery_queue_length");
}

pub(super) fn edges(manifests: &Manifests<'_>, case: &mut Case) {
    let Some((_, scaler)) = scaled(manifests, case, "edge") else { return };
    bounds(case, scaler, 10, 100);
    on_metric(manifests, case, scaler, "pods", "edge_requests_per_second");
}

/// The autoscaler asks for the metric, and the adapter answers for it.
fn on_metric(manifests: &Manifests<'_>, case: &mut Case, scaler: &Value, source: &str, metric: &str) {
    let asked = list(&scaler["spec"]["metrics"]).any(|one| one[source]["metric"]["name"] == metric);
    case.hold(format!("{} does not scale on {metric}", title(scaler)), asked);
    let adapter = manifests.config("ai-platform-metrics-adapter", "adapter.yml");
    if let Some(adapter) = case.need("the metrics adapter's configuration", adapter) {
        case.hold(format!("the metrics adapter knows no {metric}"), adapter.contains(metric));
    }
}

pub(super) fn redis_memory(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(workload) = case.need("the workload redis", manifests.workload("redis")) else { return };
    let config = manifests.config(&format!("{PREFIX}redis"), "redis.conf");
    let policy = config.and_then(|text| setting(text, "maxmemory-policy"));
    case.want("maxmemory-policy", policy, &"allkeys-lru");
    for container in long_running(workload).filter(|one| one["name"] == "redis") {
        let memory = env(container, "REDIS_MAXMEMORY").and_then(bytes);
        case.want("REDIS_MAXMEMORY in bytes", memory, &(2 * GIB));
        // Beside its data Redis holds buffers, and a copy of what changes while it writes its file anew.
        let limit = container["resources"]["limits"]["memory"].as_str().and_then(bytes);
        case.at_least("the memory limit of redis in bytes", limit, 2 * GIB + GIB / 2);
    }
}
