//! The providers, by the names that the command line gives them.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderKind {
    /// Real Kubernetes as plain processes on this machine; needs root, neither Docker nor a registry
    Local,
    /// kind, where Docker is
    Kind,
    /// k3d, where Docker is
    K3d,
    /// The current context of a kubeconfig
    Current,
}
