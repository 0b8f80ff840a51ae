//! PostgreSQL under Patroni: the REST word of each member, confirmed by the server's own.

use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use tokio_postgres::{Client, Config, NoTls};

use super::kept::{Ask, Kept, ask};
use super::{Archive, Member, Members};
use crate::cluster::{ClusterError, Dialer, PodAddress, Stream, http_get_json};
use crate::model::{Component, Role};

const PATRONI_PORT: u16 = 8008;
const PORT: u16 = 5432;
const SCOPE: &str = "ai-platform-postgres";

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
        is_leader(status).then(|| (pod.name.clone(), status.timeline, status))
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
        leaders: vec![(SCOPE.to_owned(), leader)],
        led,
        writers: Vec::new(),
        archive: None,
        crowded: 0,
    }
}

/// The servers themselves, each with a session that is kept.
pub struct Servers {
    recovery: Recovery,
    kept: Kept<Client>,
}

impl Servers {
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { recovery: Recovery { credentials }, kept: Kept::default() }
    }
}

/// Patroni's word for the roles, and beside it each server's own for who takes writes: a server whose Patroni died goes on
/// taking them, whatever the others elect.
pub async fn watched(servers: &Servers, dialer: &Dialer, pods: &[PodAddress], deadline: Duration) -> Members {
    let own = pods.iter().map(|pod| ask(&servers.recovery, &servers.kept, dialer, pod, deadline));
    let (members, own) = tokio::join!(members(dialer, pods, None, deadline), join_all(own));
    let words = pods.iter().zip(own);
    let mut writing: Vec<(String, Option<Archive>)> = words
        .filter_map(|(pod, word)| match word {
            Ok(Word::Writes(archive)) => Some((pod.name.clone(), archive)),
            Ok(Word::Follows) | Err(_) => None,
        })
        .collect();
    writing.sort_by(|(one, _), (other, _)| one.cmp(other));
    let writers = writing.iter().map(|(pod, _)| pod.clone()).collect();
    let archive = if writing.len() == 1 { writing.pop() } else { None };
    let archive = archive.and_then(|(pod, archive)| Some((pod, archive?)));
    Members { writers: vec![(SCOPE.to_owned(), writers)], archive, ..members }
}

/// Of the one that writes: what it archived, and what waits. A file whose name ends so waits.
const ARCHIVE: &str = "select a.archived_count, count(r.name), min(r.name collate \"C\") \
    from pg_stat_archiver a left join pg_ls_archive_statusdir() r on r.name like '%.ready' group by a.archived_count";

/// A server's own word.
enum Word {
    Follows,
    /// With what it says of its archive, if the user may ask.
    Writes(Option<Archive>),
}

/// Is it in recovery, and if not, what of its archive?
struct Recovery {
    credentials: Credentials,
}

impl Ask for Recovery {
    type Connection = Client;
    type Answer = Word;
    const PORT: u16 = PORT;

    async fn open(&self, stream: Box<dyn Stream>, what: &str) -> Result<Client, ClusterError> {
        session(stream, &self.credentials).await.map_err(|why| ClusterError::state(what, why))
    }

    async fn ask(&self, client: &mut Client, what: &str) -> Result<Word, ClusterError> {
        let row = client.query_one("select pg_is_in_recovery()", &[]).await;
        let row = row.map_err(|error| ClusterError::state(what, words(&error)))?;
        if row.get(0) {
            return Ok(Word::Follows);
        }
        Ok(Word::Writes(client.query_one(ARCHIVE, &[]).await.ok().map(|row| archive(&row))))
    }
}

fn archive(row: &tokio_postgres::Row) -> Archive {
    let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    let first: Option<String> = row.get(2);
    let first = first.map(|name| name.trim_end_matches(".ready").to_owned());
    Archive { archived: count(0), waiting: count(1), first }
}

async fn status(dialer: &Dialer, pod: &PodAddress, deadline: Duration) -> Result<Status, ClusterError> {
    // Patroni answers 503 on this path when its server is not running: the body is what counts.
    Ok(http_get_json(dialer, pod, PATRONI_PORT, "/patroni", deadline).await?.1)
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
        leads: Vec::new(),
        follows: Vec::new(),
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
    let connecting = tokio::time::timeout(deadline, session(stream, credentials)).await;
    let what = format!("connect to the server of {}", pod.name);
    connecting
        .map_err(|_| ClusterError::Deadline { what, seconds: deadline.as_secs().max(1) })?
        .map_err(|why| ClusterError::state(format!("ask the server of {}", pod.name), why))
}

/// `postgres-disconnect` knows these sessions by their name, and leaves them.
async fn session(stream: Box<dyn Stream>, credentials: &Credentials) -> Result<Client, String> {
    let mut config = Config::new();
    config.user(&credentials.user).password(&credentials.password).dbname(&credentials.database);
    config.application_name("mettle");
    let connecting = config.connect_raw(stream, NoTls).await;
    let (client, connection) = connecting.map_err(|error| words(&error))?;
    // Ends with the client.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

fn words(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} {}", db.code().code(), db.message()))
}

pub(super) fn said(pod: &PodAddress, error: &tokio_postgres::Error) -> ClusterError {
    ClusterError::state(format!("ask the server of {}", pod.name), words(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodAddress {
        PodAddress { namespace: "n".into(), name: name.into(), ip: None, node: None }
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
