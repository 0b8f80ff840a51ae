//! PostgreSQL under Patroni: the REST word of each member, confirmed by the server's own.

use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use tokio_postgres::{Client, Config, NoTls};

use super::{Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress, http_get};
use crate::ledger::Found;
use crate::model::{Component, OpId, Role, RunId};

const PATRONI_PORT: u16 = 8008;
const PORT: u16 = 5432;
/// A ledger with more rows than this is not one of our runs.
const ROWS_MAX: usize = 20_000_000;

/// How to read the database; from the stack's secret, never printed.
#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub database: String,
    pub password: String,
}

/// `GET /patroni`, what we use of it.
#[derive(Debug, Deserialize)]
struct Status {
    state: String,
    role: String,
    #[serde(default)]
    timeline: Option<u64>,
    #[serde(default)]
    replication: Vec<Standby>,
}

#[derive(Debug, Deserialize)]
struct Standby {
    application_name: String,
    state: String,
}

/// Asks every member. `confirm`: also asks each server itself whether it is in recovery; the roles of members
/// whose two words differ are left out.
pub async fn members(
    dialer: &Dialer,
    pods: &[PodAddress],
    confirm: Option<&Credentials>,
    deadline: Duration,
) -> Members {
    let statuses = join_all(pods.iter().map(|pod| status(dialer, pod, deadline))).await;
    let leader = statuses.iter().zip(pods).find_map(|(status, pod)| {
        let status = status.as_ref().ok()?;
        is_leader(status).then(|| (pod.name.clone(), status.timeline.unwrap_or(0), status))
    });
    let streaming: Vec<&str> = leader
        .iter()
        .flat_map(|(.., status)| &status.replication)
        .filter(|standby| standby.state == "streaming")
        .map(|standby| standby.application_name.as_str())
        .collect();
    let mut members = Vec::with_capacity(pods.len());
    for (pod, status) in pods.iter().zip(&statuses) {
        members.push(match status {
            Err(why) => Member::silent(&pod.name, why.to_string()),
            Ok(status) => member(pod, status, &streaming),
        });
    }
    if let Some(credentials) = confirm {
        let checks = members.iter_mut().zip(pods);
        join_all(checks.map(|(member, pod)| confirmed(dialer, pod, credentials, deadline, member))).await;
    }
    let leader = leader.map(|(pod, timeline, _)| (pod, timeline));
    let led = leader.is_some();
    Members {
        component: Component::Postgres,
        members,
        leaders: vec![("ai-platform-postgres".to_owned(), leader)],
        led,
    }
}

async fn status(dialer: &Dialer, pod: &PodAddress, deadline: Duration) -> Result<Status, ClusterError> {
    // Patroni answers 503 on this path when its server is not running: the body is what counts.
    let (_, body) = http_get(dialer, pod, PATRONI_PORT, "/patroni", deadline).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ClusterError::state(format!("read the status of {}", pod.name), error.to_string()))
}

fn is_leader(status: &Status) -> bool {
    // Patroni 4 says primary, earlier ones master.
    status.state == "running" && matches!(status.role.as_str(), "master" | "primary")
}

fn member(pod: &PodAddress, status: &Status, streaming: &[&str]) -> Member {
    let leads = is_leader(status);
    let runs = matches!(status.state.as_str(), "running" | "streaming");
    let role = match (leads, runs) {
        (true, _) => Some(Role::Primary),
        (false, true) => Some(Role::Replica),
        (false, false) => None,
    };
    Member {
        pod: pod.name.clone(),
        answers: runs,
        role,
        in_sync: leads || (runs && streaming.contains(&pod.name.as_str())),
        epoch: status.timeline,
        slots: Vec::new(),
        source: format!("patroni: {} {}", status.role, status.state),
    }
}

/// Drops the role of a member whose server says otherwise, or nothing.
async fn confirmed(
    dialer: &Dialer,
    pod: &PodAddress,
    credentials: &Credentials,
    deadline: Duration,
    member: &mut Member,
) {
    if member.role.is_none() {
        return;
    }
    let asked = async {
        let client = connect(dialer, pod, credentials, deadline).await?;
        let row = client.query_one("select pg_is_in_recovery()", &[]).await;
        row.map(|row| row.get::<_, bool>(0)).map_err(|error| said(pod, &error))
    };
    let word = tokio::time::timeout(deadline, asked).await;
    match word {
        Ok(Ok(in_recovery)) => {
            let says = if in_recovery { Role::Replica } else { Role::Primary };
            member.source = format!("{}; pg_is_in_recovery = {in_recovery}", member.source);
            member.role = member.role.filter(|role| *role == says);
        }
        Ok(Err(error)) => {
            member.source = format!("{}; {error}", member.source);
            member.role = None;
        }
        Err(_) => {
            member.source = format!("{}; the server gave no answer", member.source);
            member.role = None;
        }
    }
}

