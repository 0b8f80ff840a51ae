//! `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use super::app::App;

const READY_CHECK_MAX: Duration = Duration::from_secs(1);
const READY_CACHED_FOR: Duration = Duration::from_secs(1);

/// The last answer of the readiness check. The lock is held over a check, so that probes share one.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, Result<(), String>)>>);

impl Readiness {
    async fn check(&self, app: &App) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < READY_CACHED_FOR
        {
            return result.clone();
        }
        let result = match &app.database {
            Some(database) => database.check_ready(READY_CHECK_MAX).await.map_err(|fault| fault.to_string()),
            None => Ok(()),
        };
        if let Err(reason) = &result {
            tracing::warn!(reason, "not ready");
        }
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

/// Answers while the event loop turns. Knows nothing about dependencies: a restart would not mend those.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Ready: not shutting down; and for a role with a database, the schema is there, and the primary or a replica
/// answers. Nothing else matters: what is away is told request by request.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(serde_json::json!({"ready": false, "reason": "draining"})),
        )
            .into_response();
    }
    match app.readiness.check(&app).await {
        Ok(()) => Json(serde_json::json!({"ready": true})).into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"ready": false, "reason": reason})))
                .into_response()
        }
    }
}

pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.observe();
    match app.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
