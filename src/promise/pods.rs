//! What every pod of ours keeps: it is restarted, asked for its health, and may do little.

use serde_json::Value;

use super::case::Case;
use super::manifests::{Manifests, every_container, list, long_running, namespace, pod, selects, title};

/// F1: under a controller, restarted always, and not all taken away at once.
pub(super) fn restarts(manifests: &Manifests<'_>, case: &mut Case) {
    for bare in manifests.kind("Pod") {
        case.hold(format!("{} has no controller", title(bare)), false);
    }
    for workload in manifests.workloads() {
        let policy = &pod(workload)["restartPolicy"];
        case.hold(
            format!("{} is not restarted: {policy}", title(workload)),
            policy.is_null() || policy == "Always",
        );
        let budget = manifests.kind("PodDisruptionBudget").any(|budget| {
            let bounded =
                !budget["spec"]["maxUnavailable"].is_null() || !budget["spec"]["minAvailable"].is_null();
            let same = namespace(budget) == namespace(workload);
            bounded && same && selects(&budget["spec"]["selector"], workload)
        });
        case.hold(format!("{} has no disruption budget", title(workload)), budget);
    }
}

/// F2: hung is not slow. A listening socket proves nothing, so probes ask over HTTP, and more than once before they act.
pub(super) fn probes(manifests: &Manifests<'_>, case: &mut Case) {
    for workload in manifests.workloads() {
        let mut ready = false;
        for container in long_running(workload) {
            let of = format!("{} of {}", container["name"], title(workload));
            let live = &container["livenessProbe"];
            case.hold(format!("{of} has no liveness probe"), live.is_object());
            if live.is_object() {
                // Over HTTP, or by a program that speaks the server's own protocol.
                let asked = live["httpGet"].is_object() || live["exec"].is_object();
                case.hold(format!("{of} is only asked whether its port listens"), asked);
                let failures = live["failureThreshold"].as_i64().unwrap_or(3);
                let period_s = live["periodSeconds"].as_i64().unwrap_or(10);
                let patience_s = failures * period_s;
                case.hold(
                    format!("{of} is restarted after {failures} failures in {patience_s} s"),
                    failures >= 2 && patience_s >= 9,
                );
            }
            ready |= container["readinessProbe"].is_object();
        }
        case.hold(format!("{} has no readiness probe", title(workload)), ready);
    }
}

/// X2: the restricted profile of Kubernetes' pod security, and a root file system that cannot be written to.
pub(super) fn restricted(manifests: &Manifests<'_>, case: &mut Case) {
    for workload in manifests.workloads() {
        let (spec, of) = (pod(workload), title(workload));
        let whole = &spec["securityContext"];
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            case.hold(format!("{of} has {field}"), spec[field] != true);
        }
        let host = list(&spec["volumes"]).any(|volume| volume["hostPath"].is_object());
        case.hold(format!("{of} mounts a path of its node"), !host);
        for container in every_container(workload) {
            let own = &container["securityContext"];
            let of = format!("{} of {of}", container["name"]);
            let either = |field: &str| if own[field].is_null() { &whole[field] } else { &own[field] };
            case.hold(
                format!("{of} may be root"),
                either("runAsNonRoot") == true && either("runAsUser") != 0,
            );
            let profile = &either("seccompProfile")["type"];
            let confined = profile == "RuntimeDefault" || profile == "Localhost";
            case.hold(format!("{of} has no seccomp profile"), confined);
            case.hold(format!("{of} may escalate"), own["allowPrivilegeEscalation"] == false);
            case.hold(format!("{of} is privileged"), own["privileged"] != true);
            case.hold(format!("{of} writes to its root"), own["readOnlyRootFilesystem"] == true);
            let dropped = list(&own["capabilities"]["drop"]).any(|one| one == "ALL");
            let added = own["capabilities"]["add"].as_array().map_or(0, Vec::len);
            case.hold(format!("{of} has capabilities"), dropped && added == 0);
            let limited = container["resources"]["limits"]["memory"].is_string();
            case.hold(format!("{of} has no memory limit"), limited);
        }
    }
    let injected = manifests.kind("ConfigMap").any(|one: &Value| title(one).ends_with("sidecar-injector"));
    if injected {
        case.note(
            "the mesh's injected init container is the one exception: root with NET_ADMIN, for a second",
        );
    }
}
