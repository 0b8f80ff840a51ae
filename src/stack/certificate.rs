//! The gateway's certificate: an authority of the stack's own and one server certificate, generated, kept in the
//! cluster only. The authority's key is thrown away, so nobody can sign another.

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

const SERVICE: &str = "ai-platform-gateway";
const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 365;

/// Creates the secret when it is not there; one that is there is never overwritten: rotation is a fault of its own.
pub async fn ensure(client: &Client) -> Result<(), ClusterError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let found = secrets.get_opt(SECRET).await.map_err(ClusterError::api(format!("read secret {SECRET}")))?;
    if found.is_some() {
        return Ok(());
    }
    let data = generated()
        .map_err(|error| ClusterError::state("make the gateway's certificate", error.to_string()))?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), NAMESPACE.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let created = secrets.create(&PostParams::default(), &secret).await;
    created.map(drop).map_err(ClusterError::api(format!("create secret {SECRET}")))
}

fn generated() -> Result<BTreeMap<String, ByteString>, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = params("ai-platform");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = authority.self_signed(&authority_key)?;
    let mut leaf = params(SERVICE);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in names() {
        leaf.subject_alt_names.push(rcgen::SanType::DnsName(name.as_str().try_into()?));
    }
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    let entry = |name: &str, pem: String| (name.to_owned(), ByteString(pem.into_bytes()));
    Ok(BTreeMap::from([
        entry("tls.crt", certificate.pem()),
        entry("tls.key", key.serialize_pem()),
        entry("ca.crt", root.pem()),
    ]))
}

/// As pods call it, and as the world would.
fn names() -> [String; 5] {
    [
        SERVICE.to_owned(),
        format!("{SERVICE}.{NAMESPACE}"),
        format!("{SERVICE}.{NAMESPACE}.svc"),
        format!("{SERVICE}.{NAMESPACE}.svc.cluster.local"),
        "ai-platform.local".to_owned(),
    ]
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

    #[test]
    fn a_secret_has_a_certificate_its_key_and_who_signed_it() {
        let data = generated().unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert!(text("tls.crt").starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(text("tls.key").starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(text("ca.crt"), text("tls.crt"));
        assert_ne!(generated().unwrap()["tls.key"].0, data["tls.key"].0, "never the same");
    }
}
