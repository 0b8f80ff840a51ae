//! Sessions: the append workload. There is no second place for them, so without Redis there is no service.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::body::{JsonBody, OP_ID_RULE, Path, Query, USER_RULE, require};
use super::error::ApiError;
use crate::validate::{is_op_id, is_user};

#[derive(Deserialize)]
pub struct NewEvent {
    op_id: String,
}

#[derive(Serialize)]
struct Appended<'a> {
    op_id: &'a str,
    user: &'a str,
    /// Events in the session, this one included.
    length: u64,
}

/// `POST /api/v1/sessions/{user}/events`
///
/// # Errors
/// 400, 503 (certainly not appended), 504 (may have been appended).
pub async fn append(
    State(app): State<Arc<App>>,
    Path(user): Path<String>,
    JsonBody(event): JsonBody<NewEvent>,
) -> Result<Response, ApiError> {
    require(is_user(&user), "user", USER_RULE)?;
    require(is_op_id(&event.op_id), "op_id", OP_ID_RULE)?;
    let appended = app.kv()?.append_event(&user, &event.op_id).await;
    let length = appended.map_err(|fault| ApiError::of_kv_write(&fault))?;
    let body = Appended { op_id: &event.op_id, user: &user, length };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

#[derive(Deserialize)]
pub struct EventsQuery {
    offset: Option<usize>,
}

/// `GET /api/v1/sessions/{user}`
///
/// # Errors
/// 400, 503.
pub async fn get(
    State(app): State<Arc<App>>,
    Path(user): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    require(is_user(&user), "user", USER_RULE)?;
    let page = app.kv()?.events(&user, query.offset.unwrap_or(0)).await;
    Ok(Json(page.map_err(|fault| ApiError::of_kv_read(&fault))?).into_response())
}
