//! Tries, again and again, what must be refused: a connection that no policy allows, plain text to a service that wants
//! mTLS, and plain text at the front door. Each try has a control at the same time, so that a refusal is the rule's and not a dead
//! host's. The first is tried from inside a server's own pod by its shell; no pod is started.

use std::time::Duration;

use kube::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::every::every;
use crate::cluster::{Dialer, PodAddress, PodCache, http_get, run_command};
use crate::model::{Command, Component, Observation, PodInfo, PodRef};

const EVERY: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(2);
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// A connection that no policy allows: from a server that is let into its own kind, to another kind's.
struct Stranger {
    from: Component,
    /// Where it may go: its own kind's port.
    own_port: u16,
    to: Component,
    port: u16,
}

const STRANGERS: [Stranger; 2] = [
    Stranger { from: Component::Redis, own_port: 6379, to: Component::Postgres, port: 5432 },
    Stranger { from: Component::Postgres, own_port: 5432, to: Component::Redis, port: 6379 },
];

/// Says of two addresses whether a connection comes about: one that must not, and one that must.
const SCRIPT: &str = r#"
try() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && echo open || echo closed; }
try "$1" "$2"; try "$3" "$4"
"#;

/// In the mesh, and strict.
const STRICT: [Component; 2] = [Component::Inference, Component::Decision];
const SERVICE_PORT: u16 = 8080;
/// The sidecar's own door, which takes plain text.
const SIDECAR_PORT: u16 = 15021;
const GATEWAY_PORT: u16 = 8080;

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tried {
    what: String,
    refused: bool,
    alive: bool,
    word: String,
}

/// Runs until `end`.
pub async fn observe_refusals<S: Sink>(
    client: Client,
    cache: PodCache,
    dialer: Dialer,
    sink: S,
    end: CancellationToken,
) {
    every(EVERY, &end, |number| {
        let (client, cache, dialer, sink) = (&client, &cache, &dialer, &sink);
        async move {
            let Some(pods) = cache.pods() else { return };
            let look = Look { pods, turn: usize::try_from(number).unwrap_or(0), client, dialer };
            let strangers = STRANGERS.iter().map(|stranger| look.stranger(stranger));
            let plain = STRICT.iter().map(|component| look.plain(*component));
            let (strangers, plain, door) = tokio::join!(
                futures::future::join_all(strangers),
                futures::future::join_all(plain),
                look.front_door(),
            );
            let tried: Vec<Tried> = strangers.into_iter().chain(plain).chain([door]).flatten().collect();
            let any = !tried.is_empty();
            for Tried { what, refused, alive, word } in tried {
                sink.observe(Observation::Refusal { what, refused, alive, word });
            }
            if any {
                sink.observe(Observation::Heartbeat { probe: "refusals".to_owned() });
            }
        }
    })
    .await;
}

/// One round of tries.
struct Look<'a> {
    pods: Vec<PodInfo>,
    /// Another pod of each kind each time.
    turn: usize,
    client: &'a Client,
    dialer: &'a Dialer,
}

