//! What a failed database step means: is the database away, was the request refused, and above all:
//! can the write have happened?

use thiserror::Error;
use tokio_postgres::error::Severity;

/// A database step that failed, and what that says about its effects.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DbFault {
    /// Nothing was committed; the database could not be reached or did not answer in time.
    #[error("database is away: {0}")]
    Away(String),
    /// Nothing was committed; the server takes no writes (SQLSTATE 25006): a demoted primary.
    #[error("database is read-only: {0}")]
    ReadOnly(String),
    /// Nothing was committed; a foreign key points nowhere.
    #[error("referenced row does not exist")]
    NoReference,
    /// Nothing was committed; the value cannot be stored (class 22).
    #[error("value cannot be stored: {0}")]
    BadValue(String),
    /// Nothing was committed; the schema is not there (42P01).
    #[error("schema is missing: {0}")]
    NoSchema(String),
    /// Nothing was committed; any other refusal. It does not go away by itself.
    #[error("database refused the statement: {0}")]
    Refused(String),
    /// COMMIT was sent, and no trustworthy answer came back.
    #[error("outcome of the commit is unknown: {0}")]
    CommitUnknown(String),
}

impl DbFault {
    /// The `kind` label on metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::ReadOnly(_) => "read_only",
            Self::NoReference => "no_reference",
            Self::BadValue(_) => "bad_value",
            Self::NoSchema(_) => "no_schema",
            Self::Refused(_) => "refused",
            Self::CommitUnknown(_) => "commit_unknown",
        }
    }

    /// The connection answered as it should: it may go back into the pool after a rollback.
    #[must_use]
    pub fn leaves_connection_sound(&self) -> bool {
        matches!(self, Self::NoReference | Self::BadValue(_))
    }
}

/// The parts of a server's error that decide its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    pub sqlstate: String,
    /// Severity ERROR: the server goes on and has rolled back. FATAL and PANIC end the connection.
    pub is_plain_error: bool,
    pub message: String,
}

/// An error of the driver: the server's, or the connection's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverError {
    Server(ServerError),
    Connection(String),
}

impl From<&tokio_postgres::Error> for DriverError {
    fn from(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Server(ServerError {
                sqlstate: db.code().code().to_owned(),
                is_plain_error: db.parsed_severity() == Some(Severity::Error) || db.severity() == "ERROR",
                message: db.message().to_owned(),
            }),
            None => Self::Connection(with_causes(error)),
        }
    }
}

/// The meaning of a failure before COMMIT was sent, or in a read: nothing was committed.
#[must_use]
pub fn before_commit(error: &DriverError) -> DbFault {
    let server = match error {
        DriverError::Connection(message) => return DbFault::Away(message.clone()),
        DriverError::Server(server) => server,
    };
    let message = format!("{} (SQLSTATE {})", server.message, server.sqlstate);
    match server.sqlstate.as_str() {
        "25006" => DbFault::ReadOnly(message),
        "23503" => DbFault::NoReference,
        "42P01" => DbFault::NoSchema(message),
        // Statement timeout, lock timeout, serialization, deadlock: the same statement may pass later.
        "57014" | "55P03" | "40001" | "40P01" => DbFault::Away(message),
        code if code.starts_with("22") => DbFault::BadValue(message),
        // Connection, resources, operator intervention, system error; 28 and 3D: a pooler or server
        // that is being set up or moved.
        code if ["08", "53", "57", "58", "28", "3D"].iter().any(|class| code.starts_with(class)) => {
            DbFault::Away(message)
        }
        _ if !server.is_plain_error => DbFault::Away(message),
        _ => DbFault::Refused(message),
    }
}

/// The meaning of a failed COMMIT.
///
/// Only a plain ERROR from PostgreSQL itself proves a rollback. A lost connection proves nothing; nor
/// does FATAL (a signal may strike between the commit and its answer); nor does class 08, in which
/// PgBouncer reports that *its* connection to the server broke.
#[must_use]
pub fn at_commit(error: &DriverError) -> DbFault {
    match error {
        DriverError::Server(server) if server.is_plain_error && !server.sqlstate.starts_with("08") => {
            before_commit(error)
        }
        DriverError::Server(server) => {
            DbFault::CommitUnknown(format!("{} (SQLSTATE {})", server.message, server.sqlstate))
        }
        DriverError::Connection(message) => DbFault::CommitUnknown(message.clone()),
    }
}

/// An error with its causes, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some errors already repeat their cause.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str, is_plain_error: bool) -> DriverError {
        DriverError::Server(ServerError { sqlstate: sqlstate.into(), is_plain_error, message: "m".into() })
    }

    #[test]
    fn before_commit_nothing_is_ever_unknown() {
        for (sqlstate, plain, kind) in [
            ("25006", true, "read_only"),
            ("23503", true, "no_reference"),
            ("42P01", true, "no_schema"),
            ("22P05", true, "bad_value"),
            ("57014", true, "away"),
            ("40P01", true, "away"),
            ("53300", false, "away"),
            ("57P01", false, "away"),
            ("57P03", false, "away"),
            ("08P01", false, "away"),
            ("3D000", false, "away"),
            ("XX000", false, "away"),
            ("42703", true, "refused"),
            ("XX000", true, "refused"),
        ] {
            assert_eq!(before_commit(&server(sqlstate, plain)).kind(), kind, "{sqlstate}");
        }
        assert_eq!(before_commit(&DriverError::Connection("closed".into())).kind(), "away");
    }

    #[test]
    fn at_commit_only_a_plain_error_proves_a_rollback() {
        for (sqlstate, plain, kind) in [
            ("40001", true, "away"),
            ("25006", true, "read_only"),
            ("53100", true, "away"),
            ("57P01", false, "commit_unknown"),
            ("57P02", false, "commit_unknown"),
            ("08P01", false, "commit_unknown"),
            ("08P01", true, "commit_unknown"),
        ] {
            assert_eq!(at_commit(&server(sqlstate, plain)).kind(), kind, "{sqlstate} {plain}");
        }
        assert_eq!(at_commit(&DriverError::Connection("reset".into())).kind(), "commit_unknown");
    }

    #[test]
    fn a_read_only_connection_is_not_sound() {
        assert!(!before_commit(&server("25006", true)).leaves_connection_sound());
        assert!(before_commit(&server("23503", true)).leaves_connection_sound());
    }
}
