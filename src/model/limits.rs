//! How much a run may break.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault_spec::one;

/// Where the stack under test lives.
pub const STACK_NAMESPACE: &str = "ai-platform";

/// Never touched, whatever a file says and whatever their labels.
pub const PROTECTED_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// How much a run may break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Pods hit at the most, all faults together; pods of a killed node count under `nodes`.
    #[serde(default = "one")]
    pub pods: u32,
    #[serde(default)]
    pub nodes: u32,
    /// Deployments and StatefulSets that are changed.
    #[serde(default)]
    pub workloads: u32,
    /// Other objects of the API that are changed or made.
    #[serde(default)]
    pub objects: u32,
    /// Share of a component's pods that is hit, in percent; a changed workload counts with all of its pods.
    #[serde(default = "hundred")]
    pub share_percent: u32,
    /// Servers of the control plane may be stopped.
    #[serde(default)]
    pub control_plane: bool,
    /// Where objects may be hit at all, beside the label that a namespace has to carry; the stack's own when absent.
    #[serde(default = "own_namespace")]
    pub namespaces: Vec<String>,
    /// The experiment is stopped and reverted after so long; absent: the sum of its phases, and some minutes.
    #[serde(default)]
    pub deadline_seconds: Option<u32>,
}

fn own_namespace() -> Vec<String> {
    vec![STACK_NAMESPACE.to_owned()]
}

const NAMESPACES_MAX: usize = 16;
const DEADLINE_MAX: u32 = 24 * 3600;

impl Limits {
    /// The first thing that cannot be meant: field and sentence.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.namespaces.is_empty() || self.namespaces.len() > NAMESPACES_MAX {
            return Some(("namespaces", format!("must list 1 to {NAMESPACES_MAX} namespaces")));
        }
        if let Some(name) = self.namespaces.iter().find(|name| PROTECTED_NAMESPACES.contains(&name.as_str()))
        {
            return Some(("namespaces", format!("{name} is protected: it is never touched")));
        }
        if self.deadline_seconds.is_some_and(|seconds| !(1..=DEADLINE_MAX).contains(&seconds)) {
            return Some(("deadlineSeconds", format!("must be 1 to {DEADLINE_MAX}")));
        }
        None
    }
}

fn hundred() -> u32 {
    100
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pods: 1,
            nodes: 0,
            workloads: 0,
            objects: 0,
            share_percent: 100,
            control_plane: false,
            namespaces: own_namespace(),
            deadline_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_told_with_its_field() {
        let problem = |yaml: &str| {
            let limits: Limits = crate::model::parse_yaml(std::path::Path::new("x.yaml"), yaml).unwrap();
            limits.problem().map_or_else(|| "fine".to_owned(), |(field, why)| format!("{field}: {why}"))
        };
        insta::assert_snapshot!(
            [
                problem("{}"),
                problem("{namespaces: [shop, ai-platform], deadlineSeconds: 300}"),
                problem("{namespaces: []}"),
                problem("{namespaces: [shop, kube-system]}"),
                problem("{deadlineSeconds: 0}"),
            ]
            .join("\n"),
            @r"
        fine
        fine
        namespaces: must list 1 to 16 namespaces
        namespaces: kube-system is protected: it is never touched
        deadlineSeconds: must be 1 to 86400
        "
        );
    }
}
