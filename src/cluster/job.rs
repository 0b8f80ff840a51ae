//! Jobs out of CronJobs that wait for somebody to start them.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

use super::{ClusterError, poll_until};

/// Lines of a Job's log that are told: the last say how it ended.
const LOG_LINES: i64 = 12;
const LOG_BYTES: i64 = 16 * 1024;
const GONE_DEADLINE: Duration = Duration::from_secs(60);

/// How a Job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    Running,
    Complete,
    Failed,
}

fn jobs(client: &Client, namespace: &str) -> Api<Job> {
    Api::namespaced(client.clone(), namespace)
}

pub(super) async fn state(client: &Client, namespace: &str, name: &str) -> Result<State, ClusterError> {
    let found = jobs(client, namespace).get_opt(name).await;
    let found = found.map_err(ClusterError::api(format!("read job {namespace}/{name}")))?;
    Ok(found.as_ref().map_or(State::Absent, state_of))
}

fn state_of(job: &Job) -> State {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is =
        |kind: &str| conditions.into_iter().flatten().any(|one| one.type_ == kind && one.status == "True");
    match (is("Complete"), is("Failed")) {
        (true, _) => State::Complete,
        (_, true) => State::Failed,
        _ => State::Running,
    }
}

/// Starts a Job out of a CronJob and waits for its end; gives the last lines that it said. One of this name that is there
/// is waited for instead.
///
/// # Errors
/// When the CronJob is not there, the Job fails, or has no end within the deadline: then it is deleted, so that it does
/// nothing later.
pub async fn run_job(
    client: &Client,
    namespace: &str,
    cron_job: &str,
    name: &str,
    deadline: Duration,
) -> Result<String, ClusterError> {
    if state(client, namespace, name).await? == State::Absent {
        create(client, namespace, cron_job, name).await?;
    }
    await_end(client, namespace, name, deadline).await
}

async fn create(client: &Client, namespace: &str, cron_job: &str, name: &str) -> Result<(), ClusterError> {
    let what = format!("start job {namespace}/{name} from cronjob {cron_job}");
    let crons = Api::<CronJob>::namespaced(client.clone(), namespace);
    let template = crons.get(cron_job).await.map_err(ClusterError::api(what.clone()))?;
    let template = template
        .spec
        .map(|spec| spec.job_template)
        .ok_or_else(|| ClusterError::state(what.clone(), "the cronjob has no template"))?;
    let metadata = template.metadata.unwrap_or_default();
    let job = Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    };
    let created = jobs(client, namespace).create(&PostParams::default(), &job).await;
    created.map(drop).map_err(ClusterError::api(what))
}

async fn await_end(
    client: &Client,
    namespace: &str,
    name: &str,
    deadline: Duration,
) -> Result<String, ClusterError> {
    let waited = poll_until(&format!("the end of job {name}"), deadline, || async {
        Ok(match state(client, namespace, name).await? {
            State::Complete => Ok(true),
            // One that is gone was deleted by somebody: it did not do its work.
            State::Failed | State::Absent => Ok(false),
            State::Running => Err("it runs".to_owned()),
        })
    })
    .await;
    let said = log(client, namespace, name).await;
    match waited {
        Ok(true) => Ok(said),
        Ok(false) => Err(ClusterError::state(format!("run job {name}"), format!("it failed: {said}"))),
        Err(error) => {
            delete(client, namespace, name).await?;
            Err(ClusterError::state(format!("run job {name}"), format!("{error}; it said: {said}")))
        }
    }
}

async fn delete(client: &Client, namespace: &str, name: &str) -> Result<(), ClusterError> {
    let what = format!("delete job {namespace}/{name}");
    match jobs(client, namespace).delete(name, &DeleteParams::foreground()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(ClusterError::api(what)(error)),
    }
    poll_until(&format!("that job {name} is gone"), GONE_DEADLINE, || async {
        let gone = state(client, namespace, name).await? == State::Absent;
        Ok(if gone { Ok(()) } else { Err("its pods end".to_owned()) })
    })
    .await
}

/// Deletes the Jobs whose names begin so, with their pods: a pod that has ended still holds its volume.
///
/// # Errors
/// When they cannot be listed or deleted.
pub async fn forget_jobs(client: &Client, namespace: &str, prefix: &str) -> Result<(), ClusterError> {
    let listed = jobs(client, namespace).list(&ListParams::default().limit(2000)).await;
    let listed = listed.map_err(ClusterError::api(format!("list the jobs of {namespace}")))?;
    for name in listed.items.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(prefix)) {
        delete(client, namespace, &name).await?;
    }
    Ok(())
}

/// The last lines of its newest pod; empty when it said nothing, or cannot be asked.
async fn log(client: &Client, namespace: &str, name: &str) -> String {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&format!("job-name={name}")).limit(20)).await;
    let Ok(list) = list else { return String::new() };
    let newest = list.items.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(pod) = newest else { return "no pod of it is left".to_owned() };
    let parameters =
        LogParams { tail_lines: Some(LOG_LINES), limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
    let text = pods.logs(&pod.name_any(), &parameters).await.unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::{State, state_of};

    #[test]
    fn a_job_has_ended_only_when_a_condition_says_so() {
        for (conditions, state) in [
            (serde_json::json!([]), State::Running),
            (serde_json::json!([{ "type": "Complete", "status": "True" }]), State::Complete),
            (serde_json::json!([{ "type": "Failed", "status": "True" }]), State::Failed),
            (serde_json::json!([{ "type": "Complete", "status": "False" }]), State::Running),
            (serde_json::json!([{ "type": "Suspended", "status": "True" }]), State::Running),
        ] {
            let job = serde_json::json!({ "metadata": {}, "status": { "conditions": conditions } });
            assert_eq!(state_of(&serde_json::from_value(job).unwrap()), state);
        }
    }
}
