//! Where a cluster comes from.
//!
//! A provider hands out a [`ClusterHandle`]: what the rest of mettle needs to know of a cluster that
//! stands, and nothing about how it was made. [`local`] makes real Kubernetes out of plain processes,
//! [`docker`] has kind or k3d make it out of containers, `current` is whatever a kubeconfig names.

pub mod artifacts;
mod context;
pub mod docker;
pub mod error;
pub mod exec;
pub mod handle;
pub mod host;
pub mod images;
mod kind;
pub mod local;
pub mod power;
pub mod progress;
pub mod push;
pub mod shelf;
pub mod statics;

pub use error::ProviderError;
pub use handle::{ClusterHandle, open};
pub use kind::ProviderKind;