pub(super) async fn connect(
    dialer: &Dialer,
    pod: &PodAddress,
    credentials: &Credentials,
    deadline: Duration,
) -> Result<Client, ClusterError> {
    let stream = dialer.dial(pod, PORT, deadline).await?;
    let mut config = Config::new();
    config.user(&credentials.user).password(&credentials.password).dbname(&credentials.database);
    config.application_name("mettle");
    let connecting = tokio::time::timeout(deadline, config.connect_raw(stream, NoTls)).await;
    let what = format!("connect to the server of {}", pod.name);
    let (client, connection) = connecting
        .map_err(|_| ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) })?
        .map_err(|error| said(pod, &error))?;
    // Ends with the client.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

pub(super) fn said(pod: &PodAddress, error: &tokio_postgres::Error) -> ClusterError {
    let why = error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} {}", db.code().code(), db.message()));
    ClusterError::state(format!("ask the server of {}", pod.name), why)
}

/// Every operation of `run` that the primary's tables hold, and the invariant that binds them.
///
/// # Errors
/// When the primary cannot be read.
pub async fn found(
    dialer: &Dialer,
    primary: &PodAddress,
    credentials: &Credentials,
    run: &RunId,
    deadline: Duration,
) -> Result<Found, ClusterError> {
    let client = connect(dialer, primary, credentials, Duration::from_secs(5)).await?;
    let pattern = format!("{run}-%");
    let reading = async {
        let rows = client
            .query(
                "select op_id from predictions where op_id like $1 union all select op_id from models where op_id like $1",
                &[&pattern],
            )
            .await
            .map_err(|error| said(primary, &error))?;
        // Counter and rows are written in one transaction: where they differ, one of them was applied alone or twice.
        let torn = client
            .query(
                "select m.op_id, m.prediction_count, count(p.op_id) from models m left join predictions p on p.model_id = m.id \
                 where m.op_id like $1 group by m.id, m.op_id, m.prediction_count having m.prediction_count <> count(p.op_id) limit 100",
                &[&pattern],
            )
            .await
            .map_err(|error| said(primary, &error))?;
        Ok((rows, torn))
    };
    let what = format!("read the ledger of {}", primary.name);
    let (rows, torn) = match tokio::time::timeout(deadline, reading).await {
        Ok(result) => result?,
        Err(_) => return Err(ClusterError::Deadline { what, seconds: deadline.as_secs() }),
    };
    if rows.len() > ROWS_MAX {
        return Err(ClusterError::state(what, format!("{} rows are more than a run makes", rows.len())));
    }
    let mut found = Found::default();
    for row in &rows {
        *found.counts.entry(OpId(row.get(0))).or_insert(0) += 1;
    }
    for row in &torn {
        let (model, counter, counted): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        found
            .extra_invariants
            .push(format!("model {model}: prediction_count is {counter}, predictions are {counted}"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodAddress {
        PodAddress { namespace: "n".into(), name: name.into(), ip: None }
    }

    fn status(text: &str) -> Status {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_replica_is_in_sync_only_when_the_leader_streams_to_it() {
        let replica = status(r#"{"state":"running","role":"replica","timeline":3}"#);
        assert!(member(&pod("p-1"), &replica, &["p-1"]).in_sync);
        assert!(!member(&pod("p-1"), &replica, &["p-2"]).in_sync);
    }

    #[test]
    fn a_member_that_starts_has_no_role() {
        for (text, role, answers) in [
            (r#"{"state":"running","role":"master","replication":[]}"#, Some(Role::Primary), true),
            (r#"{"state":"running","role":"primary"}"#, Some(Role::Primary), true),
            (r#"{"state":"streaming","role":"replica"}"#, Some(Role::Replica), true),
            (r#"{"state":"starting","role":"replica"}"#, None, false),
            (r#"{"state":"stopped","role":"master"}"#, None, false),
        ] {
            let member = member(&pod("p"), &status(text), &[]);
            assert_eq!((member.role, member.answers), (role, answers), "{text}");
        }
    }
}
