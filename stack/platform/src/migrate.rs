//! The schema. Idempotent, safe to run from many init containers at once, and patient with a database that is
//! still coming up.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use crate::config::Settings;
use crate::deadline::Deadline;
use crate::store::fault::with_causes;

/// The version that this build needs.
pub const SCHEMA_VERSION: i32 = 1;

/// One attempt may wait for another copy that holds the lock.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One transaction, so that the lock goes with it: the lock of a session would stay behind on a server
/// connection that PgBouncer hands to somebody else.
const SCHEMA: &str = "
BEGIN;
SET LOCAL statement_timeout = '30s';
SET LOCAL client_min_messages = 'warning';
SELECT pg_advisory_xact_lock(7246113);
CREATE TABLE IF NOT EXISTS models (
    id bigserial PRIMARY KEY,
    op_id text NOT NULL UNIQUE,
    name text NOT NULL,
    framework text NOT NULL,
    prediction_count bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS predictions (
    op_id text PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES models (id),
    input jsonb NOT NULL,
    output jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS platform_schema (
    version int PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO platform_schema (version) VALUES (1) ON CONFLICT DO NOTHING;
COMMIT;
";

#[derive(Debug, Error)]
#[error("failed to bring the schema up to date within {within_s} s ({attempts} attempts): {last}")]
pub struct MigrateError {
    within_s: u64,
    attempts: u32,
    last: String,
}

/// # Errors
/// When the schema is not there after `MIGRATE_SECONDS`.
pub async fn run(settings: &Settings) -> Result<(), MigrateError> {
    let deadline = Deadline::after(settings.migrate_max);
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let limit = deadline.cap(ATTEMPT_MAX);
        let last = match timeout(limit, attempt(&settings.primary)).await {
            Ok(Ok(())) => {
                tracing::info!(version = SCHEMA_VERSION, attempts, "schema is up to date");
                return Ok(());
            }
            Ok(Err(error)) => with_causes(&error),
            Err(_) => format!("no answer within {} ms", limit.as_millis()),
        };
        if deadline.left() <= pause {
            return Err(MigrateError { within_s: settings.migrate_max.as_secs(), attempts, last });
        }
        tracing::warn!(error = %last, attempts, "schema is not up to date yet, trying again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(config: &tokio_postgres::Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::select! {
        result = client.batch_execute(SCHEMA) => result,
        result = connection => {
            result?;
            // The server closed the connection in good order, yet without our answer: this says so.
            client.batch_execute("").await
        }
    }
}
