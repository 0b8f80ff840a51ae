//! Redis Cluster: one multiplexed client, a circuit for each part of the slots, and a keeper that joins the
//! cluster anew when nothing answers any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::fault::with_causes;
use super::kv_fault::{KvFault, Reaction, react, server_code};
use crate::circuit::Circuit;
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::metrics::Metrics;
use crate::span;

/// One circuit for each 1,024 of the 16,384 slots: a dead shard opens its own circuits and no other's.
const CIRCUITS: usize = 16;
const SLOTS_PER_CIRCUIT: u16 = 1024;
const CIRCUIT_FAILURES_MAX: u32 = 5;
/// So many failures in a row, whatever the slot, mean that no shard answers.
const WHOLE_FAILURES_MAX: u32 = 10;
const CIRCUIT_OPEN_FOR: Duration = Duration::from_secs(1);

/// Pauses before a command is sent again that the server certainly did not execute.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(90)];

const KEEPER_PERIOD: Duration = Duration::from_secs(1);
/// With no answer for so long the client is thrown away and the seeds' names are resolved again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const REJOIN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// One part silent for so long while others answer: its node may be dead without a sound (no reset, no refusal), and
/// another may own its slots by now. The client never looks by itself: only an answer tells it that slots have moved.
const PART_SILENCE_MAX: Duration = Duration::from_secs(2);

pub struct Kv {
    client: ClusterClient,
    link: Mutex<Link>,
    circuits: Vec<Circuit>,
    /// For the whole cluster: without it, a Redis that hangs would cost every part its own time-outs.
    whole: Circuit,
    /// The limit of a command with all its tries.
    command_max: Duration,
    join_max: Duration,
    rejoin: Notify,
    metrics: Arc<Metrics>,
}

struct Link {
    connection: Option<ClusterConnection>,
    /// The first failure since the last answer.
    silent_since: Option<Instant>,
    /// The same for each part of the slots.
    parts_silent_since: [Option<Instant>; CIRCUITS],
}

impl Link {
    fn new(connection: Option<ClusterConnection>) -> Self {
        Self { connection, silent_since: None, parts_silent_since: [None; CIRCUITS] }
    }

    fn has_silent_part(&self) -> bool {
        self.parts_silent_since.iter().flatten().any(|since| since.elapsed() > PART_SILENCE_MAX)
    }
}

