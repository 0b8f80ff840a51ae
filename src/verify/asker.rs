//! Short-lived pods of our own that try addresses from inside the cluster, as whom they are told to be: by a label, which
//! network policies know, and in the mesh by a service account, which its certificate names. They are never ready (no
//! Service sends them anything) and are taken away whatever comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

use super::{Seen, Site};
use crate::cluster::{ClusterError, poll_until, remove};

/// An image of the stack's with Python in it, which is on every node already.
const IMAGE_OF: &str = "ai-platform-redis";
const CONTAINER: &str = "probe";
const REMOVAL: Duration = Duration::from_secs(60);

/// Connects, says what is asked for, prints a line an address: host, port, what came of it. The first argument is for how
/// many seconds it tries again: a sidecar that has just started refuses connections, or answers 503. Debian's smallest
/// Python has no JSON.
const SCRIPT: &str = r#"
import socket, sys, time

def ask(host, port, path):
    try:
        s = socket.create_connection((host, port), timeout=3)
        word = "open"
        if path:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            s.settimeout(3)
            first = s.recv(64)
            word = first.split(b"\r\n")[0].decode("latin-1") if first else "closed"
        s.close()
        return word
    except OSError as e:
        return "refused: " + type(e).__name__

until = time.monotonic() + float(sys.argv[1])
for address in sys.argv[2:]:
    host, port, path = address.split("|")
    word = ask(host, int(port), path)
    while time.monotonic() < until and (word == "closed" or word.startswith("refused") or " 503" in word):
        time.sleep(1)
        word = ask(host, int(port), path)
    print(host, port, word, sep="|", flush=True)
"#;

/// Host, port, and a path for a plain HTTP request.
pub(super) type Address = (&'static str, u16, &'static str);

/// By host and port, what came of it.
pub(super) type Words = BTreeMap<(String, u16), String>;

/// The image, or why there is none.
pub(super) fn image(seen: &Seen) -> Result<&str, String> {
    let set = seen.named("StatefulSet", IMAGE_OF);
    let image = set.and_then(|set| set["spec"]["template"]["spec"]["containers"][0]["image"].as_str());
    image.ok_or_else(|| format!("{IMAGE_OF}, whose image the probing pods use, is not there"))
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub name: &'a str,
    /// `app.kubernetes.io/name`.
    pub label: &'a str,
    /// In the mesh as this service account; absent: outside of the mesh, and nobody.
    pub account: Option<&'a str>,
    pub image: &'a str,
}

impl Asker<'_> {
    /// Runs the script in a pod, and takes the pod away whatever comes of it.
    pub async fn ask(&self, site: &Site, to: &[Address]) -> Result<Words, ClusterError> {
        let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
        take_away(&pods, self.name).await?;
        let done = self.run(&pods, to).await;
        let removed = take_away(&pods, self.name).await;
        let words = done?;
        removed?;
        Ok(words)
    }

    /// A sidecar takes its time to start.
    fn deadline(&self) -> Duration {
        Duration::from_secs(if self.account.is_some() { 120 } else { 60 })
    }

    async fn run(&self, pods: &Api<Pod>, to: &[Address]) -> Result<Words, ClusterError> {
        let name = self.name;
        pods.create(&PostParams::default(), &self.pod(to)?)
            .await
            .map_err(ClusterError::api(format!("create pod {name}")))?;
        let what = format!("the end of pod {name}");
        let ends = poll_until(&what, self.deadline(), || async {
            let pod = pods.get(name).await.map_err(ClusterError::api(format!("read pod {name}")))?;
            Ok(ended(&pod))
        });
        ends.await?;
        let of = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
        let log = pods.logs(name, &of).await;
        let log = log.map_err(ClusterError::api(format!("read the log of pod {name}")))?;
        let words = parse(&log);
        if words.is_empty() {
            let last = log.lines().last().unwrap_or("nothing").to_owned();
            return Err(ClusterError::state(
                format!("read the log of pod {name}"),
                format!("it says {last}"),
            ));
        }
        Ok(words)
    }

    fn pod(&self, to: &[Address]) -> Result<Pod, ClusterError> {
        let name = self.name;
        let seconds = self.deadline().as_secs();
        // Half of it to ask: the other half is for the pod's start.
        let patience = if self.account.is_some() { seconds / 2 } else { 0 };
        let mut command =
            vec!["python3".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), patience.to_string()];
        command.extend(to.iter().map(|(host, port, path)| format!("{host}|{port}|{path}")));
        let mut value = json!({
            "metadata": { "name": name, "labels": {
                "app.kubernetes.io/part-of": "mettle", "app.kubernetes.io/name": self.label,
                "sidecar.istio.io/inject": self.account.is_some().to_string() } },
            "spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": false,
                "activeDeadlineSeconds": seconds - 5, "enableServiceLinks": false,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 10099, "runAsGroup": 10099, "fsGroup": 10099,
                    "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": CONTAINER, "image": self.image, "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    // Never ready: it bears the name of others, and must not be sent their requests.
                    "readinessProbe": { "exec": { "command": ["false"] }, "initialDelaySeconds": 3600 },
                    "resources": { "requests": { "cpu": "1m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] } },
                }],
            },
        });
        if let Some(account) = self.account {
            value["spec"]["serviceAccountName"] = json!(account);
        }
        serde_json::from_value(value)
            .map_err(|error| ClusterError::state(format!("make pod {name}"), error.to_string()))
    }
}

