//! Many sessions at once through the pooler, and what they cost behind it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_postgres::{Client, Config, NoTls};

use super::Credentials;
use super::postgres::connect;
use crate::cluster::{ClusterError, Dialer, PodAddress};

/// Handshakes at once: a flood would measure the listen queue.
const AT_ONCE: usize = 64;

/// Sessions that are open at the same time.
pub struct Held {
    pub clients: Vec<Client>,
    /// Why others are not; bounded.
    pub failures: Vec<String>,
}

/// Opens `count` sessions at one address and keeps them.
pub async fn hold(address: SocketAddr, credentials: &Credentials, count: usize, deadline: Duration) -> Held {
    raise_descriptor_limit();
    let opened = stream::iter(0..count).map(|_| open(address, credentials, deadline));
    let opened: Vec<Result<Client, String>> = opened.buffer_unordered(AT_ONCE).collect().await;
    let mut held = Held { clients: Vec::with_capacity(count), failures: Vec::new() };
    for one in opened {
        match one {
            Ok(client) => held.clients.push(client),
            Err(why) if held.failures.len() < 20 => held.failures.push(why),
            Err(_) => {}
        }
    }
    held
}

async fn open(address: SocketAddr, credentials: &Credentials, deadline: Duration) -> Result<Client, String> {
    let connecting = async {
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let mut config = Config::new();
        config.user(&credentials.user).password(&credentials.password).dbname(&credentials.database);
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| error.to_string())?;
        // Ends with the client.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(client)
    };
    tokio::time::timeout(deadline, connecting)
        .await
        .unwrap_or_else(|_| Err(format!("no session within {} s", deadline.as_secs())))
}

/// Has every session answer one query, all at once; how many did.
pub async fn ask_all(held: &Held, deadline: Duration) -> usize {
    let asked = futures::future::join_all(held.clients.iter().map(|client| async move {
        // The simple protocol: the pooler's transaction mode keeps no prepared statement.
        let answer = tokio::time::timeout(deadline, client.simple_query("select 1")).await;
        matches!(answer, Ok(Ok(rows)) if !rows.is_empty())
    }));
    asked.await.into_iter().filter(|answered| *answered).count()
}

/// Sessions of the platform's user that one server has, without the one that asks.
///
/// # Errors
/// When it does not answer.
pub async fn server_sessions(
    dialer: &Dialer,
    pod: &PodAddress,
    credentials: &Credentials,
    deadline: Duration,
) -> Result<i64, ClusterError> {
    let client = connect(dialer, pod, credentials, deadline).await?;
    let query = "select count(*) from pg_stat_activity \
                 where usename = current_user and backend_type = 'client backend' and pid <> pg_backend_pid()";
    let what = format!("count the sessions of {}", pod.name);
    match tokio::time::timeout(deadline, client.query_one(query, &[])).await {
        Ok(row) => Ok(row.map_err(|error| ClusterError::state(what, error.to_string()))?.get(0)),
        Err(_) => Err(ClusterError::Deadline { what, seconds: deadline.as_secs() }),
    }
}

/// The soft limit is often 1,024. Not being allowed shows as EMFILE, told by the sessions that lack.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
