//! Runs a command in a container, and hears all of what it says.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{ClusterError, poll_until};
use crate::model::Command;

const RUNNING_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of output that are kept.
const OUTPUT_MAX: u64 = 64 * 1024;

/// Its standard output.
///
/// # Errors
/// When the pod was replaced, the command fails, or gives no end within `deadline`.
pub async fn run(client: &Client, command: &Command, deadline: Duration) -> Result<String, ClusterError> {
    let what = format!("run '{}' in pod {}", command.line.first().map_or("", String::as_str), command.pod);
    let ran = tokio::time::timeout(deadline, exec(client, command, &what)).await;
    ran.map_err(|_| ClusterError::Deadline { what, seconds: deadline.as_secs() })?
}

/// Waits until the container runs, for it may be starting again; false: its pod is gone.
///
/// # Errors
/// When it does not run within a minute.
pub async fn await_running(client: &Client, command: &Command) -> Result<bool, ClusterError> {
    let pods = Api::<Pod>::namespaced(client.clone(), &command.pod.namespace);
    let what = format!("container {} of pod {} to run", command.container, command.pod);
    poll_until(&what, RUNNING_DEADLINE, || async {
        let found = pods.get_opt(&command.pod.name).await;
        let found = found.map_err(ClusterError::api(format!("read pod {}", command.pod)))?;
        let same = found.filter(|pod| pod.metadata.uid.as_deref() == Some(&command.pod.uid));
        let Some(pod) = same else { return Ok(Ok(false)) };
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let own = statuses.iter().find(|status| status.name == command.container);
        let runs = own.and_then(|status| status.state.as_ref()).is_some_and(|state| state.running.is_some());
        Ok(if runs { Ok(true) } else { Err("it does not run".to_owned()) })
    })
    .await
}

/// Whether the pod is the one that was meant.
async fn is_there(client: &Client, command: &Command) -> Result<bool, ClusterError> {
    let pods = Api::<Pod>::namespaced(client.clone(), &command.pod.namespace);
    let found = pods.get_opt(&command.pod.name).await;
    let found = found.map_err(ClusterError::api(format!("read pod {}", command.pod)))?;
    Ok(found.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(&command.pod.uid)))
}

async fn exec(client: &Client, command: &Command, what: &str) -> Result<String, ClusterError> {
    if !is_there(client, command).await? {
        return Err(ClusterError::state(what, "the pod was replaced since it was chosen"));
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &command.pod.namespace);
    let parameters = AttachParams::default().container(&command.container).stdout(true).stderr(true);
    let started = pods.exec(&command.pod.name, &command.line, &parameters).await;
    let mut started = started.map_err(ClusterError::api(what))?;
    let (stdout, stderr, status) = (started.stdout(), started.stderr(), started.take_status());
    let status = async { if let Some(status) = status { status.await } else { None } };
    let (output, errors, status) = tokio::join!(all(stdout), all(stderr), status);
    let Some(status) = status else {
        return Err(ClusterError::state(what, "the API server did not say how it ended"));
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(output);
    }
    let words = |text: &str| {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    };
    let why = status.message.unwrap_or_else(|| "it failed".to_owned());
    let said = words(&format!("{output}\n{errors}"));
    Err(ClusterError::state(what, format!("{why}: {}", said.chars().take(300).collect::<String>())))
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    // What was heard before a stream broke is what there is.
    let _ = stream.take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
