//! Whether anybody misses a server of the control plane: a question that only it can answer, from outside.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{Api, Client};
use tokio::net::UdpSocket;

use crate::model::ControlPlanePart;

/// Whoever has not answered by then is missed.
const ANSWER: Duration = Duration::from_secs(2);
const DNS: (&str, &str) = ("kube-system", "kube-dns");
const NAME: &str = "kubernetes.default.svc.cluster.local";

/// A question, and who is asked.
#[derive(Debug, Clone)]
pub enum Question {
    Version,
    /// A read that the API server has from etcd and nowhere else.
    Read,
    LookUp(SocketAddr),
}

/// What is asked of a server, if it answers now: one that does not is not missed later. `Ok(None)`: nobody can ask it
/// anything from here. A scheduler or controller manager tells by its lease that it lives, and those of one member hold none.
pub async fn question(client: &Client, part: ControlPlanePart) -> Result<Option<Question>, String> {
    let question = match part {
        ControlPlanePart::KubeApiserver => Question::Version,
        ControlPlanePart::Etcd => Question::Read,
        ControlPlanePart::Coredns => {
            let address = dns_address(client).await;
            Question::LookUp(address.ok_or("the cluster's DNS service was not found")?)
        }
        ControlPlanePart::KubeScheduler | ControlPlanePart::KubeControllerManager => return Ok(None),
    };
    if question.is_answered(client).await {
        return Ok(Some(question));
    }
    Err(format!("{} did not answer before it was stopped", part.as_str()))
}

impl Question {
    async fn is_answered(&self, client: &Client) -> bool {
        let answered = async {
            match self {
                Self::Version => says(client.apiserver_version().await),
                Self::Read => says(Api::<Namespace>::all(client.clone()).get(DNS.0).await),
                Self::LookUp(server) => look_up(*server).await.is_ok(),
            }
        };
        tokio::time::timeout(ANSWER, answered).await.unwrap_or(false)
    }

    /// The effect, once there is one.
    pub async fn missed(&self, client: &Client) -> Option<String> {
        if self.is_answered(client).await {
            return None;
        }
        let seconds = ANSWER.as_secs();
        match self {
            Self::Version => Some(format!("a request has no answer within {seconds} s")),
            // Else it is the API server that is missed.
            Self::Read if Self::Version.is_answered(client).await => {
                Some(format!("the API server answers, and a read from etcd has no end within {seconds} s"))
            }
            Self::Read => None,
            Self::LookUp(_) => Some(format!("a look-up of {NAME} has no answer within {seconds} s")),
        }
    }
}

/// A refusal is an answer; an error of the server is none.
fn says<T>(result: Result<T, kube::Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => status.code < 500,
        Err(_) => false,
    }
}

async fn dns_address(client: &Client) -> Option<SocketAddr> {
    let services = Api::<Service>::namespaced(client.clone(), DNS.0);
    let service = tokio::time::timeout(ANSWER, services.get(DNS.1)).await.ok()?.ok()?;
    let address: IpAddr = service.spec?.cluster_ip?.parse().ok()?;
    Some(SocketAddr::new(address, 53))
}

/// Whatever the answer says: it is the server's.
async fn look_up(server: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(server).await?;
    let id = [rand::random(), rand::random()];
    socket.send(&query(id, NAME)).await?;
    let mut answer = [0; 512];
    loop {
        let length = socket.recv(&mut answer).await?;
        let is_answer = length >= 12 && answer[..2] == id && answer[2] & 0x80 != 0;
        if is_answer {
            return Ok(());
        }
    }
}

/// RFC 1035: one question, for the address of a name.
fn query(id: [u8; 2], name: &str) -> Vec<u8> {
    let mut query = vec![id[0], id[1], 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_answers_is_not_missed_and_a_silent_one_is() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut question = [0; 512];
            let (length, from) = server.recv_from(&mut question).await.unwrap();
            // Somebody else's answer first, and a question that comes back as it was.
            server.send_to(&[0; 12], from).await.unwrap();
            server.send_to(&question[..length], from).await.unwrap();
            question[2] |= 0x80;
            server.send_to(&question[..length], from).await.unwrap();
            server
        });
        let asked = tokio::time::timeout(ANSWER, look_up(address)).await;
        assert!(asked.unwrap().is_ok());
        let _silent = answering.await.unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(200), look_up(address)).await;
        assert!(asked.is_err());
    }

    #[test]
    fn a_query_is_as_the_rfc_says() {
        assert_eq!(
            query([7, 8], "a.bc"),
            [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]
        );
    }
}
