//! Where a cluster comes from.
//!
//! A provider hands out a [`ClusterHandle`]: what the rest of mettle needs to know of a cluster that
//! stands, and nothing about how it was made. [`local`] makes real Kubernetes out of plain processes;
//! the other kinds are a closed enum that says so when they are not written yet.

pub mod artifacts;
pub mod error;
pub mod exec;
pub mod handle;
pub mod images;
mod kind;
pub mod local;
pub mod progress;
pub mod statics;

pub use error::ProviderError;
pub use handle::{ClusterHandle, open};
pub use kind::ProviderKind;
