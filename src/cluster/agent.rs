//! Starts an agent in a target's pod as an ephemeral container, feeds it heartbeats, and hears what it says.
//!
//! # Guarantees
//! - The agent reverts itself when this process dies: its heartbeats come from here, over one attach stream.
//!
//! # Caveats
//! - Ephemeral containers cannot be removed: an ended one stays listed in the pod until the pod is replaced.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, Patch, PatchParams};
use kube::{Api, Client};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{ClusterError, poll_until};
use crate::model::PodRef;

/// Every agent's container name begins with it.
pub const AGENT_PREFIX: &str = "mettle-";

const START_DEADLINE: Duration = Duration::from_secs(20);
const BEAT: Duration = Duration::from_secs(1);
/// The agent's own switch is at 5 s; the kubelet needs a moment to say that it ended.
const ENDED_DEADLINE: Duration = Duration::from_secs(45);

/// So often what a killed agent left is tried to be removed.
const CLEANERS_MAX: u32 = 6;

pub struct Start<'a> {
    pub pod: &'a PodRef,
    pub container: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    pub arguments: &'a [String],
    /// It may change the pod's network.
    pub network: bool,
    /// Absent for one that is done at once.
    pub ttl_seconds: Option<u32>,
}

impl Start<'_> {
    /// It ends by itself, or with what it killed: nobody can be attached to it for long.
    fn is_brief(&self) -> bool {
        self.arguments.first().is_some_and(|word| word == "kill" || word == "clean")
    }

    fn command_line(&self) -> Vec<String> {
        let limit = self.ttl_seconds.map(|seconds| (u64::from(seconds) * 1000).to_string());
        let limit: Vec<String> = limit.into_iter().flat_map(|ms| ["--ttl-ms".to_owned(), ms]).collect();
        [self.arguments, &limit].concat()
    }
}

