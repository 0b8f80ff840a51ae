//! Certificates that the stack is born with: the gateway's, and those by which the backup repository and the database
//! know each other. Generated, kept in the cluster only. Each authority's key is thrown away, so nobody can sign another.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::NAMESPACE;
use crate::cluster::ClusterError;

pub const SECRET: &str = "ai-platform-gateway-tls";
/// One object for both ends: made at once or not at all, so they always trust the same authority. Each pod mounts only
/// its own key of it.
const BACKUP_SECRET: &str = "ai-platform-backup-tls";

const SERVICE: &str = "ai-platform-gateway";
const REPOSITORY: &str = "ai-platform-backup";
/// Every member, by the name of its pod.
const DATABASE: &str = "*.ai-platform-postgres-pods";
const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 365;

type Data = BTreeMap<String, ByteString>;

/// Creates the secrets that are not there; one that is there is never overwritten: rotation is a fault of its own.
pub async fn ensure(client: &Client) -> Result<(), ClusterError> {
    ensure_one(client, SECRET, "kubernetes.io/tls", gateway).await?;
    ensure_one(client, BACKUP_SECRET, "Opaque", backup).await
}

async fn ensure_one(
    client: &Client,
    name: &str,
    kind: &str,
    generate: fn() -> Result<Data, rcgen::Error>,
) -> Result<(), ClusterError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let found = secrets.get_opt(name).await.map_err(ClusterError::api(format!("read secret {name}")))?;
    if found.is_some() {
        return Ok(());
    }
    let data = generate().map_err(|error| {
        ClusterError::state(format!("make the certificates of {name}"), error.to_string())
    })?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), NAMESPACE.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let created = secrets.create(&PostParams::default(), &secret).await;
    created.map(drop).map_err(ClusterError::api(format!("create secret {name}")))
}

fn gateway() -> Result<Data, rcgen::Error> {
    let authority = Authority::new()?;
    let mut names = as_pods_call_it(SERVICE);
    names.push("ai-platform.local".to_owned());
    let (certificate, key) = authority.sign(SERVICE, &names, &[ExtendedKeyUsagePurpose::ServerAuth])?;
    Ok(entries([("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem)]))
}

/// Both ends serve and call. The common names are what each end's settings let in.
fn backup() -> Result<Data, rcgen::Error> {
    let authority = Authority::new()?;
    let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (repository, repository_key) = authority.sign(REPOSITORY, &as_pods_call_it(REPOSITORY), &uses)?;
    let (database, database_key) =
        authority.sign("ai-platform-postgres", &as_pods_call_it(DATABASE), &uses)?;
    Ok(entries([
        ("repository.crt", repository),
        ("repository.key", repository_key),
        ("database.crt", database),
        ("database.key", database_key),
        ("ca.crt", authority.pem),
    ]))
}

fn entries<const N: usize>(pems: [(&str, String); N]) -> Data {
    pems.into_iter().map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes()))).collect()
}

fn as_pods_call_it(service: &str) -> Vec<String> {
    ["", ".ai-platform", ".ai-platform.svc", ".ai-platform.svc.cluster.local"]
        .map(|domain| format!("{service}{domain}"))
        .to_vec()
}

/// Lives as long as it takes to sign.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut authority = params("ai-platform");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = authority.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(authority, key) })
    }

    /// A certificate and its key.
    fn sign(
        &self,
        common_name: &str,
        names: &[String],
        uses: &[ExtendedKeyUsagePurpose],
    ) -> Result<(String, String), rcgen::Error> {
        let mut leaf = params(common_name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = uses.to_vec();
        for name in names {
            leaf.subject_alt_names.push(rcgen::SanType::DnsName(name.as_str().try_into()?));
        }
        let key = KeyPair::generate()?;
        Ok((leaf.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day back, so that a clock that is a little behind accepts it.
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * DAYS).into();
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &Data, key: &str) -> String {
        String::from_utf8(data[key].0.clone()).unwrap()
    }

    #[test]
    fn a_secret_has_a_certificate_its_key_and_who_signed_it() {
        let data = gateway().unwrap();
        assert!(text(&data, "tls.crt").starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(text(&data, "tls.key").starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(text(&data, "ca.crt"), text(&data, "tls.crt"));
        assert_ne!(gateway().unwrap()["tls.key"].0, data["tls.key"].0, "never the same");
    }

    #[test]
    fn repository_and_database_have_keys_of_their_own_under_one_authority() {
        let data = backup().unwrap();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["ca.crt", "database.crt", "database.key", "repository.crt", "repository.key"]);
        assert_ne!(text(&data, "database.key"), text(&data, "repository.key"));
        assert!(as_pods_call_it(DATABASE).contains(&"*.ai-platform-postgres-pods".to_owned()));
        assert!(as_pods_call_it(REPOSITORY).contains(&"ai-platform-backup.ai-platform.svc".to_owned()));
    }
}
