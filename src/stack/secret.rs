//! The stack's secret: generated once, kept in the cluster only.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rand::RngExt;

use super::NAMESPACE;
use crate::cluster::{ClusterError, secret_text};

pub const SECRET: &str = "ai-platform-secrets";

const GENERATED: [&str; 8] = [
    "database-password",
    "postgres-password",
    "replication-password",
    "probe-password",
    "pgbouncer-stats-password",
    "rabbitmq-password",
    "rabbitmq-erlang-cookie",
    "grafana-password",
];

/// Creates the secret when it is not there, and adds keys that an older one lacks; no value is ever replaced.
pub async fn ensure(client: &Client) -> Result<(), ClusterError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let found = secrets.get_opt(SECRET).await.map_err(ClusterError::api(format!("read secret {SECRET}")))?;
    let Some(found) = found else {
        let made = secret(complete(BTreeMap::new()));
        let created = secrets.create(&PostParams::default(), &made).await;
        return created.map(drop).map_err(ClusterError::api(format!("create secret {SECRET}")));
    };
    let there = found.data.clone().unwrap_or_default();
    let whole = complete(there.clone());
    if whole.len() == there.len() {
        return Ok(());
    }
    // With the version that was read: two of us would otherwise each add a key of their own.
    let made = Secret { data: Some(whole), ..found };
    let replaced = secrets.replace(SECRET, &PostParams::default(), &made).await;
    replaced.map(drop).map_err(ClusterError::api(format!("complete secret {SECRET}")))
}

/// Every key; what is there stays.
fn complete(mut data: BTreeMap<String, ByteString>) -> BTreeMap<String, ByteString> {
    let bytes = |text: String| ByteString(text.into_bytes());
    for key in GENERATED {
        data.entry(key.to_owned()).or_insert_with(|| bytes(password()));
    }
    // 256 bits: it signs.
    data.entry("token-key".to_owned()).or_insert_with(|| bytes(password() + &password()));
    if !data.contains_key("database-url") {
        let password = String::from_utf8_lossy(&data["database-password"].0).into_owned();
        let url = format!("postgresql://ai_user:{password}@ai-platform-pgbouncer:6432/ai_platform");
        data.insert("database-url".to_owned(), bytes(url));
    }
    // The guide's key; our images come from no registry.
    data.entry("registry-credentials".to_owned()).or_insert_with(|| bytes("{\"auths\":{}}".to_owned()));
    data
}

fn secret(data: BTreeMap<String, ByteString>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), NAMESPACE.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(data),
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
    secret_text(client, NAMESPACE, SECRET, key).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_lacks_is_added() {
        let old = BTreeMap::from([("database-password".to_owned(), ByteString(b"old".to_vec()))]);
        let whole = complete(old);
        assert_eq!(whole["database-password"].0, b"old");
        assert!(String::from_utf8_lossy(&whole["database-url"].0).contains(":old@"));
        assert_eq!((whole["rabbitmq-password"].0.len(), whole["token-key"].0.len()), (32, 64));
        assert_eq!(complete(whole.clone()), whole);
    }
}
