//! A whole experiment of Chaos Toolkit: hypothesis, method, hypothesis, and at the end what mettle reverts and what
//! the file itself rolls back.
//!
//! # Guarantees
//! - No fault before the hypothesis was met; faults stay until it was asked again, unless the method takes them back.
//! - Revert and rollbacks are played after a normal end, a failure, a panic and a stop, in this order: a rollback
//!   finds the cluster as its author knows it.
//! - A probe without an answer is no pass.
//!
//! # Caveats
//! - After `kill -9` of mettle, `mettle revert` undoes its faults; what the file's own programs did, it does not know.

mod findings;
mod http;
mod log;
mod nowhere;
mod outside;
mod play;
mod player;
mod process;
mod toolkit_journal;

pub use nowhere::Nowhere;
pub use outside::{Outside, Reach, Unanswered};
pub use play::{Played, ScriptContext, run_script};
pub use process::find_program;
