//! The model registry. Its models are the backend's, too: one table, one numbering.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::body::{JsonBody, Path, Query};
use super::error::ApiError;
use super::models::{CatalogQuery, NewModel, found, list, status_of};
use crate::store::models::Announce;

/// `POST /api/v1/registry/models`: the model and its event, in one transaction.
///
/// # Errors
/// 400, 503, 504.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<NewModel>,
) -> Result<Response, ApiError> {
    new.check()?;
    if app.relay.as_ref().is_some_and(|relay| relay.is_full()) {
        return Err(ApiError::Away("too many events wait for kafka".into()));
    }
    let (op_id, name, framework) = (&new.op_id, &new.name, &new.framework);
    let created =
        app.database()?.create_model_with(op_id, name, framework, Announce::Yes, app.deadline()).await;
    if let Some(relay) = &app.relay {
        relay.wake();
    }
    let (model, effect) = created?;
    Ok((status_of(effect), Json(model)).into_response())
}

/// `GET /api/v1/registry/models/{id}`: in-process cache, replica, primary.
///
/// # Errors
/// 400, 404, 503.
pub async fn get(State(app): State<Arc<App>>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    if let Some(model) = app.local_model(id) {
        return Ok(found(&app, "local", &model, false));
    }
    let model = app.database()?.model(id, app.deadline()).await?;
    let (model, source) = model.ok_or(ApiError::NotFound("model"))?;
    app.keep_local(&model);
    Ok(found(&app, source.label(), &model, false))
}

/// `GET /api/v1/registry/models?limit=n`: the latest.
///
/// # Errors
/// 400, 503.
pub async fn models(
    State(app): State<Arc<App>>,
    Query(query): Query<CatalogQuery>,
) -> Result<Response, ApiError> {
    list(&app, &query).await
}
