//! How much a run may break.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault_spec::one;

/// How much a run may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

fn hundred() -> u32 {
    100
}

impl Default for Limits {
    fn default() -> Self {
        Self { pods: 1, nodes: 0, workloads: 0, objects: 0, share_percent: 100, control_plane: false }
    }
}