/// A living agent's stream.
pub struct Attached {
    resume: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Attached {
    /// Tells the agent to undo; it also does so by itself when the stream ends.
    pub async fn resume(self) {
        let _ = self.resume.send(());
        // The stream may hang with its API server; the agent's own limits hold then.
        let _ = tokio::time::timeout(Duration::from_secs(8), self.task).await;
    }
}

/// Adds the ephemeral container, waits until it runs, and attaches. A brief one may have ended by then: `None`.
pub async fn start(
    client: &Client,
    start: Start<'_>,
    said: impl Fn(&str, String) + Send + 'static,
) -> Result<Option<Attached>, ClusterError> {
    let pods = Api::<Pod>::namespaced(client.clone(), &start.pod.namespace);
    let what = format!("start agent {} in pod {}/{}", start.name, start.pod.namespace, start.pod.name);
    let pod = pods.get(&start.pod.name).await.map_err(ClusterError::api(what.clone()))?;
    if pod.metadata.uid.as_deref() != Some(&start.pod.uid) {
        return Err(ClusterError::state(what, "the pod was replaced since it was chosen"));
    }
    let container = ephemeral(&start, &pod);
    let patch = serde_json::json!({
        "metadata": { "uid": start.pod.uid },
        "spec": { "ephemeralContainers": [container] },
    });
    pods.patch_ephemeral_containers(&start.pod.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map_err(ClusterError::api(what.clone()))?;
    poll_until(&what, START_DEADLINE, || async {
        let pod = pods.get(&start.pod.name).await.map_err(ClusterError::api(what.clone()))?;
        let state = state_of(&pod, start.name);
        Ok(state.and_then(|state| if start.is_brief() { state.started_or_ended() } else { state.started() }))
    })
    .await?;
    match attach(&pods, &start, &what, said).await {
        Ok(attached) => Ok(Some(attached)),
        Err(_) if start.is_brief() => Ok(None),
        Err(error) => Err(error),
    }
}

/// An agent has the target's own user id and no capability: it may signal what that user may.
fn ephemeral(start: &Start<'_>, pod: &Pod) -> serde_json::Value {
    let spec = pod.spec.as_ref();
    let of_pod = spec.and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.run_as_user);
    let target =
        spec.and_then(|spec| spec.containers.iter().find(|container| container.name == start.container));
    let of_container =
        target.and_then(|c| c.security_context.as_ref()).and_then(|context| context.run_as_user);
    let user = of_container.or(of_pod);
    // Root in its own container, without any right over others' processes or files: only the pod's network is its.
    let (user, capabilities) = if start.network {
        (Some(0), serde_json::json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }))
    } else {
        (user, serde_json::json!({ "drop": ["ALL"] }))
    };
    serde_json::json!({
        "name": start.name,
        "image": start.image,
        "imagePullPolicy": "IfNotPresent",
        "targetContainerName": start.container,
        "args": start.command_line(),
        "stdin": true,
        "stdinOnce": true,
        "securityContext": {
            "runAsUser": user,
            "runAsNonRoot": user.map(|user| user != 0),
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": capabilities,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    })
}

async fn attach(
    pods: &Api<Pod>,
    start: &Start<'_>,
    what: &str,
    said: impl Fn(&str, String) + Send + 'static,
) -> Result<Attached, ClusterError> {
    let parameters = AttachParams::default().container(start.name).stdin(true).stdout(true).stderr(false);
    let attached = tokio::time::timeout(START_DEADLINE, pods.attach(&start.pod.name, &parameters)).await;
    let deadline = || ClusterError::Deadline { what: what.to_owned(), seconds: START_DEADLINE.as_secs() };
    let mut attached = attached.map_err(|_| deadline())?.map_err(ClusterError::api(what))?;
    let (Some(mut stdin), Some(stdout)) = (attached.stdin(), attached.stdout()) else {
        return Err(ClusterError::state(what, "the API server gave no stream"));
    };
    let (resume, mut resumed) = oneshot::channel();
    let name = start.name.to_owned();
    let task = tokio::spawn(async move {
        // Held here: dropping it ends the stream, and with it the agent's work.
        let _attached = attached;
        let mut lines = BufReader::new(stdout).lines();
        let mut beat = tokio::time::interval(BEAT);
        let mut told = false;
        let mut last = String::new();
        loop {
            tokio::select! {
                _ = beat.tick(), if !told => {
                    if stdin.write_all(b"beat\n").await.is_err() { break }
                }
                _ = &mut resumed, if !told => {
                    told = true;
                    if stdin.write_all(b"resume\n").await.is_err() { break }
                }
                line = lines.next_line() => match line {
                    Ok(Some(line)) => {
                        // It repeats itself; only news is passed on.
                        if let Some(text) = word(&line).filter(|text| *text != last) {
                            last.clone_from(&text);
                            said(&name, text);
                        }
                    }
                    Ok(None) | Err(_) => break,
                },
            }
        }
    });
    Ok(Attached { resume, task })
}

/// `{"event":"effect","text":"3 of 3 …"}` → `effect: 3 of 3 …`
fn word(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(format!("{}: {}", value["event"].as_str()?, value["text"].as_str()?))
}

/// How an agent ended.
pub enum Ended {
    /// It undid its work, or there is nothing to undo: its pod is gone, or it was never there.
    Well(String),
    /// It was killed, or says that it failed.
    Killed(String),
}

/// Waits until the agent's container has ended: told, or by its own switch, or with its pod.
pub async fn await_ended(client: &Client, pod: &PodRef, name: &str) -> Result<Ended, ClusterError> {
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    poll_until(&format!("agent {name} to end"), ENDED_DEADLINE, || async {
        let found =
            pods.get_opt(&pod.name).await.map_err(ClusterError::api(format!("read pod {}", pod.name)))?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(&pod.uid)) else {
            return Ok(Ok(Ended::Well(format!("pod {} is gone, and its agent with it", pod.name))));
        };
        Ok(match state_of(&found, name) {
            Err(_) if !declares(&found, name) => Ok(Ended::Well(format!("agent {name} was never there"))),
            Err(why) => Err(why),
            Ok(State::Ended { reason, code: 0 }) => Ok(Ended::Well(format!("agent {name} ended: {reason}"))),
            Ok(State::Ended { reason, code }) => {
                Ok(Ended::Killed(format!("agent {name} ended: {reason}, exit {code}")))
            }
            Ok(State::Running) => Err("it is running".to_owned()),
            Ok(State::Waiting(reason)) => Err(format!("it is waiting: {reason}")),
        })
    })
    .await
}

/// Undoes what an agent that was killed left: another one, to its end. One that an earlier revert started is enough, unless
/// it failed, as it does while the container is starting again: then its name is used up, and the next one tries.
pub async fn clean(client: &Client, cleaner: Start<'_>) -> Result<String, ClusterError> {
    let pod = cleaner.pod;
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let found = pods.get_opt(&pod.name).await.map_err(ClusterError::api(format!("read pod {pod}")))?;
    let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(&pod.uid)) else {
        return Ok(format!("pod {pod} is gone, and with it what a killed agent left"));
    };
    let names = (1..=CLEANERS_MAX).map(|turn| match turn {
        1 => cleaner.name.to_owned(),
        turn => format!("{}-{turn}", cleaner.name),
    });
    let failed = |name: &String| matches!(state_of(&found, name), Ok(State::Ended { code, .. }) if code != 0);
    let Some(name) = names.into_iter().find(|name| !failed(name)) else {
        let why = format!("{CLEANERS_MAX} agents have failed to");
        return Err(ClusterError::state(format!("clean up in pod {pod}"), why));
    };
    if !declares(&found, &name) {
        start(client, Start { name: &name, ..cleaner }, |_, _| {}).await?;
    }
    match await_ended(client, pod, &name).await? {
        Ended::Well(said) => Ok(format!("{said}: what a killed agent left is removed")),
        Ended::Killed(said) => Err(ClusterError::state(format!("clean up in pod {pod}"), said)),
    }
}

