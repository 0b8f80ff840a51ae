//! Inference: jobs for workers, their results, and answers at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::app::{App, absent};
use super::body::{JsonBody, OP_ID_RULE, Path, require};
use super::caller::Caller;
use super::error::ApiError;
use crate::deadline::Deadline;
use crate::span;
use crate::store::predictions::infer;
use crate::stream::amqp::PublishFault;
use crate::trace::TraceContext;
use crate::validate::is_op_id;

/// For what is done with the database after the publish.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Longer than any request takes: what is unconfirmed by then has nobody who still waits for it.
const SWEEP_AGE_S: f64 = 15.0;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_JOBS_MAX: i64 = 50;

#[derive(Deserialize)]
pub struct NewJob {
    op_id: String,
    model_id: i64,
    input: Value,
}

/// `POST /api/v1/infer`: 202 once the broker has confirmed the job.
///
/// The job is written down, published, and marked as confirmed. A definite failure to publish takes the row away again; if
/// even that fails, the job will be published later, and the answer is a 504.
///
/// # Errors
/// 400, 401, 404 (model), 503, 504.
pub async fn submit(
    State(app): State<Arc<App>>,
    _: Caller,
    JsonBody(new): JsonBody<NewJob>,
) -> Result<Response, ApiError> {
    require(is_op_id(&new.op_id), "op_id", OP_ID_RULE)?;
    let broker = app.broker.as_deref().ok_or_else(|| absent("broker"))?;
    let (database, deadline) = (app.database()?, app.deadline());
    let job = database.note_job(&new.op_id, new.model_id, &new.input.to_string(), deadline).await?;
    let accepted = || {
        let body = json!({ "op_id": job.op_id, "model_id": job.model_id, "status": "accepted" });
        (StatusCode::ACCEPTED, Json(body)).into_response()
    };
    if job.confirmed {
        return Ok(accepted());
    }
    let published = match deadline.left().checked_sub(AFTERWARDS) {
        Some(limit) => broker.publish(&job, limit).await,
        None => Err(PublishFault::NotSent("no time left to publish".into())),
    };
    let indeterminate = |reason: String| ApiError::Indeterminate { dependency: "rabbitmq", reason };
    match published {
        Ok(()) => {
            if let Err(fault) = database.confirm_job(&job, deadline).await {
                // It is in the queue. At worst it is published once more, which the worker sees.
                tracing::warn!(%fault, op_id = job.op_id, "job was not marked as confirmed");
            }
            Ok(accepted())
        }
        Err(fault @ PublishFault::Unknown(_)) => Err(indeterminate(fault.to_string())),
        Err(fault) => match database.forget_job(&job.op_id, Deadline::after(AFTERWARDS)).await {
            Ok(()) => Err(ApiError::Away(fault.to_string())),
            Err(kept) => Err(indeterminate(format!("{fault}; and it was not taken back: {kept}"))),
        },
    }
}

/// `GET /api/v1/infer/{op_id}`: 200 with the result, 202 while it is pending.
///
/// # Errors
/// 400, 401, 404, 503.
pub async fn result(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(op_id): Path<String>,
) -> Result<Response, ApiError> {
    require(is_op_id(&op_id), "op_id", OP_ID_RULE)?;
    let found = app.database()?.inference(&op_id, app.deadline()).await?;
    let found = found.ok_or(ApiError::NotFound("inference"))?;
    let status = if found.output.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(found)).into_response())
}

#[derive(Deserialize)]
pub struct Question {
    model_id: i64,
    input: Value,
}

/// `POST /api/v1/infer/sync`: a pure computation, nothing is stored.
///
/// # Errors
/// 400, 401, 503.
pub async fn at_once(_: Caller, JsonBody(question): JsonBody<Question>) -> Response {
    let output = infer(question.model_id, &question.input);
    Json(json!({ "model_id": question.model_id, "output": output })).into_response()
}

/// Publishes what was written down and never confirmed, until the process ends: after a crash between the two, or a publish
/// of unknown outcome. Any copy may do it, also two at once: a worker does a job once however often it arrives.
pub async fn sweep(app: Arc<App>) {
    let (Some(database), Some(broker)) = (&app.database, &app.broker) else { return };
    loop {
        sleep(SWEEP_EVERY).await;
        let jobs = match database.unconfirmed_jobs(SWEEP_AGE_S, SWEEP_JOBS_MAX, app.deadline()).await {
            Ok(jobs) => jobs,
            Err(fault) => {
                tracing::warn!(%fault, "failed to look for unconfirmed jobs");
                continue;
            }
        };
        for job in jobs {
            let context = TraceContext::resume(job.traceparent.as_deref());
            let publish = broker.publish(&job, app.settings.publish_timeout);
            if let Err(fault) = span::enter(&app.tracer, context, publish).await {
                tracing::warn!(%fault, op_id = job.op_id, "failed to publish a job again");
                break;
            }
            app.metrics.links.republished.inc();
            if let Err(fault) = database.confirm_job(&job, app.deadline()).await {
                tracing::warn!(%fault, op_id = job.op_id, "job was not marked as confirmed");
                break;
            }
        }
    }
}