impl Look<'_> {
    fn ready(&self, component: Component) -> Vec<&PodInfo> {
        let ready = |pod: &&PodInfo| {
            pod.component == Some(component) && pod.ready && !pod.terminating && pod.ip.is_some()
        };
        self.pods.iter().filter(ready).collect()
    }

    fn one(&self, component: Component) -> Option<&PodInfo> {
        let ready = self.ready(component);
        ready.get(self.turn % ready.len().max(1)).copied()
    }

    /// Absent when it could not be tried: that is neither open nor closed.
    async fn stranger(&self, door: &Stranger) -> Option<Tried> {
        let from = self.one(door.from)?;
        let to = self.one(door.to)?;
        let friend = self.ready(door.from).into_iter().find(|pod| pod.name != from.name)?;
        let ports = (door.port.to_string(), door.own_port.to_string());
        let addresses = [to.ip.as_deref()?, &ports.0, friend.ip.as_deref()?, &ports.1];
        let command = Command {
            pod: PodRef { namespace: from.namespace.clone(), name: from.name.clone(), uid: from.uid.clone() },
            container: door.from.as_str().to_owned(),
            line: ["bash", "-c", SCRIPT, "bash"].into_iter().chain(addresses).map(str::to_owned).collect(),
        };
        let target = PodAddress::from(to);
        let (output, answers) = tokio::join!(
            run_command(self.client, &command, COMMAND_DEADLINE),
            self.dialer.dial(&target, door.port, DEADLINE),
        );
        let output = output.ok()?;
        let (stranger, friend) = words(&output)?;
        Some(Tried {
            what: format!("a connection of {} to {} port {}", door.from, door.to, door.port),
            refused: stranger == "closed",
            alive: friend == "open" && answers.is_ok(),
            word: format!(
                "{} to {}: {stranger}; to its own kind: {friend}; {} answers the harness: {}",
                from.name,
                to.name,
                to.name,
                answers.is_ok()
            ),
        })
    }

    /// Straight to the pod's port: a port-forward would come out behind the sidecar.
    async fn plain(&self, component: Component) -> Option<Tried> {
        if !self.dialer.is_direct() {
            return None;
        }
        let pod = PodAddress::from(self.one(component)?);
        let (said, sidecar) = tokio::join!(
            say(self.dialer, &pod),
            http_get(self.dialer, &pod, SIDECAR_PORT, "/healthz/ready", DEADLINE),
        );
        let alive = matches!(sidecar, Ok((200, _)));
        Some(Tried {
            what: format!("plain text to {component}"),
            refused: !said.starts_with("HTTP/"),
            alive,
            word: format!("{}: {said}; its sidecar answers: {alive}", pod.name),
        })
    }

    /// Plain text is only told where the door is.
    async fn front_door(&self) -> Option<Tried> {
        let pod = PodAddress::from(self.one(Component::Gateway)?);
        let answer = http_get(self.dialer, &pod, GATEWAY_PORT, "/", DEADLINE).await;
        let status = answer.ok().map(|(status, _)| status);
        Some(Tried {
            what: "plain text through the gateway".to_owned(),
            refused: status.is_none_or(|status| (300..400).contains(&status)),
            alive: status.is_some(),
            word: format!(
                "{}: {}",
                pod.name,
                status.map_or("no answer".to_owned(), |s| format!("status {s}"))
            ),
        })
    }
}

/// What the two tries of the script came to.
fn words(output: &str) -> Option<(&str, &str)> {
    let mut lines = output.lines().map(str::trim);
    let both = (lines.next()?, lines.next()?);
    let known = |word: &str| matches!(word, "open" | "closed");
    (known(both.0) && known(both.1)).then_some(both)
}

/// The first line of the answer to a plain request, or what came instead.
async fn say(dialer: &Dialer, pod: &PodAddress) -> String {
    let exchange = async {
        let mut stream = dialer.dial(pod, SERVICE_PORT, DEADLINE).await.map_err(|_| "no connection")?;
        let request = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.map_err(|_| "cut off")?;
        let mut first = [0; 64];
        match stream.read(&mut first).await {
            Ok(0) | Err(_) => Err("cut off"),
            Ok(length) => Ok(String::from_utf8_lossy(&first[..length]).into_owned()),
        }
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(Ok(said)) => said.lines().next().unwrap_or_default().to_owned(),
        Ok(Err(what)) => what.to_owned(),
        Err(_) => "no answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_two_known_words_are_an_answer() {
        assert_eq!(words("closed\nopen\n"), Some(("closed", "open")));
        for nothing in ["", "closed", "bash: not found\nopen", "\n\n"] {
            assert_eq!(words(nothing), None, "{nothing:?}");
        }
    }

    #[tokio::test]
    async fn the_script_tells_an_open_port_from_a_closed_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().port().to_string();
        let run = |ports: [String; 2]| async move {
            let arguments = ["-c", SCRIPT, "bash", "127.0.0.1", &ports[0], "127.0.0.1", &ports[1]];
            let output = tokio::process::Command::new("bash").args(arguments).output().await.unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(words(&run(["1".to_owned(), open.clone()]).await), Some(("closed", "open")));
        assert_eq!(words(&run([open, "1".to_owned()]).await), Some(("open", "closed")));
    }
}
