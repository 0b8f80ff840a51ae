//! Request bodies and parameters, with our own errors.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;

pub const BODY_LEN_MAX: usize = 64 * 1024;
/// A client that sends slower than this holds a place that others need.
const BODY_MAX: Duration = Duration::from_secs(5);

/// A JSON body, whatever its content type says.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = match timeout(BODY_MAX, Bytes::from_request(request, state)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(ApiError::BodyTooLarge(BODY_LEN_MAX));
            }
            Ok(Err(rejection)) => return Err(ApiError::Invalid(rejection.body_text())),
            Err(_) => return Err(ApiError::BodyLate),
        };
        serde_json::from_slice(&bytes)
            .map(JsonBody)
            .map_err(|error| ApiError::Invalid(format!("body is not what this route takes: {error}")))
    }
}

/// Path parameters.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::Invalid(rejection.body_text())),
        }
    }
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::Invalid(rejection.body_text())),
        }
    }
}

/// `Ok` if `valid`, else a 400 that names the field.
///
/// # Errors
/// [`ApiError::Invalid`].
pub fn require(valid: bool, field: &str, rule: &str) -> Result<(), ApiError> {
    match valid {
        true => Ok(()),
        false => Err(ApiError::Invalid(format!("{field} must be {rule}"))),
    }
}

pub const OP_ID_RULE: &str = "1 to 64 characters of [A-Za-z0-9._:-]";
pub const USER_RULE: &str = "1 to 64 characters of [A-Za-z0-9_-]";
pub const PASSWORD_RULE: &str = "8 to 200 bytes";
pub const TEXT_RULE: &str = "1 to 200 bytes without NUL";
