//! Predictions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::app::App;
use super::body::{JsonBody, OP_ID_RULE, Path, require};
use super::error::ApiError;
use super::models::{X_CACHE, status_of};
use crate::store::predictions::infer;
use crate::validate::is_op_id;

#[derive(Deserialize)]
pub struct NewPrediction {
    op_id: String,
    model_id: i64,
    input: Value,
}

/// `POST /api/v1/predictions`
///
/// # Errors
/// 400, 404 (model), 503, 504.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<NewPrediction>,
) -> Result<Response, ApiError> {
    require(is_op_id(&new.op_id), "op_id", OP_ID_RULE)?;
    let output = infer(new.model_id, &new.input);
    let (prediction, effect) = app
        .database()?
        .create_prediction(&new.op_id, new.model_id, &new.input, &output, app.deadline())
        .await?;
    Ok((status_of(effect), Json(prediction)).into_response())
}

/// `GET /api/v1/predictions/{op_id}`
///
/// # Errors
/// 400, 404, 503.
pub async fn get(State(app): State<Arc<App>>, Path(op_id): Path<String>) -> Result<Response, ApiError> {
    require(is_op_id(&op_id), "op_id", OP_ID_RULE)?;
    let found = app.database()?.prediction(&op_id, app.deadline()).await?;
    let (prediction, source) = found.ok_or(ApiError::NotFound("prediction"))?;
    Ok(([(X_CACHE, HeaderValue::from_static(source.label()))], Json(prediction)).into_response())
}
