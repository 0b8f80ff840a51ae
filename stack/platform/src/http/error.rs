//! Errors as responses.
//!
//! | status | meaning | `retryable` |
//! |---|---|---|
//! | 400, 401, 404, 408, 409, 413 | the request's own fault | no (408: yes) |
//! | 500 | a bug or a schema that does not fit; nothing was done | no |
//! | 503 | a dependency is away, or too many requests; **certainly nothing was done** | yes |
//! | 504 | a write whose outcome is **unknown** (`"indeterminate": true`) | yes, with the same `op_id` |

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;

use crate::store::fault::DbFault;
use crate::store::kv_fault::KvFault;

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ApiError {
    #[error("{0}")]
    Invalid(String),
    /// No valid token, or the wrong password.
    #[error("not logged in")]
    Unauthorized,
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error("{0}")]
    Conflict(&'static str),
    #[error("request body did not arrive in time")]
    BodyLate,
    #[error("request body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// Certainly nothing was done.
    #[error("{0}")]
    Away(String),
    #[error("too many requests in flight")]
    Overloaded,
    /// A write that may or may not have happened.
    #[error("{reason}")]
    Indeterminate { dependency: &'static str, reason: String },
    #[error("{0}")]
    Internal(String),
}

/// Left in the response for the log line.
#[derive(Debug, Clone)]
pub struct Reason(pub String);

/// Left in the response for the counter of unknown outcomes.
#[derive(Debug, Clone, Copy)]
pub struct IndeterminateOn(pub &'static str);

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    indeterminate: bool,
}

impl ApiError {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Away(_) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Indeterminate { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BodyLate | Self::Away(_) | Self::Overloaded | Self::Indeterminate { .. } => true,
            Self::Invalid(_)
            | Self::Unauthorized
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::BodyTooLarge(_)
            | Self::Internal(_) => false,
        }
    }

    /// A failed Redis read: it has no outcome that could be unknown.
    #[must_use]
    pub fn of_kv_read(fault: &KvFault) -> Self {
        Self::Away(fault.to_string())
    }

    /// A failed Redis write.
    #[must_use]
    pub fn of_kv_write(fault: &KvFault) -> Self {
        match fault {
            KvFault::NotSent(_) | KvFault::Refused(_) => Self::Away(fault.to_string()),
            KvFault::Unknown(_) => Self::Indeterminate { dependency: "redis", reason: fault.to_string() },
        }
    }
}

impl From<DbFault> for ApiError {
    fn from(fault: DbFault) -> Self {
        let reason = fault.to_string();
        match fault {
            // Without its schema the database is being set up or restored.
            DbFault::Away(_) | DbFault::ReadOnly(_) | DbFault::NoSchema(_) => Self::Away(reason),
            // The only foreign keys are those to a model.
            DbFault::NoReference => Self::NotFound("model"),
            DbFault::BadValue(_) => Self::Invalid(reason),
            DbFault::Refused(_) => Self::Internal(reason),
            DbFault::CommitUnknown(_) => Self::Indeterminate { dependency: "database", reason },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let text = self.to_string();
        let indeterminate = matches!(self, Self::Indeterminate { .. });
        let body = ErrorBody { error: &text, retryable: self.is_retryable(), indeterminate };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Indeterminate { dependency, .. } = self {
            response.extensions_mut().insert(IndeterminateOn(dependency));
        }
        response.extensions_mut().insert(Reason(text));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::{DriverError, ServerError, at_commit, before_commit};

    fn server(sqlstate: &str) -> DriverError {
        DriverError::Server(ServerError {
            sqlstate: sqlstate.into(),
            is_plain_error: true,
            message: "m".into(),
        })
    }

    #[test]
    fn database_faults_become_statuses() {
        for (fault, status) in [
            (before_commit(&server("25006")), 503),
            (before_commit(&server("23503")), 404),
            (before_commit(&server("22P05")), 400),
            (before_commit(&server("57014")), 503),
            (before_commit(&server("42P01")), 503),
            (before_commit(&server("42703")), 500),
            (before_commit(&DriverError::Connection("closed".into())), 503),
            (at_commit(&server("40001")), 503),
            (at_commit(&server("08P01")), 504),
            (at_commit(&DriverError::Connection("no answer within 3000 ms".into())), 504),
        ] {
            assert_eq!(ApiError::from(fault.clone()).status(), status, "{fault}");
        }
    }

    #[test]
    fn only_an_unknown_redis_write_is_indeterminate() {
        let faults =
            [KvFault::NotSent("x".into()), KvFault::Refused("x".into()), KvFault::Unknown("x".into())];
        let status = |f: fn(&KvFault) -> ApiError| faults.each_ref().map(|fault| f(fault).status().as_u16());
        assert_eq!(status(ApiError::of_kv_read), [503, 503, 503]);
        assert_eq!(status(ApiError::of_kv_write), [503, 503, 504]);
    }

    #[test]
    fn a_503_says_when_to_come_back_and_a_504_that_nobody_knows() {
        let away = ApiError::Away("x".into()).into_response();
        assert_eq!(away.headers().get(RETRY_AFTER).unwrap(), "1");
        let unknown = ApiError::Indeterminate { dependency: "database", reason: "x".into() };
        assert!(unknown.is_retryable());
        assert!(unknown.into_response().extensions().get::<IndeterminateOn>().is_some());
    }
}
