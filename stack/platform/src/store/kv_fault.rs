//! What a failed Redis command means: can it have been executed?

use redis::RedisError;
use thiserror::Error;

/// A Redis command that failed, and what that says about its effects.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KvFault {
    /// It was never sent: not configured, not connected, or the circuit is open.
    #[error("redis command was not sent: {0}")]
    NotSent(String),
    /// The server answered that it did not execute it.
    #[error("redis refused the command: {0}")]
    Refused(String),
    /// It may have been executed: no answer in time, or the connection broke.
    #[error("redis did not answer: {0}")]
    Unknown(String),
}

impl KvFault {
    /// The `kind` label on metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Refused(_) => "refused",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What to do about an error of the client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Certainly not executed, and worth another try: the slot has moved or is about to.
    TryAgain,
    /// Certainly not executed, and another try would not help now.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Judges an error by the server's code (`None`: not a server's error).
///
/// The list is closed, and shorter than the codes that Redis never executes a command on. The cluster client
/// hands the error of a failed topology refresh (PING, CLUSTER SLOTS, a new connection) to *every* command in
/// flight, also to one that was sent and executed. So a code counts as proof only if those commands cannot
/// cause it: not LOADING, MASTERDOWN, MISCONF, NOAUTH, NOPERM or ERR, and no I/O error at all, not even
/// "connection refused".
#[must_use]
pub fn react(code: Option<&str>) -> Reaction {
    match code {
        Some("MOVED" | "READONLY" | "TRYAGAIN") => Reaction::TryAgain,
        Some("ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "NOREPLICAS" | "OOM" | "WRONGTYPE") => Reaction::Refused,
        _ => Reaction::Unknown,
    }
}

/// The server's code of an error, if a server sent it.
#[must_use]
pub fn server_code(error: &RedisError) -> Option<&str> {
    match error.kind() {
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => error.code(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_command_itself_are_proof() {
        for (code, reaction) in [
            (Some("MOVED"), Reaction::TryAgain),
            (Some("READONLY"), Reaction::TryAgain),
            (Some("CLUSTERDOWN"), Reaction::Refused),
            (Some("OOM"), Reaction::Refused),
            (Some("LOADING"), Reaction::Unknown),
            (Some("MASTERDOWN"), Reaction::Unknown),
            (Some("ERR"), Reaction::Unknown),
            (None, Reaction::Unknown),
        ] {
            assert_eq!(react(code), reaction, "{code:?}");
        }
    }

    #[test]
    fn codes_are_read_from_the_library_s_errors() {
        let oom = redis::make_extension_error("OOM".into(), None);
        assert_eq!(server_code(&oom), Some("OOM"));
        let moved = RedisError::from((redis::ServerErrorKind::Moved.into(), "slot moved"));
        assert_eq!(react(server_code(&moved)), Reaction::TryAgain);
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(server_code(&refused), None);
        let lost = RedisError::from((redis::ErrorKind::ClusterConnectionNotFound, "no connections"));
        assert_eq!(react(server_code(&lost)), Reaction::Unknown);
    }
}
