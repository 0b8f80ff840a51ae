//! Password hashes: argon2id with 7 MiB, 5 passes, 1 lane, the smallest setting that OWASP recommends.
//!
//! A hash costs tens of milliseconds of CPU and 7 MiB. So they run off the event loop, two at a time; who cannot wait for a turn
//! within the request's deadline is refused. A hash whose caller has gone runs on, and keeps its turn until it ends: otherwise
//! impatient callers on a busy machine would pile up hashes until the container is killed for its memory.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::deadline::Deadline;

const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;
const LANES: u32 = 1;
const AT_ONCE: usize = 2;

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PasswordFault {
    #[error("no turn to hash a password before the deadline")]
    Busy,
    #[error("failed to hash a password: {0}")]
    Failed(String),
}

#[derive(Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// Compared with when there is no such user, so that the time of an answer does not tell.
    nobody: String,
}

impl Passwords {
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> Result<Self, PasswordFault> {
        Ok(Self { turns: Arc::new(Semaphore::new(AT_ONCE)), nobody: hash("nobody")? })
    }

    /// # Errors
    /// [`PasswordFault`].
    pub async fn hash(&self, password: String, deadline: Deadline) -> Result<String, PasswordFault> {
        self.in_turn(deadline, move || hash(&password)).await
    }

    /// Whether the password is the one; with no hash to compare with it is not, and that takes as long.
    ///
    /// # Errors
    /// [`PasswordFault`].
    pub async fn is(
        &self,
        password: String,
        stored: Option<String>,
        deadline: Deadline,
    ) -> Result<bool, PasswordFault> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        self.in_turn(deadline, move || {
            let stored = PasswordHash::new(&stored).map_err(|e| PasswordFault::Failed(e.to_string()))?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &stored).is_ok() && known)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T, PasswordFault> + Send + 'static,
    ) -> Result<T, PasswordFault> {
        let Ok(Ok(turn)) = timeout(deadline.left(), Arc::clone(&self.turns).acquire_owned()).await else {
            return Err(PasswordFault::Busy);
        };
        let work = move || {
            let _turn = turn;
            work()
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(PasswordFault::Failed(error.to_string())),
        }
    }
}

fn hash(password: &str) -> Result<String, PasswordFault> {
    let failed = |reason: String| PasswordFault::Failed(reason);
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| failed(e.to_string()))?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = hasher.hash_password(password.as_bytes()).map_err(|e| failed(e.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_the_password_of_a_known_user_is_the_one() {
        let passwords = Passwords::new().unwrap();
        let deadline = Deadline::after(Duration::from_secs(30));
        let stored = passwords.hash("correct horse".into(), deadline).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{stored}");
        let is = |password: &str, stored: Option<&str>| {
            passwords.is(password.to_owned(), stored.map(str::to_owned), deadline)
        };
        assert_eq!(is("correct horse", Some(&stored)).await, Ok(true));
        assert_eq!(is("battery staple", Some(&stored)).await, Ok(false));
        assert_eq!(is("nobody", None).await, Ok(false), "the stand-in lets nobody in");
        assert!(is("x", Some("not a hash")).await.is_err());
    }

    #[tokio::test]
    async fn a_hash_whose_caller_has_gone_keeps_its_turn_until_it_ends() {
        let passwords = Passwords::new().unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let hashing = passwords.in_turn(Deadline::after(Duration::from_secs(30)), move || {
            let _ = ended.recv();
            Ok(())
        });
        assert!(timeout(Duration::from_millis(50), hashing).await.is_err(), "the caller goes");
        assert_eq!(passwords.turns.available_permits(), AT_ONCE - 1);
        drop(end);
        let all = u32::try_from(AT_ONCE).unwrap();
        let turns = timeout(Duration::from_secs(30), passwords.turns.acquire_many(all)).await;
        assert!(turns.is_ok_and(|turns| turns.is_ok()), "the turn comes back");
    }

    #[tokio::test]
    async fn who_cannot_wait_is_refused() {
        let passwords = Passwords::new().unwrap();
        let _all = passwords.turns.acquire_many(2).await.unwrap();
        let answer = passwords.is("x".into(), None, Deadline::after(Duration::from_millis(10))).await;
        assert_eq!(answer, Err(PasswordFault::Busy));
    }
}
