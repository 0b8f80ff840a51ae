//! Command line types only.

use clap::{Parser, Subcommand};

/// The platform services of mettle's stack: one binary, a role each.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
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
}

impl Role {
    /// The value of the `role` label on metrics and in logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Backend => "backend",
        }
    }
}
