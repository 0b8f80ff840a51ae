//! A service's port as an address of this machine: its cluster address where the harness has a route (`local`), else a
//! loopback port whose connections go through the API server to one of its ready pods.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ClusterError, Dialer, PodAddress, pod_info};

const DIAL_DEADLINE: Duration = Duration::from_secs(5);
const PODS_MAX: u32 = 100;

/// Opened for as long as it lives.
pub struct Door {
    pub address: SocketAddr,
    _closes: Option<DropGuard>,
}

impl Door {
    /// # Errors
    /// When there is no such service or port, or no pod behind it is ready.
    pub async fn open(
        client: &Client,
        dialer: &Dialer,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> Result<Self, ClusterError> {
        let what = format!("reach service {namespace}/{name}:{port}");
        let services = Api::<Service>::namespaced(client.clone(), namespace);
        let service = services.get(name).await.map_err(ClusterError::api(what.clone()))?;
        let spec = service.spec.unwrap_or_default();
        if dialer.is_direct() {
            let ip = spec.cluster_ip.filter(|ip| ip != "None");
            let ip = ip.ok_or_else(|| ClusterError::state(what.clone(), "it has no cluster address"))?;
            let address = ip.parse().map_err(|_| ClusterError::state(what, format!("{ip} is no address")))?;
            return Ok(Self { address: SocketAddr::new(address, port), _closes: None });
        }
        let ports = spec.ports.unwrap_or_default();
        let wanted = ports.iter().find(|one| one.port == i32::from(port));
        let wanted = wanted.ok_or_else(|| ClusterError::state(what.clone(), "it has no such port"))?;
        let selector = spec.selector.unwrap_or_default();
        let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let list = ListParams::default().labels(&selector.join(",")).limit(PODS_MAX);
        let pods = pods.list(&list).await.map_err(ClusterError::api(what.clone()))?;
        let ready = pods.items.iter().find(|pod| pod_info(pod).ready);
        let pod = ready.ok_or_else(|| ClusterError::state(what.clone(), "no pod behind it is ready"))?;
        let target = target_port(pod, wanted)
            .ok_or_else(|| ClusterError::state(what.clone(), "its pods have no such port"))?;
        forward(dialer.clone(), PodAddress::from(&pod_info(pod)), target)
            .await
            .map_err(|source| ClusterError::Dial { to: what, source })
    }
}

/// The number behind a service's port on a pod.
fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            ports.find(|one| one.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok()
}

async fn forward(dialer: Dialer, pod: PodAddress, port: u16) -> std::io::Result<Door> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let end = CancellationToken::new();
    let closes = end.clone().drop_guard();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = end.cancelled() => return,
            };
            let Ok((near, _)) = accepted else { continue };
            let (dialer, pod, end) = (dialer.clone(), pod.clone(), end.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = join(near, dialer, pod, port) => {}
                    () = end.cancelled() => {}
                }
            });
        }
    });
    Ok(Door { address, _closes: Some(closes) })
}

/// A connection that cannot be made is closed: the caller sees what a client of a dead pod would.
async fn join(mut near: TcpStream, dialer: Dialer, pod: PodAddress, port: u16) {
    if let Ok(mut far) = dialer.dial(&pod, port, DIAL_DEADLINE).await {
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_port_is_looked_up_on_the_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "spec": { "containers": [
            { "name": "a", "ports": [{ "name": "http", "containerPort": 8080 }] } ] } }))
        .unwrap();
        let port = |target: serde_json::Value| -> ServicePort {
            serde_json::from_value(serde_json::json!({ "port": 80, "targetPort": target })).unwrap()
        };
        assert_eq!(target_port(&pod, &port("http".into())), Some(8080));
        assert_eq!(target_port(&pod, &port("grpc".into())), None);
        assert_eq!(target_port(&pod, &port(9.into())), Some(9));
        assert_eq!(target_port(&pod, &port(serde_json::Value::Null)), Some(80));
    }
}
