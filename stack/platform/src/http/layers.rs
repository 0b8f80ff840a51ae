//! Middleware: trace context, metrics, logs, and the limit on requests in flight.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::app::App;
use super::error::{ApiError, IndeterminateOn, Reason};
use crate::span::{self, Started};
use crate::trace::TraceContext;
use crate::validate::is_op_id;

const TRACEPARENT: HeaderName = HeaderName::from_static(crate::trace::TRACEPARENT);
const X_OPERATION_ID: HeaderName = HeaderName::from_static("x-operation-id");

/// Around every route.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let began = Started::now();
    let headers = request.headers();
    let trace =
        TraceContext::continue_or_start(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    let operation = text(request.headers(), &X_OPERATION_ID).filter(|id| is_op_id(id)).map(str::to_owned);
    // The pattern, not the path: the number of label values stays bounded.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let span = tracing::info_span!(
        "request",
        trace_id = trace.trace_id,
        span_id = trace.span_id,
        operation_id = operation,
        method,
        route
    );

    let work = next.run(request).instrument(span.clone());
    let mut response = span::enter(&app.tracer, trace.clone(), work).await;

    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(value) = operation.and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert(X_OPERATION_ID, value);
    }
    let duration = started.elapsed();
    app.metrics.record_request(&route, method, response.status().as_u16(), duration.as_secs_f64());
    // Probes and scrapes are nobody's journey.
    if !matches!(route.as_str(), "/livez" | "/readyz" | "/metrics") {
        let name = format!("{} {route}", method.to_ascii_lowercase());
        span::served(&app.tracer, &trace, &name, &began, response.status().as_u16());
    }
    if let Some(IndeterminateOn(dependency)) = response.extensions().get() {
        app.metrics.indeterminate.with_label_values(&[dependency]).inc();
    }
    span.in_scope(|| log(&response, duration.as_secs_f64() * 1_000.0));
    response
}

fn log(response: &Response, duration_ms: f64) {
    let code = response.status().as_u16();
    let reason = response.extensions().get::<Reason>().map_or("", |reason| reason.0.as_str());
    if response.status().is_server_error() && !reason.is_empty() {
        tracing::warn!(code, duration_ms, reason, "request failed");
    } else {
        tracing::debug!(code, duration_ms, reason, "request");
    }
}

/// Around the API, not around health and metrics: those must answer when it is full.
pub async fn shed(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.in_flight.try_acquire() else {
        app.metrics.shed.inc();
        return ApiError::Overloaded.into_response();
    };
    let _counted = InFlight::enter(&app);
    next.run(request).await
}

/// Counts a request also out when its client goes away and the handler is dropped.
struct InFlight<'a>(&'a App);

impl<'a> InFlight<'a> {
    fn enter(app: &'a App) -> Self {
        app.metrics.in_flight.inc();
        Self(app)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