/// Agents of this pod that have not ended.
pub fn alive_in(pod: &Pod) -> impl Iterator<Item = String> {
    let declared = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref());
    let names = declared.into_iter().flatten().map(|container| container.name.clone());
    names.filter(|name| name.starts_with(AGENT_PREFIX) && matches!(state_of(pod, name), Ok(State::Running)))
}

fn declares(pod: &Pod, name: &str) -> bool {
    let declared = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref());
    declared.into_iter().flatten().any(|container| container.name == name)
}

enum State {
    Waiting(String),
    Running,
    Ended { reason: String, code: i32 },
}

impl State {
    fn started_or_ended(self) -> Result<(), String> {
        match self {
            Self::Running | Self::Ended { .. } => Ok(()),
            Self::Waiting(reason) => Err(reason),
        }
    }

    fn started(self) -> Result<(), String> {
        match self {
            Self::Running => Ok(()),
            Self::Waiting(reason) => Err(reason),
            Self::Ended { reason, .. } => Err(format!("it ended at once: {reason}")),
        }
    }
}

fn state_of(pod: &Pod, name: &str) -> Result<State, String> {
    let statuses = pod.status.as_ref().and_then(|status| status.ephemeral_container_statuses.as_ref());
    let found = statuses.into_iter().flatten().find(|status| status.name == name);
    let state = found.and_then(|status| status.state.as_ref()).ok_or("the kubelet has not taken it up")?;
    if state.running.is_some() {
        return Ok(State::Running);
    }
    if let Some(ended) = &state.terminated {
        let reason = ended.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
        return Ok(State::Ended { reason, code: ended.exit_code });
    }
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    Ok(State::Waiting(waiting.unwrap_or_else(|| "no reason given".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn an_agents_line_becomes_one_text_and_noise_is_nothing() {
        assert_eq!(word(r#"{"event":"stopped","text":"2 of 2"}"#).as_deref(), Some("stopped: 2 of 2"));
        assert_eq!(word("panic!"), None);
    }
}
