//! The stack's secret: generated once, kept in the cluster only.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rand::RngExt;

use super::NAMESPACE;
use crate::cluster::ClusterError;

pub const SECRET: &str = "ai-platform-secrets";

const GENERATED: [&str; 5] = [
    "database-password",
    "postgres-password",
    "replication-password",
    "probe-password",
    "pgbouncer-stats-password",
];

/// Creates the secret when it is not there; one that is there is never overwritten.
pub async fn ensure(client: &Client) -> Result<(), ClusterError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let found = secrets.get_opt(SECRET).await.map_err(ClusterError::api(format!("read secret {SECRET}")))?;
    if found.is_some() {
        return Ok(());
    }
    secrets
        .create(&PostParams::default(), &generated())
        .await
        .map_err(ClusterError::api(format!("create secret {SECRET}")))?;
    Ok(())
}

fn generated() -> Secret {
    let mut data: BTreeMap<String, String> =
        GENERATED.into_iter().map(|key| (key.to_owned(), password())).collect();
    let url =
        format!("postgresql://ai_user:{}@ai-platform-pgbouncer:6432/ai_platform", data["database-password"]);
    data.insert("database-url".to_owned(), url);
    // The guide's key; our images come from no registry.
    data.insert("registry-credentials".to_owned(), "{\"auths\":{}}".to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), NAMESPACE.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// 128 bits from the system's generator, in letters that need no quoting anywhere.
fn password() -> String {
    let bits: u128 = rand::rng().random();
    format!("{bits:032x}")
}

/// One password of the secret, for the harness' own reads. Never print it.
///
/// # Errors
/// When the secret or the key is not there.
pub async fn read_password(client: &Client, key: &str) -> Result<String, ClusterError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get(SECRET).await.map_err(ClusterError::api(format!("read secret {SECRET}")))?;
    let value = secret.data.and_then(|mut data| data.remove(key));
    let value = value.and_then(|bytes| String::from_utf8(bytes.0).ok());
    value.ok_or_else(|| ClusterError::state(format!("read secret {SECRET}"), format!("it has no key {key}")))
}
