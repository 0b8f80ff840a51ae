//! Parts of the guide that a provider may be unable to run, since their images are in no registry that it reaches.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client};

use super::NAMESPACE;
use crate::cluster::{ClusterError, NAME_LABEL};

/// Name in the guide, and label of its workload. Each is a Kustomize component of its own.
const OPTIONAL: [(&str, &str); 2] = [("Kong", "kong"), ("Grafana", "grafana")];

/// The names of those that do not stand here. Never replaced in silence: every status, table and report says so.
///
/// # Errors
/// When the API does not answer.
pub async fn not_run_here(client: &Client) -> Result<Vec<String>, ClusterError> {
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    let mut absent = Vec::new();
    for (name, label) in OPTIONAL {
        let list = ListParams::default().labels(&format!("{NAME_LABEL}={label}")).limit(1);
        let found = deployments.list(&list).await.map_err(ClusterError::api(format!("look for {name}")))?;
        if found.items.is_empty() {
            absent.push(name.to_owned());
        }
    }
    Ok(absent)
}
