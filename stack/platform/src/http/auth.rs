//! Users and tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::app::{App, absent};
use super::body::{JsonBody, OP_ID_RULE, PASSWORD_RULE, USER_RULE, require};
use super::caller::Bearer;
use super::error::ApiError;
use super::models::status_of;
use crate::password::{PasswordFault, Passwords};
use crate::store::users::Registered;
use crate::token::{self, Claims};
use crate::validate::{is_op_id, is_password, is_user};

#[derive(Deserialize)]
pub struct NewUser {
    op_id: String,
    user: String,
    password: String,
}

/// `POST /api/v1/users`
///
/// # Errors
/// 400, 409 (the name is taken), 503, 504.
pub async fn register(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<Response, ApiError> {
    require(is_op_id(&new.op_id), "op_id", OP_ID_RULE)?;
    require(is_user(&new.user), "user", USER_RULE)?;
    require(is_password(&new.password), "password", PASSWORD_RULE)?;
    let deadline = app.deadline();
    let hash = passwords(&app)?.hash(new.password, deadline).await?;
    match app.database()?.register_user(&new.op_id, &new.user, &hash, deadline).await? {
        Registered::Done(user, effect) => Ok((status_of(effect), Json(user)).into_response()),
        Registered::Taken => Err(ApiError::Conflict("user name is taken")),
    }
}

#[derive(Deserialize)]
pub struct Login {
    user: String,
    password: String,
}

/// `POST /api/v1/login`
///
/// # Errors
/// 400, 401, 503, 504 (a session that nobody holds a token of may have been stored).
pub async fn login(
    State(app): State<Arc<App>>,
    JsonBody(login): JsonBody<Login>,
) -> Result<Response, ApiError> {
    require(is_user(&login.user), "user", USER_RULE)?;
    require(is_password(&login.password), "password", PASSWORD_RULE)?;
    let (deadline, ttl) = (app.deadline(), app.settings.token_ttl);
    let stored = app.database()?.password_hash(&login.user, deadline).await?;
    let logins = |result: &str| app.metrics.links.logins.with_label_values(&[result]).inc();
    if !passwords(&app)?.is(login.password, stored, deadline).await? {
        logins("refused");
        return Err(ApiError::Unauthorized);
    }
    let claims = token::issue(&login.user, ttl)
        .ok_or_else(|| ApiError::Internal("the system gives no random bytes".into()))?;
    let opened = app.kv()?.open_session(&claims.session, &claims.user, ttl).await;
    opened.map_err(|fault| ApiError::of_kv_write(&fault))?;
    logins("accepted");
    let token = token::sign(&claims, key(&app)?);
    Ok(Json(json!({ "token": token, "expires_at": claims.expires_at })).into_response())
}

/// `GET /api/v1/whoami`
///
/// # Errors
/// 401, 503.
pub async fn whoami(State(app): State<Arc<App>>, Bearer(token): Bearer) -> Result<Response, ApiError> {
    let claims = claims(&app, &token)?;
    let user = app.kv()?.session_user(&claims.session).await;
    match user.map_err(|fault| ApiError::of_kv_read(&fault))? {
        Some(user) if user == claims.user => {
            Ok(Json(json!({ "user": user, "expires_at": claims.expires_at })).into_response())
        }
        _ => Err(ApiError::Unauthorized),
    }
}

/// `POST /api/v1/logout`: idempotent.
///
/// # Errors
/// 401, 503, 504.
pub async fn logout(State(app): State<Arc<App>>, Bearer(token): Bearer) -> Result<Response, ApiError> {
    let claims = claims(&app, &token)?;
    let ended = app.kv()?.end_session(&claims.session).await;
    let ended = ended.map_err(|fault| ApiError::of_kv_write(&fault))?;
    Ok(Json(json!({ "ended": ended })).into_response())
}

/// A forged or expired token costs no read of Redis.
fn claims(app: &App, token: &str) -> Result<Claims, ApiError> {
    token::verify(token, key(app)?, token::now_s()).ok_or(ApiError::Unauthorized)
}

fn key(app: &App) -> Result<&[u8], ApiError> {
    app.settings.token_key.as_deref().ok_or_else(|| absent("token key"))
}

fn passwords(app: &App) -> Result<&Passwords, ApiError> {
    app.passwords.as_ref().ok_or_else(|| absent("password hashing"))
}

impl From<PasswordFault> for ApiError {
    fn from(fault: PasswordFault) -> Self {
        match fault {
            PasswordFault::Busy => Self::Overloaded,
            PasswordFault::Failed(reason) => Self::Internal(reason),
        }
    }
}
