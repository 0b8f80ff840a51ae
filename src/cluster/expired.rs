//! Certificates that have expired: made for a key that is there, and seen at a server.

use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::ByteString;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::{Certificate, Client};
use serde_json::Value;

use crate::model::Edit;

const DEADLINE: Duration = Duration::from_secs(2);

/// The edits, with those that need what the object holds made into plain ones.
pub(super) fn made(edits: &[Edit], object: &Value) -> Result<Vec<Edit>, String> {
    let made = edits.iter().map(|edit| match edit {
        Edit::Set { .. } | Edit::Add { .. } => Ok(edit.clone()),
        Edit::Expire { certificate, key } => {
            let pem = bytes(object, key)?;
            // Whatever is wrong with a key, nothing of it is told.
            let pem = String::from_utf8(pem).map_err(|_| format!("{key} is no text"))?;
            let expired = expired(&pem).map_err(|_| format!("{key} is no private key that we can read"))?;
            let value = serde_json::to_value(ByteString(expired.into_bytes()));
            Ok(Edit::set(certificate, value.map_err(|error| error.to_string())?))
        }
    });
    made.collect()
}

fn bytes(object: &Value, path: &str) -> Result<Vec<u8>, String> {
    let value = object.pointer(path).ok_or_else(|| format!("it has no {path}"))?;
    let bytes = serde_json::from_value::<ByteString>(value.clone());
    bytes.map(|bytes| bytes.0).map_err(|_| format!("{path} is not in base64"))
}

/// Signed by its own key; it was valid for a day.
fn expired(key: &str) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["expired.invalid".to_owned()])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 2);
    Ok(params.self_signed(&KeyPair::from_pem(key)?)?.pem())
}

/// How many of these servers show one. That is looked at before who signed it, so it needs nobody's trust.
pub(super) async fn shown(addresses: &[String]) -> usize {
    // Asked every second: its key and its root are made once.
    static CLIENT: LazyLock<Option<Client>> = LazyLock::new(client);
    let Some(client) = CLIENT.as_ref() else { return 0 };
    let asked = addresses.iter().map(|address| {
        let asked = client.get(format!("https://{address}/")).send();
        async move { asked.await.is_err_and(|error| says_expired(&error)) }
    });
    futures::future::join_all(asked).await.into_iter().filter(|expired| *expired).count()
}

/// Trusts nobody who signs anything.
fn client() -> Option<Client> {
    let nobody = CertificateParams::new(vec!["nobody.invalid".to_owned()]).ok()?;
    let nobody = nobody.self_signed(&KeyPair::generate().ok()?).ok()?.pem();
    let root = Certificate::from_pem(nobody.as_bytes()).ok()?;
    Client::builder().tls_certs_only([root]).timeout(DEADLINE).no_proxy().build().ok()
}

fn says_expired(error: &reqwest::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("certificate expired") {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    fn secret(certificate: &str, key: &str) -> Value {
        let base64 = |text: &str| serde_json::to_value(ByteString(text.as_bytes().to_vec())).unwrap();
        json!({ "metadata": {}, "data": { "tls.crt": base64(certificate), "tls.key": base64(key) } })
    }

    fn expire() -> Vec<Edit> {
        vec![Edit::Expire { certificate: "/data/tls.crt".into(), key: "/data/tls.key".into() }]
    }

    async fn server(certificate: &str, key: &str) -> String {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn the_key_stays_and_what_is_served_has_expired() {
        let key = KeyPair::generate().unwrap();
        let valid = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let mut object = secret(&valid, &key);
        let before = object.clone();
        let edits = made(&expire(), &object).unwrap();
        crate::model::edit(&mut object, &edits, "r1").unwrap();
        assert_eq!(object["data"]["tls.key"], before["data"]["tls.key"]);
        assert!(!object["metadata"].to_string().contains(before["data"]["tls.key"].as_str().unwrap()));
        let expired = String::from_utf8(bytes(&object, "/data/tls.crt").unwrap()).unwrap();

        let (good, bad) = (server(&valid, &key).await, server(&expired, &key).await);
        let nobody = "127.0.0.1:1".to_owned();
        assert_eq!(shown(&[good.clone(), nobody.clone()]).await, 0);
        assert_eq!(shown(&[good, bad, nobody]).await, 1);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_told() {
        for (object, why) in [
            (json!({}), "it has no /data/tls.key"),
            (json!({ "data": { "tls.key": 7 } }), "/data/tls.key is not in base64"),
            (secret("c", "hunter2"), "/data/tls.key is no private key that we can read"),
        ] {
            assert_eq!(made(&expire(), &object).unwrap_err(), why);
        }
    }
}