impl Kv {
    /// Connects later, in [`Self::keep`]. `None` without nodes: Redis is then not used.
    ///
    /// # Errors
    /// When the nodes cannot be understood.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Option<Arc<Self>>, redis::RedisError> {
        if settings.redis_nodes.is_empty() {
            return Ok(None);
        }
        let mut builder = ClusterClient::builder(settings.redis_nodes.clone())
            // No retries inside the client: it also sends a command again whose connection broke after it
            // was sent. For RPUSH that is a duplicate that nobody asked for. `run` tries again itself, and only
            // what was certainly not executed.
            .retries(0)
            .connection_timeout(settings.redis_timeout / 2)
            .response_timeout(settings.redis_timeout);
        if let Some(password) = &settings.redis_password {
            builder = builder.password(password);
        }
        Ok(Some(Arc::new(Self {
            client: builder.build()?,
            link: Mutex::new(Link::new(None)),
            circuits: (0..CIRCUITS).map(|_| Circuit::new(CIRCUIT_FAILURES_MAX, CIRCUIT_OPEN_FOR)).collect(),
            whole: Circuit::new(WHOLE_FAILURES_MAX, CIRCUIT_OPEN_FOR),
            command_max: settings.redis_timeout,
            join_max: settings.connect_timeout,
            rejoin: Notify::new(),
            metrics,
        })))
    }

    /// Runs a command on the key's node.
    ///
    /// # Errors
    /// [`KvFault`] tells whether the command can have been executed.
    pub(super) async fn run<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, KvFault> {
        let index = circuit_of(key);
        let part = &self.circuits[index];
        let now = Instant::now();
        let result = if part.permit(now) && self.whole.permit(now) {
            let result = span::client("command", "redis", self.run_bounded(command)).await;
            let silent = &mut self.lock().parts_silent_since[index];
            match &result {
                // A refusal is an answer too.
                Ok(_) | Err(KvFault::Refused(_)) => *silent = None,
                Err(_) => _ = silent.get_or_insert_with(Instant::now),
            }
            for circuit in [part, &self.whole] {
                match &result {
                    Ok(_) => circuit.success(),
                    Err(_) => circuit.failure(Instant::now()),
                }
            }
            result
        } else {
            Err(KvFault::NotSent("circuit is open".into()))
        };
        if let Err(fault) = &result {
            self.metrics.redis_errors.with_label_values(&[fault.kind()]).inc();
        }
        result
    }

    async fn run_bounded<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KvFault> {
        let deadline = Deadline::after(self.command_max);
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let Some(mut connection) = self.lock().connection.clone() else {
                return Err(KvFault::NotSent("not connected to the cluster".into()));
            };
            let error = match timeout(deadline.left(), command.query_async(&mut connection)).await {
                Ok(Ok(value)) => {
                    self.lock().silent_since = None;
                    return Ok(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    self.lock().silent_since.get_or_insert_with(Instant::now);
                    return Err(KvFault::Unknown(format!(
                        "nothing within {} ms",
                        self.command_max.as_millis()
                    )));
                }
            };
            if client_is_gone(&error) {
                self.lock().connection = None;
                self.rejoin.notify_one();
                return Err(KvFault::NotSent(with_causes(&error)));
            }
            let reaction = react(server_code(&error));
            if reaction == Reaction::Unknown {
                self.lock().silent_since.get_or_insert_with(Instant::now);
                return Err(KvFault::Unknown(with_causes(&error)));
            }
            match pauses.next().filter(|pause| reaction == Reaction::TryAgain && **pause < deadline.left()) {
                Some(pause) => sleep(*pause).await,
                None => return Err(KvFault::Refused(with_causes(&error))),
            }
        }
    }

    /// Keeps the link alive until the process ends.
    pub async fn keep(self: Arc<Self>) {
        let mut pause = KEEPER_PERIOD / 4;
        loop {
            if self.lock().connection.is_none() {
                match timeout(self.join_max, self.client.get_async_connection()).await {
                    Ok(Ok(connection)) => {
                        *self.lock() = Link::new(Some(connection));
                        self.metrics.redis_reconnects.inc();
                        tracing::info!("joined the redis cluster");
                        pause = KEEPER_PERIOD / 4;
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(error = %with_causes(&error), "failed to join the redis cluster")
                    }
                    Err(_) => tracing::warn!("failed to join the redis cluster in time"),
                }
            }
            if self.lock().connection.is_none() {
                sleep(pause).await;
                pause = (pause * 2).min(REJOIN_PAUSE_MAX);
            } else {
                // Early when the client has ended.
                let _ = timeout(KEEPER_PERIOD, self.rejoin.notified()).await;
                self.check_link().await;
            }
        }
    }

    /// Without traffic nobody would notice that the cluster is gone; and a client that has lost every node
    /// neither looks up the seeds again nor pauses between its attempts.
    async fn check_link(&self) {
        if self.lock().connection.is_none() {
            return;
        }
        let probe: Result<Option<String>, KvFault> =
            self.run_bounded(redis::cmd("GET").arg("platform:probe")).await;
        if let Err(fault) = probe {
            tracing::warn!(%fault, "redis probe failed");
        }
        if self.lock().has_silent_part() {
            self.look_again().await;
            return;
        }
        let mut link = self.lock();
        if link.silent_since.is_some_and(|since| since.elapsed() > SILENCE_MAX) {
            link.connection = None;
            drop(link);
            tracing::warn!("left the redis cluster: no answer for {} s", SILENCE_MAX.as_secs());
        }
    }

    /// Asks the seeds for the slots' owners. The present connection goes on for the other parts meanwhile.
    async fn look_again(&self) {
        match timeout(self.join_max, self.client.get_async_connection()).await {
            Ok(Ok(connection)) => {
                *self.lock() = Link::new(Some(connection));
                self.metrics.redis_reconnects.inc();
                tracing::info!("a part of the slots was silent: asked for their owners again");
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %with_causes(&error), "failed to ask for the slots' owners")
            }
            Err(_) => tracing::warn!("failed to ask for the slots' owners in time"),
        }
    }

    /// Brings the circuit gauge up to date.
    pub fn observe_circuits(&self) {
        let all = self.whole.is_open();
        let open = self.circuits.iter().filter(|circuit| all || circuit.is_open()).count();
        self.metrics.redis_circuits_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        // Two plain values: valid even if a holder panicked.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library's task behind the connection has ended (it panicked): a command cannot even be handed over, and
/// never will be. The library has no type for that, only this text.
fn client_is_gone(error: &redis::RedisError) -> bool {
    error.is_io_error() && error.to_string().contains("Unable to send command")
}

fn circuit_of(key: &str) -> usize {
    usize::from(slot(key) / SLOTS_PER_CIRCUIT) % CIRCUITS
}

/// The key's hash slot. Our keys have no `{tag}`.
fn slot(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From the cluster specification, and CLUSTER KEYSLOT.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("session:alice"), slot("session:alice"));
    }

    #[test]
    fn every_slot_has_a_circuit() {
        assert_eq!(usize::from(16_383 / SLOTS_PER_CIRCUIT), CIRCUITS - 1);
        assert_eq!(circuit_of("foo"), 12_182 / 1_024);
    }
}
