//! A write transaction that always knows whether it can have been committed.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Row;

use super::fault::{DbFault, at_commit};
use super::sql::{Database, Lease, Params, RETRY_PAUSES, Source};
use crate::deadline::Deadline;
use crate::span;

/// The least time in which it makes sense to send a COMMIT.
const COMMIT_MIN: Duration = Duration::from_millis(50);

/// Dropped without [`Self::commit`], the connection is closed and the server rolls back.
pub(super) struct WriteTransaction<'a> {
    database: &'a Database,
    lease: Lease,
    deadline: Deadline,
}

impl<'a> WriteTransaction<'a> {
    /// BEGIN, on a connection that works.
    ///
    /// A BEGIN that failed has had no effect, so another connection is tried: after a restart of the
    /// pooler every idle connection is stale.
    pub(super) async fn begin(database: &'a Database, deadline: Deadline) -> Result<Self, DbFault> {
        let begun = span::client("begin", "postgres", async {
            for pause in RETRY_PAUSES {
                match Self::try_begin(database, deadline).await {
                    Err(DbFault::Away(_)) if deadline.left() > database.statement_timeout => {
                        sleep(pause).await;
                    }
                    result => return result,
                }
            }
            Self::try_begin(database, deadline).await
        });
        database.note(Source::Primary, begun.await)
    }

    async fn try_begin(database: &'a Database, deadline: Deadline) -> Result<Self, DbFault> {
        let lease = database.lease(Source::Primary, deadline).await?;
        let limit = deadline.cap(database.statement_timeout);
        // The server's own limit, so that it does not go on for a client that has given up.
        let sql = format!("BEGIN; SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
        lease.step(limit, |client| client.batch_execute(&sql)).await?;
        Ok(Self { database, lease, deadline })
    }

    pub(super) async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, DbFault> {
        let limit = self.deadline.cap(self.database.statement_timeout);
        let step = self.lease.step(limit, |client| client.query_typed(sql, params));
        let result = span::client("write", "postgres", step).await;
        let result = self.database.note(Source::Primary, result);
        if result.as_ref().is_err_and(DbFault::leaves_connection_sound) {
            self.end().await;
        }
        result
    }

    pub(super) async fn query_row(&mut self, sql: &str, params: Params<'_>) -> Result<Option<Row>, DbFault> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    pub(super) async fn commit(mut self) -> Result<(), DbFault> {
        let limit = self.deadline.cap(self.database.statement_timeout);
        let result = if limit < COMMIT_MIN {
            Err(DbFault::Away("no time left to commit".into()))
        } else {
            // From here on, only an answer tells.
            let step = self.lease.raw_step(limit, |client| client.batch_execute("COMMIT"));
            let answer = span::client("commit", "postgres", step).await;
            answer.map_err(|error| at_commit(&error))
        };
        if result.is_ok() {
            self.lease.is_sound();
        }
        self.database.note(Source::Primary, result)
    }

    /// Ends a transaction that changed nothing. A failure costs only the connection.
    pub(super) async fn rollback(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        let limit = self.deadline.cap(self.database.statement_timeout);
        if self.lease.step(limit, |client| client.batch_execute("ROLLBACK")).await.is_ok() {
            self.lease.is_sound();
        }
    }
}
