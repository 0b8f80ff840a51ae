//! PostgreSQL: the pools, leases of connections, and reads with fall-back.
//!
//! All traffic goes through PgBouncer in transaction pooling, where a connection may reach another
//! server process with every transaction. So there are no named prepared statements (`query_typed`
//! parses an unnamed one each time), no session state, and settings only with `SET LOCAL`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};

use super::fault::{DbFault, DriverError, before_commit, with_causes};
use crate::circuit::Circuit;
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::metrics::Metrics;
use crate::span;

/// Values with their types, as an unnamed statement takes them.
pub type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// What a replica may take before the primary is asked instead.
const REPLICA_READ_MAX: Duration = Duration::from_secs(1);
/// Pauses before a step is tried again that certainly had no effect.
pub(super) const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];

/// Where a row came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Primary,
    Replica,
}

impl Source {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

pub struct Database {
    primary: Pool,
    replica: Option<Pool>,
    replica_circuit: Circuit,
    pub(super) statement_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
    started: Instant,
    /// Milliseconds since `started` at the last answer of either pool; `u64::MAX` before the first.
    answered_at_ms: AtomicU64,
    schema_seen: AtomicBool,
}

impl Database {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// When a pool cannot be built.
    pub fn new(
        primary: &tokio_postgres::Config,
        settings: &Settings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, deadpool_postgres::BuildError> {
        let replica = settings.replica.as_ref().map(|config| build_pool(config, settings)).transpose()?;
        Ok(Self {
            primary: build_pool(primary, settings)?,
            replica,
            replica_circuit: Circuit::new(5, Duration::from_secs(1)),
            statement_timeout: settings.statement_timeout,
            metrics,
            started: Instant::now(),
            answered_at_ms: AtomicU64::new(u64::MAX),
            schema_seen: AtomicBool::new(false),
        })
    }

    /// A connection of the primary's pool.
    ///
    /// # Errors
    /// [`DbFault::Away`] when none is to be had in time.
    pub(super) async fn lease(&self, source: Source, deadline: Deadline) -> Result<Lease, DbFault> {
        let pool = match source {
            Source::Primary => &self.primary,
            Source::Replica => self.replica.as_ref().unwrap_or(&self.primary),
        };
        // The pool bounds the wait for a slot and the handshake; this bounds their sum.
        match timeout(deadline.left(), pool.get()).await {
            Ok(Ok(object)) => Ok(Lease { object: Some(object), sound: false }),
            Ok(Err(error)) => Err(DbFault::Away(pool_error(&error))),
            Err(_) => Err(DbFault::Away("no connection before the request's deadline".into())),
        }
    }

    /// Rows from the replica, or from the primary when no replica answers.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn read(
        &self,
        sql: &str,
        params: Params<'_>,
        deadline: Deadline,
    ) -> Result<(Vec<Row>, Source), DbFault> {
        if self.replica.is_some() && self.replica_circuit.permit(Instant::now()) {
            let replica_deadline = Deadline::after(deadline.cap(REPLICA_READ_MAX));
            match self.read_from(Source::Replica, sql, params, replica_deadline).await {
                Ok(rows) => {
                    self.replica_circuit.success();
                    return Ok((rows, Source::Replica));
                }
                Err(fault @ DbFault::BadValue(_)) => return Err(fault),
                Err(fault) => {
                    tracing::warn!(%fault, "replica did not answer, asking the primary");
                    self.replica_circuit.failure(Instant::now());
                }
            }
        }
        if self.replica.is_some() {
            self.metrics.degraded.with_label_values(&["replica"]).inc();
        }
        Ok((self.read_primary(sql, params, deadline).await?, Source::Primary))
    }

    /// One row, replica first. Replicas lag, so a row that is not there is looked for on the primary.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn read_row(
        &self,
        sql: &str,
        params: Params<'_>,
        deadline: Deadline,
    ) -> Result<Option<(Row, Source)>, DbFault> {
        let (rows, source) = self.read(sql, params, deadline).await?;
        if let Some(row) = rows.into_iter().next() {
            return Ok(Some((row, source)));
        }
        if source == Source::Primary {
            return Ok(None);
        }
        let rows = self.read_primary(sql, params, deadline).await?;
        Ok(rows.into_iter().next().map(|row| (row, Source::Primary)))
    }