/// A sidecar may run on after the script has ended.
fn ended(pod: &Pod) -> Result<(), String> {
    let status = pod.status.as_ref();
    let containers = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.filter(|one| one.name == CONTAINER).filter_map(|one| one.state.as_ref());
    let phase = status.and_then(|status| status.phase.clone()).unwrap_or_default();
    if states.any(|state| state.terminated.is_some()) || matches!(phase.as_str(), "Succeeded" | "Failed") {
        return Ok(());
    }
    Err(phase)
}

fn parse(log: &str) -> Words {
    let lines = log.lines().filter_map(|line| {
        let mut parts = line.splitn(3, '|');
        let (host, port) = (parts.next()?, parts.next()?.parse().ok()?);
        Some(((host.to_owned(), port), parts.next()?.to_owned()))
    });
    lines.collect()
}

async fn take_away(pods: &Api<Pod>, name: &str) -> Result<(), ClusterError> {
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    remove(pods, name, &format!("pod {name}"), &at_once, REMOVAL).await
}

#[cfg(test)]
pub(super) fn words(all: &[(&str, u16, &str)]) -> Words {
    all.iter().map(|(host, port, word)| (((*host).to_owned(), *port), (*word).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_line_by_line() {
        assert_eq!(parse("a|1|open\nnoise\n"), words(&[("a", 1, "open")]));
    }

    #[test]
    fn only_whom_an_account_is_given_is_in_the_mesh_and_nobody_is_ready() {
        let asker =
            |account| Asker { name: "mettle-x", label: "gateway", account, image: "localhost/image:dev" };
        for (account, inject) in [(None, "false"), (Some("ai-platform-gateway"), "true")] {
            let pod = asker(account).pod(&[("a", 80, "/x")]).unwrap();
            assert_eq!(pod.metadata.labels.unwrap()["sidecar.istio.io/inject"], inject);
            let spec = pod.spec.unwrap();
            assert_eq!(spec.service_account_name.as_deref(), account);
            assert!(spec.containers[0].readiness_probe.is_some());
            assert_eq!(spec.containers[0].command.clone().unwrap().last().unwrap(), "a|80|/x");
        }
    }

    #[test]
    fn the_end_is_that_of_the_script() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(json!({ "status": status })).unwrap()
        };
        let with = |name: &str, state: serde_json::Value| {
            pod(json!({ "phase": "Running", "containerStatuses": [{ "name": name, "state": state,
                "image": "", "imageID": "", "ready": false, "restartCount": 0 }] }))
        };
        let over = json!({ "terminated": { "exitCode": 0 } });
        assert_eq!(ended(&with("probe", over.clone())), Ok(()));
        assert_eq!(ended(&with("istio-proxy", over)), Err("Running".to_owned()));
        assert_eq!(ended(&with("probe", json!({ "running": {} }))), Err("Running".to_owned()));
        assert_eq!(ended(&pod(json!({ "phase": "Succeeded" }))), Ok(()));
        assert_eq!(ended(&pod(json!({ "phase": "Pending" }))), Err("Pending".to_owned()));
    }
}
