//! The sessions behind tokens, in Redis. Redis is told to evict when it is full: then users have to log in again early.

use std::time::Duration;

use super::kv::Kv;
use super::kv_fault::KvFault;

impl Kv {
    /// # Errors
    /// Only [`KvFault::Unknown`] leaves it open whether the session was stored.
    pub async fn open_session(&self, session: &str, user: &str, ttl: Duration) -> Result<(), KvFault> {
        let key = key(session);
        let seconds = ttl.as_secs().max(1);
        self.run(&key, redis::cmd("SET").arg(&key).arg(user).arg("EX").arg(seconds)).await
    }

    /// The session's user, while it lasts.
    ///
    /// # Errors
    /// When Redis did not answer.
    pub async fn session_user(&self, session: &str) -> Result<Option<String>, KvFault> {
        let key = key(session);
        self.run(&key, redis::cmd("GET").arg(&key)).await
    }

    /// Whether there was one.
    ///
    /// # Errors
    /// Only [`KvFault::Unknown`] leaves it open whether the session was ended.
    pub async fn end_session(&self, session: &str) -> Result<bool, KvFault> {
        let key = key(session);
        let removed: u64 = self.run(&key, redis::cmd("DEL").arg(&key)).await?;
        Ok(removed > 0)
    }
}

fn key(session: &str) -> String {
    format!("auth:{session}")
}
