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
pub const SCHEMA_VERSION: i32 = 2;

/// One attempt may wait for another copy that holds the lock.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Only ever added to: copies of the last version may still be running.
///
/// A result that a worker stores puts its own event into the outbox, in the worker's transaction; the worker need not
/// know that there is one.
///
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
CREATE TABLE IF NOT EXISTS users (
    name text PRIMARY KEY,
    op_id text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS outbox (
    id bigserial PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    payload jsonb NOT NULL,
    traceparent text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS outbox_topic ON outbox (topic, id);
CREATE TABLE IF NOT EXISTS inference_jobs (
    op_id text PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES models (id),
    input text NOT NULL,
    traceparent text,
    confirmed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS inference_jobs_unconfirmed ON inference_jobs (created_at) WHERE NOT confirmed;
CREATE TABLE IF NOT EXISTS inferences (
    op_id text PRIMARY KEY,
    model_id bigint NOT NULL,
    input jsonb,
    output jsonb,
    worker text,
    done_at timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS inference_counts (
    model_id bigint PRIMARY KEY,
    done bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS decisions (
    op_id text PRIMARY KEY,
    model_id bigint NOT NULL,
    input jsonb NOT NULL,
    decision text NOT NULL,
    degraded boolean NOT NULL,
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE OR REPLACE FUNCTION inference_to_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (topic, key, payload) VALUES ('inference-results', NEW.op_id, jsonb_build_object(
        'event', 'inference-done', 'id', 'inference:' || NEW.op_id, 'op_id', NEW.op_id,
        'model_id', NEW.model_id, 'output', NEW.output, 'worker', NEW.worker));
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER inference_to_outbox AFTER INSERT ON inferences
    FOR EACH ROW EXECUTE FUNCTION inference_to_outbox();
CREATE TABLE IF NOT EXISTS platform_schema (
    version int PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO platform_schema (version) VALUES (1), (2) ON CONFLICT DO NOTHING;
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
    let Some(primary) = &settings.primary else {
        return Err(MigrateError { within_s: 0, attempts: 0, last: "DATABASE_URL is not set".into() });
    };
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let limit = deadline.cap(ATTEMPT_MAX);
        let last = match timeout(limit, attempt(primary)).await {
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