    /// A read has no effects, so it is tried again while the database is away.
    pub(super) async fn read_primary(
        &self,
        sql: &str,
        params: Params<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Row>, DbFault> {
        for pause in RETRY_PAUSES {
            match self.read_from(Source::Primary, sql, params, deadline).await {
                Err(DbFault::Away(_)) if deadline.left() > self.statement_timeout => sleep(pause).await,
                result => return result,
            }
        }
        self.read_from(Source::Primary, sql, params, deadline).await
    }

    async fn read_from(
        &self,
        source: Source,
        sql: &str,
        params: Params<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Row>, DbFault> {
        let name = match source {
            Source::Primary => "select",
            Source::Replica => "select replica",
        };
        let result = span::client(name, "postgres", async {
            let mut lease = self.lease(source, deadline).await?;
            let limit = deadline.cap(self.statement_timeout);
            let rows = lease.step(limit, |client| client.query_typed(sql, params)).await?;
            lease.is_sound();
            Ok(rows)
        })
        .await;
        self.note(source, result)
    }

    /// Counts a failure, remembers an answer.
    pub(super) fn note<T>(&self, source: Source, result: Result<T, DbFault>) -> Result<T, DbFault> {
        match &result {
            Ok(_) => {
                let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
                self.answered_at_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(fault) => {
                self.metrics.db_errors.with_label_values(&[source.label(), fault.kind()]).inc();
                match fault {
                    DbFault::ReadOnly(_) => self.metrics.db_readonly.inc(),
                    DbFault::NoSchema(_) => self.schema_seen.store(false, Ordering::Relaxed),
                    _ => {}
                }
            }
        }
        result
    }

    /// Can the database be used: the schema is there, and a pool answered within the last second or
    /// does so now, within `limit`?
    ///
    /// Ordinary traffic counts as an answer. Without that, pools that are merely busy would make every
    /// copy of the service unready at once, and turn load into an outage.
    ///
    /// # Errors
    /// Why neither pool answered.
    pub async fn check_ready(&self, limit: Duration) -> Result<(), DbFault> {
        if self.schema_seen.load(Ordering::Relaxed) && self.answered_within(Duration::from_secs(1)) {
            return Ok(());
        }
        let deadline = Deadline::after(limit);
        let result = if self.replica.is_some() {
            tokio::select! {
                primary = self.check_schema(Source::Primary, deadline) => match primary {
                    Ok(()) => Ok(()),
                    Err(_) => self.check_schema(Source::Replica, deadline).await,
                },
                Ok(()) = self.check_schema(Source::Replica, deadline) => Ok(()),
            }
        } else {
            self.check_schema(Source::Primary, deadline).await
        };
        self.schema_seen.store(result.is_ok(), Ordering::Relaxed);
        result
    }

    async fn check_schema(&self, source: Source, deadline: Deadline) -> Result<(), DbFault> {
        let wanted = crate::migrate::SCHEMA_VERSION;
        let rows = self
            .read_from(
                source,
                "SELECT 1 FROM platform_schema WHERE version >= $1 LIMIT 1",
                &[(&wanted, Type::INT4)],
                deadline,
            )
            .await?;
        match rows.is_empty() {
            true => Err(DbFault::NoSchema(format!("version {wanted} is not applied"))),
            false => Ok(()),
        }
    }

    fn answered_within(&self, limit: Duration) -> bool {
        match self.answered_at_ms.load(Ordering::Relaxed) {
            u64::MAX => false,
            at_ms => self.started.elapsed().saturating_sub(Duration::from_millis(at_ms)) < limit,
        }
    }

    /// Brings the pool gauges up to date.
    pub fn observe_pools(&self) {
        let pools = [(Source::Primary, Some(&self.primary)), (Source::Replica, self.replica.as_ref())];
        for (source, pool) in pools {
            let Some(status) = pool.map(Pool::status) else { continue };
            let set = |gauges: &prometheus::IntGaugeVec, value: usize| {
                gauges.with_label_values(&[source.label()]).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.metrics.db_pool_size, status.size);
            set(&self.metrics.db_pool_available, status.available);
            set(&self.metrics.db_pool_waiting, status.waiting);
        }
    }
}

/// A connection on loan. Unless it was declared sound it is closed when the loan ends: after an error, a
/// timeout, or when the client went away in the middle of a transaction.
pub(super) struct Lease {
    object: Option<Object>,
    sound: bool,
}

impl Lease {
    /// One exchange with the server, in bounded time.
    pub(super) async fn step<'a, T, F>(
        &'a self,
        limit: Duration,
        exchange: impl FnOnce(&'a tokio_postgres::Client) -> F,
    ) -> Result<T, DbFault>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        match self.raw_step(limit, exchange).await {
            Ok(value) => Ok(value),
            Err(error) => Err(before_commit(&error)),
        }
    }

    pub(super) async fn raw_step<'a, T, F>(
        &'a self,
        limit: Duration,
        exchange: impl FnOnce(&'a tokio_postgres::Client) -> F,
    ) -> Result<T, DriverError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let Some(object) = &self.object else {
            return Err(DriverError::Connection("connection was given back".into()));
        };
        match timeout(limit, exchange(object)).await {
            Ok(result) => result.map_err(|error| DriverError::from(&error)),
            Err(_) => Err(DriverError::Connection(format!("no answer within {} ms", limit.as_millis()))),
        }
    }

    /// The connection is idle and in no transaction: it may serve others.
    pub(super) fn is_sound(&mut self) {
        self.sound = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && !self.sound
        {
            drop(Object::take(object));
        }
    }
}

fn build_pool(
    config: &tokio_postgres::Config,
    settings: &Settings,
) -> Result<Pool, deadpool_postgres::BuildError> {
    let manager = Manager::from_config(
        config.clone(),
        NoTls,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    Pool::builder(manager)
        .max_size(settings.pool_max)
        .wait_timeout(Some(settings.pool_wait_timeout))
        .create_timeout(Some(settings.connect_timeout))
        .recycle_timeout(Some(settings.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
}

fn pool_error(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => with_causes(error),
        other => with_causes(other),
    }
}
