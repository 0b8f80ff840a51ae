//! The stack as a whole: its namespace, its secret, its order, its images.

use serde_json::Value;

use super::case::Case;
use super::manifests::{Manifests, WORKLOADS, every_container, list, pod, title};

const NAMESPACE: &str = "ai-platform";
const SECRET: &str = "ai-platform-secrets";
/// Keys that `mettle up` makes; the first three are the guide's.
const KEYS: [&str; 11] = [
    "database-password",
    "database-url",
    "registry-credentials",
    "postgres-password",
    "replication-password",
    "probe-password",
    "pgbouncer-stats-password",
    "rabbitmq-password",
    "rabbitmq-erlang-cookie",
    "token-key",
    "grafana-password",
];

/// The guide's order, each file by one object of it.
const ORDER: [(&str, &str, &str); 12] = [
    ("namespace.yaml", "Namespace", NAMESPACE),
    ("database-hpa.yaml", "StatefulSet", "ai-platform-postgres"),
    ("redis-hpa.yaml", "StatefulSet", "ai-platform-redis"),
    ("service-mesh.yaml", "StatefulSet", "ai-platform-kafka"),
    ("task-queue.yaml", "StatefulSet", "ai-platform-rabbitmq"),
    ("microservices.yaml", "Deployment", "ai-platform-auth"),
    ("istio-config.yaml", "Gateway", "ai-platform-gateway"),
    ("service-mesh.yaml (gateway)", "Deployment", "ai-platform-gateway"),
    ("cdn-edge-config.yaml", "Deployment", "ai-platform-edge"),
    ("monitoring.yaml", "Deployment", "ai-platform-prometheus"),
    ("backend-deployment.yaml", "Deployment", "ai-platform-backend"),
    ("frontend-deployment.yaml", "Deployment", "ai-platform-frontend"),
];

/// D1: there, and labelled so that the mesh may inject its sidecars.
pub(super) fn namespace(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(found) = case.need("the namespace", manifests.get("Namespace", NAMESPACE)) else { return };
    let injected = found["metadata"]["labels"]["istio-injection"] == "enabled";
    case.hold("the namespace is not labelled for the mesh", injected);
}

/// D2: the secret is referred to, by keys that are made, and never in a manifest.
pub(super) fn secret_references(manifests: &Manifests<'_>, case: &mut Case) {
    for secret in manifests.kind("Secret") {
        case.hold(
            format!("{} has data in a manifest", title(secret)),
            secret["data"].is_null() && secret["stringData"].is_null(),
        );
    }
    let mut read_password = false;
    for workload in manifests.workloads() {
        for container in every_container(workload) {
            for one in list(&container["env"]) {
                let reference = &one["valueFrom"]["secretKeyRef"];
                if reference.is_null() {
                    continue;
                }
                let key = reference["key"].as_str().unwrap_or_default();
                let known = reference["name"] == SECRET && KEYS.contains(&key);
                case.hold(format!("{} reads {reference}, which nobody makes", title(workload)), known);
                read_password |= key == "database-password";
            }
        }
    }
    if manifests.workloads().next().is_some() {
        case.hold("nobody reads database-password", read_password);
    }
}

/// D3: as the guide applies its files.
pub(super) fn apply_order(manifests: &Manifests<'_>, case: &mut Case) {
    let mut before: Option<(usize, &str)> = None;
    for (file, kind, name) in ORDER {
        let at =
            manifests.all().iter().position(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        let Some(at) = case.need(format!("{kind} {name} of {file}"), at) else { continue };
        if let Some((last, earlier)) = before {
            case.hold(format!("{file} is applied before {earlier}"), last < at);
        }
        before = Some((at, file));
    }
    let named = |object: &&Value| WORKLOADS.iter().any(|kind| object["kind"] == *kind);
    let first = manifests.all().iter().position(|object| named(&object));
    let space = manifests.all().iter().position(|object| object["kind"] == "Namespace");
    if let (Some(first), Some(space)) = (first, space) {
        case.hold("a workload comes before its namespace", space < first);
    }
}

/// Every image of the manifests, with whose it is; also the sidecar's, which stands in a text.
fn images<'a>(manifests: &Manifests<'a>) -> Vec<(String, &'a str)> {
    let mut found = Vec::new();
    for workload in manifests.workloads() {
        for container in every_container(workload) {
            found.push((title(workload), container["image"].as_str().unwrap_or_default()));
        }
        for volume in list(&pod(workload)["volumes"]) {
            found.extend(volume["image"]["reference"].as_str().map(|image| (title(workload), image)));
        }
    }
    for config in manifests.kind("ConfigMap") {
        let texts = config["data"].as_object().into_iter().flat_map(|data| data.values());
        for line in texts.filter_map(Value::as_str).flat_map(str::lines) {
            let image = line.trim().trim_start_matches("- ").strip_prefix("image:").map(str::trim);
            found.extend(image.filter(|image| !image.starts_with("{{")).map(|image| (title(config), image)));
        }
    }
    found
}

fn tag(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(['@', ':']).map(|(_, tag)| tag)
}

/// No image without a tag, and none by a tag that is made to move. `dev` stands for a tag by content, which the harness sets.
pub(super) fn images_pinned(manifests: &Manifests<'_>, case: &mut Case) {
    for (of, image) in images(manifests) {
        let pinned = tag(image).is_some_and(|tag| !tag.is_empty() && tag != "latest");
        case.hold(format!("{of} has the image {image:?}"), pinned);
    }
}

/// Each image by a version or a digest.
pub(super) fn images_released(manifests: &Manifests<'_>, case: &mut Case) {
    for (of, image) in images(manifests) {
        let version = |tag: &str| {
            let starts = tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
            (starts && tag.contains('.')) || tag.starts_with("sha256:")
        };
        case.hold(format!("{of} has the image {image:?}, no version"), tag(image).is_some_and(version));
    }
}
