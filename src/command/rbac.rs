//! `mettle rbac`: the rights that files need, as Roles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::RbacArgs;
use crate::command::files::{self, NamedBy, usage};
use crate::command::{CommandResult, Failure, script, translate};
use crate::exit::Exit;
use crate::fault::{Right, always, rights, watching};
use crate::foreign::Tool;
use crate::model::{Experiment, Watch, parse_yaml, read_text};
use crate::stack::NAMESPACE;

pub fn execute(args: &RbacArgs) -> CommandResult {
    let Some((namespace, name)) =
        args.service_account.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty())
    else {
        let error = anyhow::anyhow!("--service-account {:?} is not NAMESPACE/NAME", args.service_account);
        return Err(Failure::new(Exit::Usage, error));
    };
    let mut further = Vec::new();
    for file in &args.files {
        further.extend(rights_of(file)?);
    }
    let documents = manifests(further, namespace, name);
    // JSON is YAML: `kubectl apply` reads it, and so does every linter.
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": documents });
    println!("{}", serde_json::to_string_pretty(&list).map_err(anyhow::Error::from)?);
    Ok(Exit::Pass)
}

/// What the file's faults need, and its probes.
fn rights_of(file: &Path) -> Result<Vec<Right>, Failure> {
    let text = read_text(file).map_err(|error| usage(error, NamedBy::Caller))?;
    // What is no YAML is told by who reads our own files.
    let tool = Tool::of(&parse_yaml::<Value>(file, &text).unwrap_or_default());
    if tool == Some(Tool::ChaosToolkit) {
        // Its questions read what every run may read; its programs have rights of their own.
        let scripts = script::read(file)?;
        let faults = scripts.iter().flat_map(|one| one.script.faults());
        return Ok(faults.flat_map(|fault| rights(fault.kind)).collect());
    }
    if tool.is_some() || text.lines().any(|line| line.starts_with("rehearsal:")) {
        let rehearsal = translate::rehearsal(file)?;
        return Ok(rehearsal.faults.iter().flat_map(|fault| rights(fault.kind)).collect());
    }
    let loaded = files::load(std::slice::from_ref(&file.to_owned()))?;
    let of_one = |experiment: &Experiment| {
        let faults = experiment.faults.iter().flat_map(|fault| rights(fault.kind));
        faults.chain(watching(&Watch::of(&experiment.expect))).collect::<Vec<_>>()
    };
    Ok(loaded.iter().flat_map(|one| of_one(&one.experiment)).collect())
}

/// Cluster-wide rights in a ClusterRole, the others in a Role of the stack's namespace.
fn manifests(further: Vec<Right>, namespace: &str, name: &str) -> Vec<Value> {
    let all: BTreeSet<Right> = always().into_iter().chain(further).collect();
    let subject = json!([{ "kind": "ServiceAccount", "namespace": namespace, "name": name }]);
    let role = |kind: &str, cluster: bool| {
        let mut role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": { "name": "mettle" },
            "rules": rules(all.iter().filter(|right| right.cluster == cluster)),
        });
        let mut binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": format!("{kind}Binding"),
            "metadata": { "name": "mettle" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "mettle" },
            "subjects": subject,
        });
        if !cluster {
            role["metadata"]["namespace"] = json!(NAMESPACE);
            binding["metadata"]["namespace"] = json!(NAMESPACE);
        }
        [role, binding]
    };
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": namespace },
    });
    [vec![account], role("ClusterRole", true).into(), role("Role", false).into()].concat()
}

/// One rule a resource, with every verb that anything needs of it.
fn rules<'a>(rights: impl Iterator<Item = &'a Right>) -> Vec<Value> {
    let mut verbs: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for right in rights {
        verbs.entry((right.group, right.resource)).or_default().extend(right.verbs);
    }
    let rules = verbs.into_iter().map(
        |((group, resource), verbs)| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs }),
    );
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FaultKind;

    #[test]
    fn a_fault_brings_its_own_rights_and_no_others() {
        let rules_of = |kinds: &[FaultKind]| {
            let documents = manifests(kinds.iter().flat_map(|kind| rights(*kind)).collect(), "a", "b");
            documents[3]["rules"].to_string()
        };
        let forwarding = r#"{"apiGroups":[""],"resources":["pods/portforward"],"verbs":["create","get"]},"#;
        let reading = rules_of(&[]);
        assert!(reading.contains(forwarding), "{reading}");
        let reading = reading.replace(forwarding, "");
        assert!(
            !reading.contains("delete") && !reading.contains("update") && !reading.contains("create"),
            "{reading}"
        );
        let killing = rules_of(&[FaultKind::PodKill]);
        assert!(
            killing.contains(
                r#"{"apiGroups":[""],"resources":["pods"],"verbs":["delete","get","list","watch"]}"#
            ),
            "{killing}"
        );
        assert!(!killing.contains("ephemeral"));
        let looking = watching(&Watch { refusals: true, ..Watch::default() });
        assert!(manifests(looking, "a", "b")[3]["rules"].to_string().contains("pods/exec"));
        assert!(rules_of(&[FaultKind::CpuStress]).contains("pods/ephemeralcontainers"));
    }
}
