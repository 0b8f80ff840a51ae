//! How far the stack is, and what holds it up: the failed probe, the event, the last log lines, not a timeout.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};

use super::NAMESPACE;
use crate::cluster::{ClusterError, snapshot};
use crate::model::{Component, Snapshot};

/// One workload, as `status` and `verify` print it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    pub namespace: String,
    pub workload: String,
    pub component: Option<Component>,
    pub ready: i32,
    pub desired: i32,
}

impl std::fmt::Display for Row {
    /// `redis 5/6`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.workload.rsplit('/').next().unwrap_or(&self.workload);
        let name = name.strip_prefix(NAMESPACE).map_or(name, |rest| rest.trim_start_matches('-'));
        write!(f, "{name} {}/{}", self.ready, self.desired)
    }
}

impl Row {
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.desired > 0 && self.ready >= self.desired
    }
}

/// Every workload of the stack, in its own namespace and in those that belong to it.
///
/// # Errors
/// When the API does not answer.
pub async fn rows(client: &Client) -> Result<Vec<Row>, ClusterError> {
    let mut rows = Vec::new();
    let home = snapshot(client, NAMESPACE).await?;
    let others = home.namespaces.iter().filter(|(name, labels)| {
        name.as_str() != NAMESPACE && labels.get(PART_OF).is_some_and(|stack| stack == NAMESPACE)
    });
    let others: Vec<String> = others.map(|(name, _)| name.clone()).collect();
    push_rows(home, &mut rows);
    for namespace in others {
        push_rows(snapshot(client, &namespace).await?, &mut rows);
    }
    rows.sort_by(|a, b| (a.component, &a.workload).cmp(&(b.component, &b.workload)));
    Ok(rows)
}

const PART_OF: &str = "app.kubernetes.io/part-of";

fn push_rows(snapshot: Snapshot, rows: &mut Vec<Row>) {
    rows.extend(snapshot.workloads.into_iter().map(|workload| Row {
        namespace: workload.namespace,
        workload: workload.name,
        component: workload.component,
        ready: workload.ready,
        desired: workload.desired,
    }));
}

/// The pod that holds things up, and why, in a few lines.
pub async fn culprit(client: &Client) -> Option<String> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().limit(2000)).await.ok()?;
    let waiting: Vec<&Pod> = list.items.iter().filter(|pod| !crate::cluster::pod_info(pod).ready).collect();
    let pod = waiting.iter().max_by_key(|pod| restarts(pod)).copied()?;
    let name = pod.name_any();
    let mut lines = vec![format!("pod {name} holds it up: {}", state(pod))];
    lines.extend(last_event(client, &name).await.map(|event| format!("  event: {event}")));
    lines.extend(last_log(&pods, pod).await.into_iter().map(|line| format!("  log: {line}")));
    Some(lines.join("\n"))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn restarts(pod: &Pod) -> i32 {
    statuses(pod).map(|status| status.restart_count).sum()
}

/// The first container that is not what it should be, or why the pod is on no node.
fn state(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unscheduled =
        conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        return condition.message.clone().unwrap_or_else(|| "it is not scheduled".to_owned());
    }
    for status in statuses(pod) {
        let Some(state) = &status.state else { continue };
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or("no reason");
            let message = waiting.message.as_deref().unwrap_or_default();
            return format!("container {} waits: {reason} {message}", status.name);
        }
        if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
            return format!("container {} ended with {}", status.name, ended.exit_code);
        }
        if !status.ready && state.running.is_some() {
            return format!(
                "container {} runs and is not ready ({} restarts)",
                status.name, status.restart_count
            );
        }
    }
    "it is starting".to_owned()
}

async fn last_event(client: &Client, pod: &str) -> Option<String> {
    let events = Api::<Event>::namespaced(client.clone(), NAMESPACE);
    let list = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning")).limit(500);
    let events = events.list(&list).await.ok()?;
    let last = events.items.into_iter().max_by_key(|event| {
        event
            .last_timestamp
            .as_ref()
            .map(|time| time.0)
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
    })?;
    last.message
}

async fn last_log(pods: &Api<Pod>, pod: &Pod) -> Vec<String> {
    let bad = statuses(pod).find(|status| !status.ready).map(|status| status.name.clone());
    let crashed = statuses(pod).any(|status| !status.ready && status.restart_count > 0);
    let parameters =
        LogParams { container: bad, tail_lines: Some(5), previous: crashed, ..LogParams::default() };
    let log = pods.logs(&pod.name_any(), &parameters).await.unwrap_or_default();
    log.lines().map(|line| line.chars().take(300).collect()).collect()
}
