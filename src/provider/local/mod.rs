//! Real Kubernetes out of plain processes on one machine; needs root, neither Docker nor a registry.
//!
//! - [`net`] addresses: a *slot* gives a cluster its networks; [`layout`] files; [`record`] what `up` decided.
//! - [`binaries`], [`build`], [`download`] the servers' programs; [`pki`] certificates.
//! - [`config`], [`control_plane`], [`worker`] what the servers read, and their command lines.
//! - [`tree`] a node's or the control plane's processes as data; [`supervise`] process 1 of such a tree.
//! - [`network`], [`cgroup`], [`processes`] the kernel's objects; [`node`] power off and on.
//! - [`up`], [`bootstrap`], [`storage`], [`down`], [`status`] the commands' work; [`doctor`] is it possible here.

pub mod binaries;
pub mod bootstrap;
pub mod build;
pub mod cgroup;
pub mod config;
pub mod control_plane;
pub mod doctor;
pub mod down;
pub mod download;
pub mod fault;
pub mod layout;
pub mod lock;
pub mod net;
pub mod netpol;
pub mod network;
pub mod node;
pub mod opened;
pub mod pki;
pub mod processes;
pub mod record;
pub mod status;
pub mod storage;
pub mod supervise;
pub mod tree;
pub mod up;
pub mod weight;
pub mod worker;

pub use opened::open;
