//! Waits with a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::ClusterError;

const TICK: Duration = Duration::from_millis(250);

/// Calls `look` until it gives a value or the deadline passes. Errors of single looks are told only when
/// the deadline passes: an API that is away for a moment is what we are here for.
///
/// # Errors
/// At the deadline, with the last thing that `look` said.
pub async fn poll_until<T, F, Fut>(what: &str, deadline: Duration, mut look: F) -> Result<T, ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Result<T, String>, ClusterError>>,
{
    let end = Instant::now() + deadline;
    let mut why = String::from("never looked");
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(not_yet))) => why = not_yet,
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => {}
        }
        if Instant::now() + TICK >= end {
            let what = format!("await {what}");
            return Err(ClusterError::state(what, format!("not within {} s: {why}", deadline.as_secs())));
        }
        tokio::time::sleep(TICK).await;
    }
}
