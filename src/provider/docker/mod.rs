//! Clusters whose nodes are Docker containers: [kind] and [k3d], driven by their own programs.
//!
//! - [`flavour`] what differs between the two: command lines, names, labels; pure.
//! - [`engine`] what we ask of Docker itself; [`record`] what `up` decided.
//! - [`up`], [`down`], [`load`], [`node`], [`status`] the commands' work.
//!
//! # Guarantees
//! - The user's kubeconfig is never read or written: each cluster has one of its own beside its record.
//! - A cluster is ours when the ids of its containers are those that we recorded after we made it. What is not ours is
//!   neither adopted nor removed.
//!
//! # Caveats
//! - No program of ours runs in such a node, so power is all that we have over it.
//! - The command lines were read from kind 0.33 (and tried with it, up to the pull of its node image) and from the
//!   documentation and source of k3d 5.9 (never run here).
//!
//! [kind]: https://kind.sigs.k8s.io
//! [k3d]: https://k3d.io

pub mod down;
pub mod engine;
pub mod flavour;
pub mod load;
pub mod node;
pub mod record;
pub mod status;
pub mod up;

pub use flavour::Flavour;
pub use record::open;
