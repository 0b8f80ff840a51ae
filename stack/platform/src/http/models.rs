//! Models and the catalog.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::body::{JsonBody, OP_ID_RULE, Path, Query, TEXT_RULE, require};
use super::error::ApiError;
use crate::store::models::{CatalogLine, Effect, Model};
use crate::validate::{is_op_id, is_text};

const CATALOG_LIMIT_DEFAULT: i64 = 20;
const CATALOG_LIMIT_MAX: i64 = 100;

pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const X_DEGRADED: HeaderName = HeaderName::from_static("x-degraded");

#[derive(Deserialize)]
pub struct NewModel {
    pub(super) op_id: String,
    pub(super) name: String,
    pub(super) framework: String,
}

impl NewModel {
    /// # Errors
    /// 400, with the field that breaks its rule.
    pub fn check(&self) -> Result<(), ApiError> {
        require(is_op_id(&self.op_id), "op_id", OP_ID_RULE)?;
        require(is_text(&self.name), "name", TEXT_RULE)?;
        require(is_text(&self.framework), "framework", TEXT_RULE)
    }
}

#[derive(Serialize)]
struct CreatedModel {
    id: i64,
    op_id: String,
    name: String,
}

/// `POST /api/v1/models`
///
/// # Errors
/// 400, 503, 504.
pub async fn create(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<NewModel>,
) -> Result<Response, ApiError> {
    new.check()?;
    let (model, effect) =
        app.database()?.create_model(&new.op_id, &new.name, &new.framework, app.deadline()).await?;
    let body = CreatedModel { id: model.id, op_id: model.op_id, name: model.name };
    Ok((status_of(effect), Json(body)).into_response())
}

#[must_use]
pub fn status_of(effect: Effect) -> StatusCode {
    match effect {
        Effect::Created => StatusCode::CREATED,
        Effect::AlreadyThere => StatusCode::OK,
    }
}

/// `GET /api/v1/models/{id}`: in-process cache, Redis, replica, primary. Redis can make it slower, never fail it.
///
/// # Errors
/// 400, 404, 503.
pub async fn get(State(app): State<Arc<App>>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    if let Some(model) = app.local_model(id) {
        return Ok(found(&app, "local", &model, false));
    }
    let (cached, degraded) = match &app.kv {
        None => (None, false),
        Some(kv) => match kv.cached_model(id).await {
            Ok(cached) => (cached, false),
            Err(fault) => {
                tracing::debug!(%fault, "redis did not answer, asking the database");
                app.metrics.degraded.with_label_values(&["redis"]).inc();
                (None, true)
            }
        },
    };
    if let Some(model) = cached {
        app.keep_local(&model);
        return Ok(found(&app, "redis", &model, false));
    }
    let Some((model, source)) = app.database()?.model(id, app.deadline()).await? else {
        let mut response = ApiError::NotFound("model").into_response();
        mark_degraded(&mut response, degraded);
        return Ok(response);
    };
    app.keep_local(&model);
    // Not when Redis has just failed: the client should not wait for it twice.
    if let Some(kv) = app.kv.as_ref().filter(|_| !degraded)
        && let Err(fault) = kv.cache_model(&model).await
    {
        tracing::debug!(%fault, "model was not cached");
    }
    Ok(found(&app, source.label(), &model, degraded))
}

pub(super) fn found(app: &App, level: &'static str, model: &Model, degraded: bool) -> Response {
    app.metrics.cache_hits.with_label_values(&[level]).inc();
    let mut response = ([(X_CACHE, HeaderValue::from_static(level))], Json(model)).into_response();
    mark_degraded(&mut response, degraded);
    response
}

fn mark_degraded(response: &mut Response, degraded: bool) {
    if degraded {
        response.headers_mut().insert(X_DEGRADED, HeaderValue::from_static("redis"));
    }
}

#[derive(Deserialize)]
pub struct CatalogQuery {
    limit: Option<i64>,
}

#[derive(Serialize)]
struct Catalog {
    models: Vec<CatalogLine>,
}

/// `GET /api/v1/catalog?limit=n`
///
/// # Errors
/// 400, 503.
pub async fn catalog(
    State(app): State<Arc<App>>,
    Query(query): Query<CatalogQuery>,
) -> Result<Response, ApiError> {
    list(&app, &query).await
}

/// The latest models.
pub(super) async fn list(app: &App, query: &CatalogQuery) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(CATALOG_LIMIT_DEFAULT).clamp(1, CATALOG_LIMIT_MAX);
    let (models, source) = app.database()?.catalog(limit, app.deadline()).await?;
    let source = HeaderValue::from_static(source.label());
    Ok(([(X_CACHE, source)], Json(Catalog { models })).into_response())
}
