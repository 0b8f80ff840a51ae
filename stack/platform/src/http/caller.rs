//! Who calls: the bearer token, checked with the auth service.
//!
//! A check counts for five seconds. While auth is away a token that it has confirmed within the last minute is still
//! taken (and counted as degraded): a user who is logged in is not thrown out because auth restarts. The price: a log-out
//! takes up to five seconds to be felt here, and up to a minute while auth is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use hyper::Method;

use super::app::{App, absent};
use super::error::ApiError;
use crate::cache::LocalCache;
use crate::deadline::Deadline;
use crate::http_client::{CallFault, Peer};
use crate::metrics::Metrics;
use crate::token::{TOKEN_LEN_MAX, now_s};

const FRESH_FOR: Duration = Duration::from_secs(5);
const USABLE_FOR: Duration = Duration::from_secs(60);
const TOKENS_MAX: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    user: String,
    expires_at: u64,
}

pub struct Callers {
    auth: Peer,
    known: LocalCache<String, Known>,
    metrics: Arc<Metrics>,
}

/// A user with a valid token. The header is passed on to the services that this one calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: String,
    pub authorization: String,
}

impl Callers {
    #[must_use]
    pub fn new(auth: Peer, metrics: Arc<Metrics>) -> Self {
        Self { auth, known: LocalCache::new(FRESH_FOR, TOKENS_MAX), metrics }
    }

    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.auth
    }

    async fn check(&self, token: &str, deadline: Deadline) -> Result<Caller, ApiError> {
        let key = token.to_owned();
        let valid = |known: &Known| known.expires_at > now_s();
        let authorization = format!("Bearer {token}");
        if let Some(known) = self.known.get(&key, Instant::now()).filter(valid) {
            return Ok(Caller { user: known.user, authorization });
        }
        match self.auth.call(Method::GET, "/api/v1/whoami", Some(&authorization), None, deadline).await {
            Ok(reply) if reply.status == 200 => {
                let body = reply.json();
                let (Some(user), Some(expires_at)) = (body["user"].as_str(), body["expires_at"].as_u64())
                else {
                    return Err(ApiError::Away("auth gave an answer that is none".into()));
                };
                let known = Known { user: user.to_owned(), expires_at };
                self.known.put(key, known, Instant::now());
                Ok(Caller { user: user.to_owned(), authorization })
            }
            Ok(reply) if reply.status == 401 => {
                self.known.remove(&key);
                Err(ApiError::Unauthorized)
            }
            Ok(reply) => Err(ApiError::Away(format!("auth answered with status {}", reply.status))),
            Err(fault) => self.remembered(&key, authorization, &fault),
        }
    }

    fn remembered(&self, key: &String, authorization: String, fault: &CallFault) -> Result<Caller, ApiError> {
        let known = self.known.get_within(key, Instant::now(), USABLE_FOR);
        match known.filter(|known| known.expires_at > now_s()) {
            Some(known) => {
                self.metrics.degraded.with_label_values(&["auth"]).inc();
                Ok(Caller { user: known.user, authorization })
            }
            None => Err(ApiError::Away(fault.to_string())),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
///
/// # Errors
/// 401 without one.
pub fn bearer(parts: &Parts) -> Result<&str, ApiError> {
    let text = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = text.and_then(|text| text.split_once(' ')).ok_or(ApiError::Unauthorized)?;
    let token = token.trim();
    let plausible = scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_LEN_MAX).contains(&token.len());
    plausible.then_some(token).ok_or(ApiError::Unauthorized)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let callers = app.callers.as_ref().ok_or_else(|| absent("callers"))?;
        callers.check(bearer(parts)?, app.deadline()).await
    }
}

/// The token itself, for the auth service.
pub struct Bearer(pub String);

impl FromRequestParts<Arc<App>> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        bearer(parts).map(|token| Self(token.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::config::Endpoint;

    fn parts(value: &str) -> Parts {
        Request::builder().header(AUTHORIZATION, value).body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        assert_eq!(bearer(&parts("Bearer a.b")), Ok("a.b"));
        assert_eq!(bearer(&parts("bearer a.b ")), Ok("a.b"));
        let long = format!("Bearer {}", "x".repeat(TOKEN_LEN_MAX + 1));
        for bad in ["", "Bearer", "Bearer ", "Basic a.b", &long] {
            assert_eq!(bearer(&parts(bad)), Err(ApiError::Unauthorized), "{bad}");
        }
    }

    #[tokio::test]
    async fn without_auth_a_known_user_stays_and_a_stranger_is_told_to_come_back() {
        let metrics = Arc::new(Metrics::new("decision").unwrap());
        let nowhere = Endpoint { authority: "127.0.0.1:1".into(), path: String::new() };
        let auth = Peer::new("auth", nowhere, Duration::from_millis(200), Arc::clone(&metrics));
        let callers = Callers::new(auth, metrics);
        let Some(earlier) = Instant::now().checked_sub(FRESH_FOR) else { return };
        let known = |expires_at| Known { user: "alice".into(), expires_at };
        callers.known.put("good".into(), known(now_s() + 60), earlier);
        callers.known.put("over".into(), known(1), earlier);
        let deadline = Deadline::after(Duration::from_secs(2));
        assert_eq!(callers.check("good", deadline).await.map(|c| c.user), Ok("alice".into()));
        assert_eq!(callers.metrics.degraded.with_label_values(&["auth"]).get(), 1);
        for token in ["over", "never seen"] {
            assert!(matches!(callers.check(token, deadline).await, Err(ApiError::Away(_))), "{token}");
        }
    }
}
