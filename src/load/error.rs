//! What can go wrong with the load itself, as opposed to what the load finds.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("failed to read load spec {}", path.display())]
    ReadSpec {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to parse load spec {}", path.display())]
    ParseSpec {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("invalid load spec: {field}: {message}")]
    Spec { field: String, message: String },
    #[error("failed to build the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("failed to prepare step {step}: {reason} (tried {attempts} times)")]
    Prepare { step: String, reason: String, attempts: u32 },
    #[error("failed to start goose with {lanes} lanes: {reason}")]
    Goose { lanes: usize, reason: String },
    #[error("failed to write operations to {}", path.display())]
    WriteOperations {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to record an operation within {waited_ms} ms: the recorder's queue is full")]
    RecorderFull { waited_ms: u64 },
    #[error("failed to report to the parent process")]
    Stdout(#[source] io::Error),
    #[error("failed to start a thread of the load")]
    Thread(#[source] io::Error),
    #[error("load ended after its limit of {seconds_max} s without being told to stop")]
    TooLong { seconds_max: u64 },
    #[error("failed to start the load process {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write {}", path.display())]
    WriteSpec {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("load process ended by itself ({status}): {reason}")]
    Died { status: String, reason: String },
    #[error("load process did not {what} within {waited_ms} ms")]
    Deadline { what: &'static str, waited_ms: u64 },
    #[error("failed to wait for the load process")]
    Wait(#[source] io::Error),
    #[error("failed to read operations from {}", path.display())]
    ReadOperations {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}:{line}: not an operation", path.display())]
    ParseOperation {
        path: PathBuf,
        line: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} has more than {lines_max} operations", path.display())]
    TooManyOperations { path: PathBuf, lines_max: u64 },
}
