//! A byte stream to a port of a pod: straight to its address where the harness has a route (`local`),
//! through the API server's port-forward elsewhere.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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
}

impl From<&PodInfo> for PodAddress {
    fn from(pod: &PodInfo) -> Self {
        Self { namespace: pod.namespace.clone(), name: pod.name.clone(), ip: pod.ip.clone() }
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
) -> Result<(u16, Bytes), ClusterError> {
    let what = format!("get {path} from {}/{}", pod.namespace, pod.name);
    let exchange = async {
        let stream = dialer.dial(pod, port, deadline).await?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let failed = |error: hyper::Error| ClusterError::state(what.clone(), error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", &pod.name).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| ClusterError::state(what.clone(), error.to_string()))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        driver.abort();
        let body = body.map_err(|error| ClusterError::state(what.clone(), error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) }),
    }
}
