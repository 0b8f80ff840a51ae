//! A byte stream to a port of a pod: straight to its address where the harness has a route (`local`),
//! through the API server's port-forward elsewhere.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::ClusterError;
use crate::model::PodInfo;

/// What a dial gives.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A pod that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAddress {
    pub namespace: String,
    pub name: String,
    pub ip: Option<String>,
    /// The Kubernetes node that it runs on.
    pub node: Option<String>,
}

impl From<&PodInfo> for PodAddress {
    fn from(pod: &PodInfo) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            ip: pod.ip.clone(),
            node: pod.node.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Dialer {
    /// Absent: pods are reached at their addresses.
    forward: Option<Client>,
}

impl Dialer {
    /// Pod addresses are routed to from here.
    #[must_use]
    pub fn direct() -> Self {
        Self { forward: None }
    }

    /// Pods are reached through the API server.
    #[must_use]
    pub fn forwarding(client: Client) -> Self {
        Self { forward: Some(client) }
    }

    /// Pods and services are reached at their own addresses.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.forward.is_none()
    }

    /// Connects within the deadline.
    ///
    /// # Errors
    /// When nothing listens there, or nothing answers in time.
    pub async fn dial(
        &self,
        pod: &PodAddress,
        port: u16,
        deadline: Duration,
    ) -> Result<Box<dyn Stream>, ClusterError> {
        let to = format!("{}/{} port {port}", pod.namespace, pod.name);
        let connect = async {
            match &self.forward {
                None => self.direct_to(pod, port, &to).await,
                Some(client) => forwarded(client, pod, port, &to).await,
            }
        };
        tokio::time::timeout(deadline, connect).await.unwrap_or_else(|_| {
            Err(ClusterError::Dial { to: to.clone(), source: std::io::ErrorKind::TimedOut.into() })
        })
    }

    async fn direct_to(
        &self,
        pod: &PodAddress,
        port: u16,
        to: &str,
    ) -> Result<Box<dyn Stream>, ClusterError> {
        let Some(ip) = &pod.ip else {
            return Err(ClusterError::state(format!("connect to {to}"), "the pod has no address"));
        };
        let stream = TcpStream::connect((ip.as_str(), port)).await;
        let stream = stream.map_err(|source| ClusterError::Dial { to: to.to_owned(), source })?;
        Ok(Box::new(stream))
    }
}

async fn forwarded(
    client: &Client,
    pod: &PodAddress,
    port: u16,
    to: &str,
) -> Result<Box<dyn Stream>, ClusterError> {
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let forwarder = pods.portforward(&pod.name, &[port]).await;
    let mut forwarder = forwarder.map_err(ClusterError::api(format!("connect to {to}")))?;
    match forwarder.take_stream(port) {
        Some(stream) => Ok(Box::new(stream)),
        None => Err(ClusterError::state(format!("connect to {to}"), "the API server gave no stream")),
    }
}

/// Bodies that we read are small status documents.
const BODY_MAX: usize = 1 << 20;

/// `GET path` on a port of a pod: status and body, all within the deadline.
///
/// # Errors
/// When it cannot be reached, does not speak HTTP, or is not done in time.
pub async fn http_get(
    dialer: &Dialer,
    pod: &PodAddress,
    port: u16,
    path: &str,
    deadline: Duration,
) -> Result<(u16, Vec<u8>), ClusterError> {
    get(dialer, pod, (port, path), deadline, |_| false).await
}

/// The same for one JSON document, which is done when it is whole. A server that speaks HTTP/1.0 ends its body by closing,
/// and a port-forward passes that on a second later than the body (containerd waits so long for the other direction).
///
/// # Errors
/// As of [`http_get`], and when what came is no such document.
pub async fn http_get_json<T: DeserializeOwned>(
    dialer: &Dialer,
    pod: &PodAddress,
    port: u16,
    path: &str,
    deadline: Duration,
) -> Result<(u16, T), ClusterError> {
    let (status, body) = get(dialer, pod, (port, path), deadline, is_whole).await?;
    let document = serde_json::from_slice(&body);
    let unread = |error: serde_json::Error| {
        let what = format!("read {path} of {}/{}", pod.namespace, pod.name);
        ClusterError::state(what, error.to_string())
    };
    Ok((status, document.map_err(unread)?))
}

/// An object or a list; a number could go on.
fn is_whole(body: &[u8]) -> bool {
    matches!(body.last(), Some(b'}' | b']')) && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

async fn get(
    dialer: &Dialer,
    pod: &PodAddress,
    (port, path): (u16, &str),
    deadline: Duration,
    enough: fn(&[u8]) -> bool,
) -> Result<(u16, Vec<u8>), ClusterError> {
    let what = format!("get {path} from {}/{}", pod.namespace, pod.name);
    let failed = |error: &dyn std::error::Error| ClusterError::state(what.clone(), error.to_string());
    let exchange = async {
        let stream = dialer.dial(pod, port, deadline).await?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|error| failed(&error))?;
        // Ends with this future, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = hyper::Request::get(path).header("host", &pod.name).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let mut incoming = Limited::new(response.into_body(), BODY_MAX);
        let mut body = Vec::new();
        while !enough(&body) {
            let Some(frame) = incoming.frame().await else { break };
            let frame = frame.map_err(|error| failed(error.as_ref()))?;
            body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        Ok((status, body))
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::Deadline { what: what.clone(), seconds: deadline.as_secs().max(1) }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these pieces, and keeps the connection open.
    async fn server(pieces: &'static [&'static str]) -> (PodAddress, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        let ip = Some("127.0.0.1".to_owned());
        (PodAddress { namespace: "n".into(), name: "p".into(), ip, node: None }, port)
    }

    #[tokio::test]
    async fn a_document_is_done_when_it_is_whole() {
        let (pod, port) = server(&["HTTP/1.0 200 OK\r\n\r\n", "{\"a\":{}", ",\"b\":[1]}"]).await;
        let started = Instant::now();
        let answer =
            http_get_json::<Value>(&Dialer::direct(), &pod, port, "/x", Duration::from_secs(30)).await;
        assert_eq!(answer.unwrap(), (200, json!({ "a": {}, "b": [1] })));
        assert!(started.elapsed() < Duration::from_secs(15), "it waited for the end of the connection");
    }

    #[tokio::test]
    async fn a_part_of_a_document_is_no_answer() {
        let (pod, port) = server(&["HTTP/1.0 200 OK\r\n\r\n", "{\"a\":{}"]).await;
        let patience = Duration::from_millis(300);
        let answer = http_get_json::<Value>(&Dialer::direct(), &pod, port, "/x", patience).await;
        assert!(matches!(answer, Err(ClusterError::Deadline { .. })), "{answer:?}");
        let (pod, port) = server(&["HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"]).await;
        let answer =
            http_get_json::<Value>(&Dialer::direct(), &pod, port, "/x", Duration::from_secs(30)).await;
        assert!(answer.unwrap_err().to_string().contains("read /x of n/p"));
    }
}
