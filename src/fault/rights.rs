//! Which rights a fault needs, as RBAC rules: what `mettle rbac` prints, and what the tests run with.

use serde::Serialize;

use super::{Way, way};
use crate::model::{FaultKind, Watch};

/// One rule of a Role or, when `cluster`, of a ClusterRole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Right {
    pub cluster: bool,
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

const fn right(
    cluster: bool,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Right {
    Right { cluster, group, resource, verbs }
}

const READ: &[&str] = &["get", "list", "watch"];
const CHANGE: &[&str] = &["get", "list", "update"];

/// What every run reads, whatever it breaks.
#[must_use]
pub fn always() -> Vec<Right> {
    vec![
        right(true, "", "namespaces", &["get", "list"]),
        right(true, "", "nodes", READ),
        right(false, "", "pods", READ),
        // Members are asked in their own protocol; where there is no route to them, by way of the API server.
        right(false, "", "pods/portforward", &["create", "get"]),
        right(false, "", "services", &["get", "list"]),
        right(false, "", "secrets", &["get"]),
        right(false, "apps", "deployments", READ),
        right(false, "apps", "statefulsets", READ),
        right(false, "apps", "replicasets", &["get"]),
        right(false, "discovery.k8s.io", "endpointslices", READ),
        right(false, "networking.k8s.io", "networkpolicies", &["list"]),
        right(false, "rbac.authorization.k8s.io", "rolebindings", &["list"]),
        right(false, "networking.istio.io", "virtualservices", &["list"]),
        right(false, "networking.istio.io", "destinationrules", &["list"]),
        right(false, "security.istio.io", "authorizationpolicies", &["list"]),
    ]
}

/// What the probes need that only some runs have.
#[must_use]
pub fn watching(watch: &Watch) -> Vec<Right> {
    let from_inside = right(false, "", "pods/exec", &["create", "get"]);
    let scalers = right(false, "autoscaling", "horizontalpodautoscalers", &["list"]);
    let refusals = watch.refusals.then_some(from_inside);
    refusals.into_iter().chain((!watch.scales.is_empty()).then_some(scalers)).collect()
}

/// What a fault and its undo need beyond that.
#[must_use]
pub fn rights(kind: FaultKind) -> Vec<Right> {
    let counters = right(false, "", "pods/exec", &["create", "get"]);
    match way(kind) {
        Way::Pods if kind == FaultKind::PodEvict => vec![right(false, "", "pods/eviction", &["create"])],
        Way::Pods => vec![right(false, "", "pods", &["delete"])],
        Way::Agents => vec![
            right(false, "", "pods/ephemeralcontainers", &["patch"]),
            right(false, "", "pods/attach", &["create", "get"]),
        ],
        // A StatefulSet never replaces a pod that an earlier template left broken: the undo deletes it.
        Way::Workloads => vec![
            right(false, "apps", "deployments", CHANGE),
            right(false, "apps", "statefulsets", CHANGE),
            right(false, "", "pods", &["delete"]),
        ],
        Way::Nodes => match kind {
            FaultKind::NodeCordon | FaultKind::NodeTaint => vec![right(true, "", "nodes", CHANGE)],
            FaultKind::NodeDrain => {
                vec![right(true, "", "nodes", CHANGE), right(false, "", "pods/eviction", &["create"])]
            }
            // The provider's own power, not the API's.
            _ => Vec::new(),
        },
        Way::Objects => match kind {
            FaultKind::EndpointsLost => vec![right(false, "", "services", CHANGE)],
            FaultKind::CertificateExpired => vec![right(false, "", "secrets", CHANGE)],
            FaultKind::NetworkPolicyDeny => {
                vec![right(false, "networking.k8s.io", "networkpolicies", CHANGE)]
            }
            // Giving subjects back is giving rights: the server wants `bind` for that. What the rights are is read from
            // the role, and asked about.
            FaultKind::RbacRevoked => vec![
                right(false, "rbac.authorization.k8s.io", "rolebindings", CHANGE),
                right(false, "rbac.authorization.k8s.io", "roles", &["get", "bind"]),
                right(false, "authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
            ],
            FaultKind::MeshPoolTiny | FaultKind::MeshPlaintext => {
                vec![right(false, "networking.istio.io", "destinationrules", CHANGE), counters]
            }
            FaultKind::MeshDeny => vec![
                right(
                    false,
                    "security.istio.io",
                    "authorizationpolicies",
                    &["get", "list", "create", "delete"],
                ),
                counters,
            ],
            _ => vec![right(false, "networking.istio.io", "virtualservices", CHANGE), counters],
        },
        Way::Commands => vec![counters],
        // Where the cluster's DNS is, to ask it.
        Way::ControlPlane if kind == FaultKind::DnsServerPause => vec![right(true, "", "services", &["get"])],
        Way::ControlPlane => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_provider_does_itself_needs_no_right() {
        for kind in FaultKind::ALL {
            let none = rights(*kind).is_empty();
            let by_provider = matches!(
                kind,
                FaultKind::NodeKill | FaultKind::NodeFreeze | FaultKind::NodeIsolate | FaultKind::ZoneLoss
            ) || (way(*kind) == Way::ControlPlane && *kind != FaultKind::DnsServerPause);
            assert_eq!(none, by_provider, "{}", kind.as_str());
        }
    }
}
