//! A client with deadlines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("failed to read kubeconfig {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("failed to build a client")]
    Client(#[source] kube::Error),
    #[error("failed to {what}")]
    Api {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to {what}: no answer within {seconds} s")]
    Deadline { what: String, seconds: u64 },
    #[error("failed to {what}: {why}")]
    State { what: String, why: String },
    #[error("failed to connect to {to}")]
    Dial {
        to: String,
        #[source]
        source: std::io::Error,
    },
}

impl ClusterError {
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }

    pub fn state(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::State { what: what.into(), why: why.into() }
    }

    /// The API answered that there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_status(source, 404))
    }
}

/// The API answered with this HTTP status.
pub(super) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Connects with a kubeconfig. Nothing is sent yet.
///
/// # Errors
/// When the kubeconfig cannot be read, or names certificates that cannot be.
pub async fn connect(kubeconfig: &Path) -> Result<Client, ClusterError> {
    let failed = |source| ClusterError::Kubeconfig { path: kubeconfig.to_owned(), source };
    let file = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Longer than any one call of ours; watches end after less than five minutes by themselves.
    config.read_timeout = Some(Duration::from_secs(295));
    config.write_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).map_err(ClusterError::Client)
}

/// The address of the API in a kubeconfig's current context.
#[must_use]
pub fn server_of(kubeconfig: &Path) -> Option<String> {
    let file = Kubeconfig::read_from(kubeconfig).ok()?;
    let current = file.current_context?;
    let context = file.contexts.into_iter().find(|context| context.name == current)?.context?;
    file.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?.cluster?.server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_that_of_the_current_context() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        let text = "
apiVersion: v1
kind: Config
current-context: two
clusters:
  - { name: a, cluster: { server: 'https://a:1' } }
  - { name: b, cluster: { server: 'https://b:2' } }
contexts:
  - { name: one, context: { cluster: a, user: u } }
  - { name: two, context: { cluster: b, user: u } }
users: []
";
        std::fs::write(&path, text).unwrap();
        assert_eq!(server_of(&path).as_deref(), Some("https://b:2"));
        std::fs::write(&path, text.replace("two", "three")).unwrap();
        assert!(server_of(&path).is_some());
        std::fs::write(&path, text.replace("current-context: two", "current-context: none")).unwrap();
        assert_eq!(server_of(&path), None);
    }
}
