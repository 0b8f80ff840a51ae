//! The routes of a role.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::app::App;
use super::body::BODY_LEN_MAX;
use super::error::ApiError;
use super::{health, layers, models, predictions, sessions};
use crate::cli::Role;

pub fn router(role: Role, app: &Arc<App>) -> Router {
    let api = match role {
        Role::Backend => backend(),
    };
    let api = api
        .layer(from_fn_with_state(Arc::clone(app), layers::shed))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .merge(api)
        .fallback(|| async { ApiError::NotFound("route") })
        .layer(from_fn_with_state(Arc::clone(app), layers::observe))
        .with_state(Arc::clone(app))
}

fn backend() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/models", post(models::create))
        .route("/api/v1/models/{id}", get(models::get))
        .route("/api/v1/catalog", get(models::catalog))
        .route("/api/v1/predictions", post(predictions::create))
        .route("/api/v1/predictions/{op_id}", get(predictions::get))
        .route("/api/v1/sessions/{user}", get(sessions::get))
        .route("/api/v1/sessions/{user}/events", post(sessions::append))
}
