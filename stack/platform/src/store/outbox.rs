//! Events that are written with what they tell of, in one transaction, and relayed to Kafka afterwards.
//!
//! Guarantees: an event of a committed write is never lost; events of one topic leave in the order of their ids, since one
//! copy relays a topic at a time. Caveats: an event may be sent more than once (Kafka had it, and the answer or the
//! commit that removes it was lost). Each bears an `id` that never changes.

use serde_json::Value;
use tokio_postgres::types::Type;

use super::fault::DbFault;
use super::models::unreadable;
use super::sql::Database;
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;
use crate::span;

/// Events of one pass.
const BATCH_MAX: i64 = 100;
/// More are not counted: the gauge then says this number.
const COUNT_MAX: i64 = 100_001;
/// With so many waiting, no more are taken: the write is refused, and nothing was done.
pub const BACKLOG_MAX: i64 = 100_000;

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    ModelEvents,
    InferenceResults,
    Decisions,
}

impl Topic {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelEvents => "model-events",
            Self::InferenceResults => "inference-results",
            Self::Decisions => "decisions",
        }
    }

    /// Whoever holds this lock relays the topic.
    fn lock(self) -> i64 {
        match self {
            Self::ModelEvents => 7_246_201,
            Self::InferenceResults => 7_246_202,
            Self::Decisions => 7_246_203,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    id: i64,
    pub key: String,
    pub payload: Value,
    pub traceparent: Option<String>,
}

/// A batch that is ours until the transaction ends.
pub(crate) struct Batch<'a> {
    transaction: WriteTransaction<'a>,
    pub events: Vec<Event>,
}

impl WriteTransaction<'_> {
    /// An event of what this transaction writes.
    pub(super) async fn announce(&mut self, topic: Topic, key: &str, payload: &Value) -> Result<(), DbFault> {
        let traceparent = span::current().map(|context| context.to_string());
        let sql = "INSERT INTO outbox (topic, key, payload, traceparent) VALUES ($1, $2, $3, $4)";
        let topic = topic.name();
        let params: super::sql::Params<'_> =
            &[(&topic, Type::TEXT), (&key, Type::TEXT), (payload, Type::JSONB), (&traceparent, Type::TEXT)];
        self.query(sql, params).await.map(drop)
    }
}

impl Database {
    /// The oldest events of a topic; none when there are none or another copy is at it.
    pub(crate) async fn take_events(
        &self,
        topic: Topic,
        deadline: Deadline,
    ) -> Result<Option<Batch<'_>>, DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        // Of the transaction: behind PgBouncer a session's lock would stay with a connection that is not ours.
        let lock = topic.lock();
        let locked =
            transaction.query("SELECT pg_try_advisory_xact_lock($1)", &[(&lock, Type::INT8)]).await?;
        if !locked.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
            transaction.rollback().await;
            return Ok(None);
        }
        let sql = "SELECT id, key, payload, traceparent FROM outbox WHERE topic = $1 ORDER BY id LIMIT $2";
        let rows = transaction.query(sql, &[(&topic.name(), Type::TEXT), (&BATCH_MAX, Type::INT8)]).await?;
        if rows.is_empty() {
            transaction.rollback().await;
            return Ok(None);
        }
        let events = rows
            .iter()
            .map(|row| {
                let read = || {
                    Ok(Event {
                        id: row.try_get("id")?,
                        key: row.try_get("key")?,
                        payload: row.try_get("payload")?,
                        traceparent: row.try_get("traceparent")?,
                    })
                };
                read().map_err(|error: tokio_postgres::Error| unreadable(&error))
            })
            .collect::<Result<Vec<_>, DbFault>>()?;
        Ok(Some(Batch { transaction, events }))
    }

    /// Events that wait, up to a limit.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn count_events(&self, topic: Topic, deadline: Deadline) -> Result<i64, DbFault> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM outbox WHERE topic = $1 LIMIT $2) AS waiting";
        let params: super::sql::Params<'_> = &[(&topic.name(), Type::TEXT), (&COUNT_MAX, Type::INT8)];
        let rows = self.read_primary(sql, params, deadline).await?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0))
    }
}

impl Batch<'_> {
    /// They have arrived: forget them. Failing that they will be sent again.
    pub(crate) async fn done(mut self) -> Result<usize, DbFault> {
        let ids: Vec<i64> = self.events.iter().map(|event| event.id).collect();
        let sql = "DELETE FROM outbox WHERE id = ANY($1)";
        self.transaction.query(sql, &[(&ids, Type::INT8_ARRAY)]).await?;
        self.transaction.commit().await?;
        Ok(ids.len())
    }

    pub(crate) async fn give_back(self) {
        self.transaction.rollback().await;
    }
}
