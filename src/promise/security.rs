//! Who may connect, who may ask the API for what, and no secret in the clear.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::Case;
use super::manifests::{
    Manifests, every_container, list, name, namespace, pod, pod_app, selects, texts, title,
};

/// X1: in each namespace nobody may be connected to, but for what a policy of its own allows.
pub(super) fn default_deny(manifests: &Manifests<'_>, case: &mut Case) {
    let mut outgoing_denied = true;
    for space in manifests.kind("Namespace") {
        let whole = |policy: &&Value| {
            let selector = &policy["spec"]["podSelector"];
            namespace(policy) == name(space) && selector.as_object().is_some_and(serde_json::Map::is_empty)
        };
        let closed = |direction: &str, field: &str| {
            manifests.kind("NetworkPolicy").filter(whole).any(|policy| {
                let about = texts(&policy["spec"]["policyTypes"]).any(|kind| kind == direction);
                about && policy["spec"][field].as_array().is_none_or(Vec::is_empty)
            })
        };
        case.hold(format!("{} denies nothing by default", title(space)), closed("Ingress", "ingress"));
        outgoing_denied &= closed("Egress", "egress");
    }
    for policy in manifests.kind("NetworkPolicy") {
        let open = policy["spec"]["podSelector"].as_object().is_some_and(serde_json::Map::is_empty)
            && list(&policy["spec"]["ingress"]).any(|rule| rule["from"].as_array().is_none_or(Vec::is_empty));
        case.hold(format!("{} lets everybody in everywhere", title(policy)), !open);
    }
    for workload in manifests.workloads() {
        let allowed = manifests.kind("NetworkPolicy").any(|policy| {
            let named = policy["spec"]["podSelector"].as_object().is_some_and(|one| !one.is_empty());
            named
                && namespace(policy) == namespace(workload)
                && selects(&policy["spec"]["podSelector"], workload)
        });
        case.hold(format!("no policy says who may connect to {}", title(workload)), allowed);
    }
    if !outgoing_denied {
        case.note("outgoing connections are not restricted: the stack states incoming rules only");
    }
}

/// X2: no wildcard, no administrator, a service account of one's own, and its token only where a role is bound to it.
pub(super) fn least_privilege(manifests: &Manifests<'_>, case: &mut Case) {
    for role in manifests.kind("Role").chain(manifests.kind("ClusterRole")) {
        for rule in list(&role["rules"]) {
            for field in ["verbs", "resources", "apiGroups"] {
                let wild = texts(&rule[field]).any(|one| one.contains('*'));
                case.hold(format!("{} has a wildcard in {field}", title(role)), !wild);
            }
        }
    }
    let bindings: Vec<&Value> =
        manifests.kind("RoleBinding").chain(manifests.kind("ClusterRoleBinding")).collect();
    for binding in &bindings {
        let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
        case.hold(
            format!("{} gives {role}", title(binding)),
            !["cluster-admin", "admin", "edit"].contains(&role),
        );
        let groups = list(&binding["subjects"]).any(|one| one["kind"] == "Group");
        case.hold(format!("{} gives to a whole group", title(binding)), !groups);
    }
    let mut owners: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for workload in manifests.workloads() {
        let account = pod(workload)["serviceAccountName"].as_str().unwrap_or_default();
        let exists = manifests
            .kind("ServiceAccount")
            .any(|one| name(one) == account && namespace(one) == namespace(workload));
        case.hold(
            format!("{} has no service account of its own", title(workload)),
            exists && account != "default",
        );
        let bound = bindings.iter().any(|binding| {
            list(&binding["subjects"]).any(|one| {
                one["kind"] == "ServiceAccount"
                    && one["name"] == account
                    && one["namespace"] == namespace(workload)
            })
        });
        let mounted = pod(workload)["automountServiceAccountToken"] != false;
        case.hold(format!("{} has a token for nothing", title(workload)), bound || !mounted);
        owners.entry((namespace(workload), account)).or_default().push(workload);
    }
    for ((_, account), workloads) in owners {
        // One server in two roles may share an account that has no rights.
        let powerless = workloads.iter().all(|one| pod(one)["automountServiceAccountToken"] == false);
        let same = workloads
            .windows(2)
            .all(|two| pod(two[0])["containers"][0]["image"] == pod(two[1])["containers"][0]["image"]);
        case.hold(
            format!("{} workloads share the account {account}", workloads.len()),
            workloads.len() == 1 || (powerless && same),
        );
    }
}

const SECRET_WORDS: [&str; 4] = ["PASSWORD", "SECRET", "TOKEN", "COOKIE"];

/// X4: a password comes from the secret, and stands in no manifest.
pub(super) fn no_literal_secrets(manifests: &Manifests<'_>, case: &mut Case) {
    for secret in manifests.kind("Secret") {
        case.hold(format!("{} is in a manifest", title(secret)), false);
    }
    for workload in manifests.workloads() {
        for container in every_container(workload) {
            for one in list(&container["env"]) {
                let (key, value) = (one["name"].as_str().unwrap_or_default(), one["value"].as_str());
                let told = value.is_some_and(|value| !value.is_empty() && !value.starts_with(['/', '$']));
                let secret = SECRET_WORDS.iter().any(|word| key.to_uppercase().contains(word));
                case.hold(format!("{key} of {} is in the clear", pod_app(workload)), !(secret && told));
                let url = value.is_some_and(has_credentials);
                case.hold(format!("{key} of {} has a password in its URL", pod_app(workload)), !url);
            }
        }
    }
    for config in manifests.kind("ConfigMap") {
        for (file, text) in config["data"].as_object().into_iter().flatten() {
            let text = text.as_str().unwrap_or_default();
            let key = text.contains("PRIVATE KEY-----");
            case.hold(format!("{file} of {} holds a secret", title(config)), !key && !has_credentials(text));
        }
    }
}

/// `scheme://name:password@host`, anywhere in a text.
fn has_credentials(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || "/\"'`,".contains(c)).unwrap_or(rest.len());
        rest[..end].split_once('@').is_some_and(|(user, _)| {
            user.split_once(':')
                .is_some_and(|(_, password)| !password.is_empty() && !password.starts_with('$'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::has_credentials;

    #[test]
    fn a_password_in_an_address_is_seen() {
        for (text, seen) in [
            ("postgresql://ai_user:hunter2@db:5432/x", true),
            ("postgresql://ai_user@db:5432/x", false),
            ("http://a:80/x and y@z", false),
            ("amqp://u:$(PASSWORD)@q", false),
            ("see https://example.com", false),
        ] {
            assert_eq!(has_credentials(text), seen, "{text}");
        }
    }
}
