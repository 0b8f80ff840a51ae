//! Command line types only.

use clap::{Parser, Subcommand};

/// The platform services of mettle's stack: one binary, a role each.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Bring the database schema up to date, then exit (for an init container)
    Migrate,
    #[command(flatten)]
    Role(Role),
}

/// What a process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Role {
    /// Models, predictions, sessions and the catalog, on PostgreSQL and Redis
    Backend,
    /// Users and tokens: passwords in PostgreSQL, sessions in Redis
    Auth,
    /// The model registry: PostgreSQL, and an event to Kafka for each model
    Model,
    /// Jobs to RabbitMQ, results from PostgreSQL, and answers computed at once
    Inference,
    /// Decisions from registry, features and inference, with less when one is away
    Decision,
    /// The static app and its own small API
    Frontend,
}

impl Role {
    pub const ALL: [Self; 6] =
        [Self::Backend, Self::Auth, Self::Model, Self::Inference, Self::Decision, Self::Frontend];

    /// The value of the `role` label on metrics and in logs, and the service's name in traces.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Auth => "auth",
            Self::Model => "model",
            Self::Inference => "inference",
            Self::Decision => "decision",
            Self::Frontend => "frontend",
        }
    }
}
