//! From the client's error, or from the answer, to a class and an outcome.

use std::error::Error as StdError;
use std::io;

use nix::errno::Errno;

use crate::model::{ErrorClass, OperationOutcome};

/// What a request came to, before it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub outcome: OperationOutcome,
    pub error: Option<ErrorClass>,
}

impl Judged {
    pub const OK: Self = Self { outcome: OperationOutcome::Ok, error: None };

    /// It certainly did not happen.
    #[must_use]
    pub fn failed(class: ErrorClass) -> Self {
        Self { outcome: OperationOutcome::Failed, error: Some(class) }
    }

    /// A write may have happened. A read has nothing to be unsure of: its user saw an error.
    #[must_use]
    pub fn unsure(class: ErrorClass, write: bool) -> Self {
        let outcome = if write { OperationOutcome::Indeterminate } else { OperationOutcome::Failed };
        Self { outcome, error: Some(class) }
    }
}

/// Judges a request that had no complete answer.
#[must_use]
pub fn judge_error(error: &reqwest::Error, write: bool) -> Judged {
    let class = class_of(error);
    let never_sent = error.is_connect() || error.is_builder() || class == ErrorClass::Dns;
    if never_sent || class.is_generators_own() { Judged::failed(class) } else { Judged::unsure(class, write) }
}

/// Judges a refused answer by its status and body; `accepted` answers are judged elsewhere.
#[must_use]
pub fn judge_status(status: u16, body: &[u8], write: bool) -> Judged {
    match status {
        400..=499 => Judged::failed(ErrorClass::ClientStatus),
        503 if says_retryable(body) => Judged::failed(ErrorClass::ServerStatus),
        500.. => Judged::unsure(ErrorClass::ServerStatus, write),
        // Not what the scenario accepts, but no refusal either.
        _ => Judged::unsure(ErrorClass::Assertion, write),
    }
}

/// Whether the service itself says that nothing was committed. A 503 of a proxy does not.
fn says_retryable(body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    let flag = |name: &str| answer.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
    flag("retryable") && !flag("indeterminate")
}

/// Walks the chain of causes for the one that says most.
fn class_of(error: &reqwest::Error) -> ErrorClass {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    // Chains are short; the bound is only so that a circle cannot hang a lane.
    for _ in 0..16 {
        let Some(this) = cause else { break };
        if let Some(io) = this.downcast_ref::<io::Error>() {
            if let Some(class) = class_of_io(io, error.is_connect()) {
                return class;
            }
            // `source` of a wrapping I/O error skips what it wraps.
            cause = io.get_ref().map(|inner| inner as &(dyn StdError + 'static)).or_else(|| this.source());
            continue;
        }
        if let Some(hyper) = this.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed())
        {
            return ErrorClass::UnexpectedEof;
        }
        cause = this.source();
    }
    if error.is_dns() {
        ErrorClass::Dns
    } else if error.is_timeout() {
        if error.is_connect() { ErrorClass::ConnectTimeout } else { ErrorClass::Timeout }
    } else {
        ErrorClass::Other
    }
}

fn class_of_io(error: &io::Error, connecting: bool) -> Option<ErrorClass> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => return Some(ErrorClass::TooManyFiles),
        Some(Errno::EADDRNOTAVAIL) => return Some(ErrorClass::AddressNotAvailable),
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ErrorClass::ConnectionRefused),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Some(ErrorClass::ConnectionReset)
        }
        io::ErrorKind::UnexpectedEof => Some(ErrorClass::UnexpectedEof),
        io::ErrorKind::TimedOut if connecting => Some(ErrorClass::ConnectTimeout),
        io::ErrorKind::TimedOut => Some(ErrorClass::Timeout),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRYABLE: &[u8] = br#"{"error":"no primary","retryable":true}"#;
    const UNSURE: &[u8] = br#"{"error":"commit","retryable":true,"indeterminate":true}"#;

    #[test]
    fn statuses_of_writes_and_reads() {
        use OperationOutcome::{Failed, Indeterminate};
        let table: [(u16, &[u8], OperationOutcome, ErrorClass); 9] = [
            (400, b"", Failed, ErrorClass::ClientStatus),
            (404, b"", Failed, ErrorClass::ClientStatus),
            (503, RETRYABLE, Failed, ErrorClass::ServerStatus),
            (503, UNSURE, Indeterminate, ErrorClass::ServerStatus),
            (503, b"upstream connect error", Indeterminate, ErrorClass::ServerStatus),
            (504, RETRYABLE, Indeterminate, ErrorClass::ServerStatus),
            (500, b"", Indeterminate, ErrorClass::ServerStatus),
            (502, b"", Indeterminate, ErrorClass::ServerStatus),
            (302, b"", Indeterminate, ErrorClass::Assertion),
        ];
        for (status, body, outcome, class) in table {
            let want = Judged { outcome, error: Some(class) };
            assert_eq!(judge_status(status, body, true), want, "write {status}");
            assert_eq!(judge_status(status, body, false), Judged::failed(class), "read {status}");
        }
    }

    #[test]
    fn io_errors_by_number_and_kind() {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        let table = [
            (os(Errno::EMFILE), false, Some(ErrorClass::TooManyFiles)),
            (os(Errno::EADDRNOTAVAIL), true, Some(ErrorClass::AddressNotAvailable)),
            (os(Errno::ECONNREFUSED), true, Some(ErrorClass::ConnectionRefused)),
            (os(Errno::ECONNRESET), false, Some(ErrorClass::ConnectionReset)),
            (os(Errno::EPIPE), false, Some(ErrorClass::ConnectionReset)),
            (os(Errno::ETIMEDOUT), true, Some(ErrorClass::ConnectTimeout)),
            (os(Errno::ETIMEDOUT), false, Some(ErrorClass::Timeout)),
            (io::Error::other("wrapped"), false, None),
        ];
        for (error, connecting, want) in table {
            assert_eq!(class_of_io(&error, connecting), want, "{error}");
        }
    }
}
