//! The promises of the deployment guide.

use serde::{Deserialize, Serialize};

/// One promise, as `stack/claims.yaml` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Stable: `P3`.
    pub id: String,
    pub promise: String,
    /// The guide's file that builds it, under `stack/base`.
    pub file: String,
    /// Components that must stand for it; none for promises about the whole.
    pub components: Vec<String>,
    /// What must all be proven for the promise to be; each is named as `ID/part`. Empty: one proof is enough.
    #[serde(default)]
    pub parts: Vec<String>,
    /// Why it is not wholly proven on the local cluster, where it cannot be, and where it is.
    #[serde(default)]
    pub reason: Option<String>,
}
