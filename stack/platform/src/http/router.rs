//! The routes of a role.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::app::App;
use super::body::BODY_LEN_MAX;
use super::error::ApiError;
use super::{auth, decisions, frontend, health, inference, layers, models, predictions, registry, sessions};
use crate::cli::Role;

pub fn router(role: Role, app: &Arc<App>) -> Router {
    let api = match role {
        Role::Backend => backend(),
        Role::Auth => auth(),
        Role::Model => model(),
        Role::Inference => inference(),
        Role::Decision => decision(),
        Role::Frontend => frontend(),
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

fn auth() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/users", post(auth::register))
        .route("/api/v1/login", post(auth::login))
        .route("/api/v1/whoami", get(auth::whoami))
        .route("/api/v1/logout", post(auth::logout))
}

fn model() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/registry/models", get(registry::models).post(registry::create))
        .route("/api/v1/registry/models/{id}", get(registry::get))
}

fn inference() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/infer", post(inference::submit))
        .route("/api/v1/infer/sync", post(inference::at_once))
        .route("/api/v1/infer/{op_id}", get(inference::result))
}

fn decision() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/decisions", post(decisions::create))
        .route("/api/v1/decisions/{op_id}", get(decisions::get))
}

fn frontend() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(frontend::page))
        .route("/assets/{name}", get(frontend::asset))
        .route("/api/frontend/config", get(frontend::config))
}
