//! What the commands that touch a standing cluster share: the open cluster, its world, its journals.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::{Failure, provider_failure};
use crate::cli::{Global, ProviderKind};
use crate::cluster::{Answer, Applier, ClusterError, Dialer, Power, Wanted, connect, lacking, server_of};
use crate::component::{Credentials, Eyes};
use crate::exit::Exit;
use crate::fault;
use crate::model::{ControlPlanePart, FaultKind, NodeHow};
use crate::provider::{self, ClusterHandle, power};
use crate::run::{LiveWorld, find_unreverted};
use crate::stack::{NAMESPACE, agent_image, read_password};

/// A cluster that stands, opened.
pub struct Session {
    pub handle: ClusterHandle,
    pub client: Client,
    /// `local/mettle`, for reports.
    pub label: String,
    pub journals: PathBuf,
}

/// Opens the cluster and asks its API for a sign of life.
pub async fn open(global: &Global) -> Result<Session, Failure> {
    let (kind, name) = (global.cluster, global.name.clone());
    let opened = tokio::task::spawn_blocking(move || provider::open(kind, &name)).await;
    let handle = opened.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    let client = connect(&handle.kubeconfig).await.map_err(unusable)?;
    let alive = tokio::time::timeout(std::time::Duration::from_secs(10), client.apiserver_version()).await;
    let unreachable = |why: String| {
        let error = anyhow::anyhow!("the API of cluster {} does not answer: {why}", handle.name);
        Failure::new(Exit::SetUp, error).hint(match global.cluster {
            ProviderKind::Current => "`kubectl cluster-info` asks the same API; KUBECONFIG says which it is",
            _ => "`mettle status` shows what runs; `mettle up` resumes a cluster",
        })
    };
    match alive {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(unreachable(root_cause(&error))),
        Err(_) => return Err(unreachable("no answer within 10 s".to_owned())),
    }
    let label = format!("{}/{}", kind_name(global.cluster), handle.name);
    let journals = journals_of(global);
    Ok(Session { handle, client, label, journals })
}

fn unusable(error: ClusterError) -> Failure {
    Failure::new(Exit::SetUp, error)
        .hint("`kubectl config view` reads the same file; `kubectl config use-context NAME` sets its context")
}

/// What the layers of an HTTP client wrap.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

pub fn kind_name(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Local => "local",
        ProviderKind::Kind => "kind",
        ProviderKind::K3d => "k3d",
        ProviderKind::Current => "current",
    }
}

/// The journals of a cluster, opened or not.
pub fn journals_of(global: &Global) -> PathBuf {
    // One kubeconfig after another: what was changed in one cluster must not be looked for in the next.
    let name = match global.cluster {
        ProviderKind::Current => server_of_kubeconfig().unwrap_or_else(|| "current".to_owned()),
        _ => global.name.clone(),
    };
    journals_directory(&format!("{}/{name}", kind_name(global.cluster)))
}

/// The address of the API, in letters that a directory may have.
fn server_of_kubeconfig() -> Option<String> {
    let server = server_of(&provider::open(ProviderKind::Current, "").ok()?.kubeconfig)?;
    let server = server.split_once("://").map_or(server.as_str(), |(_, rest)| rest);
    Some(server.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect())
}

/// Outside every run's directory: an interrupted run's journal must be found whatever `--out` it had.
fn journals_directory(label: &str) -> PathBuf {
    provider::host::state_dir().join("journals").join(label.replace('/', "-"))
}

/// Sets the journals of a cluster that is gone aside, under names that no run looks for.
pub fn retire_journals(label: &str) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(journals_directory(label)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            std::fs::rename(&path, path.with_extension("jsonl.gone"))?;
        }
    }
    Ok(())
}

impl Session {
    /// The cluster as a run's world.
    pub async fn world(&self) -> Result<LiveWorld, Failure> {
        let agent_image =
            agent_image(&self.client).await.map_err(|error| Failure::new(Exit::SetUp, error))?;
        self.world_with(agent_image.unwrap_or_default()).await
    }

    /// The platform's own user of the database.
    pub async fn credentials(&self) -> Result<Credentials, Failure> {
        let password = read_password(&self.client, "database-password").await.map_err(|error| {
            Failure::new(Exit::SetUp, error).hint("the stack does not stand: `mettle up` brings it up")
        })?;
        Ok(Credentials { user: "ai_user".to_owned(), database: "ai_platform".to_owned(), password })
    }

    /// The database's user for measuring, who may see what waits for the archive; the platform's own where there is none.
    async fn measuring(&self, platform: &Credentials) -> Credentials {
        match read_password(&self.client, "probe-password").await {
            Ok(password) => Credentials { user: "mettle_probe".to_owned(), password, ..platform.clone() },
            Err(_) => platform.clone(),
        }
    }

    /// The cluster's own kubectl where it has one, else that of PATH.
    pub async fn kubectl(&self) -> PathBuf {
        let own = self.handle.kubeconfig.with_file_name("bin").join("kubectl");
        if tokio::fs::try_exists(&own).await.unwrap_or(false) { own } else { PathBuf::from("kubectl") }
    }

    /// How pods are reached from here.
    pub fn dialer(&self) -> Dialer {
        let local = self.handle.kind == ProviderKind::Local;
        if local { Dialer::direct() } else { Dialer::forwarding(self.client.clone()) }
    }

    async fn world_with(&self, agent_image: String) -> Result<LiveWorld, Failure> {
        let credentials = self.credentials().await?;
        // A part of the stack may have been made without it: RabbitMQ's nodes are then not asked, and say so.
        let cookie = read_password(&self.client, "rabbitmq-erlang-cookie").await.unwrap_or_default();
        let dialer = self.dialer();
        let eyes = Eyes::new(dialer.clone(), self.measuring(&credentials).await, cookie);
        let power: Option<Arc<dyn Power>> = match self.handle.kind {
            ProviderKind::Current => None,
            _ => Some(Arc::new(Beneath(self.handle.clone()))),
        };
        let applier = Applier::new(self.client.clone(), power, agent_image);
        Ok(LiveWorld::new(self.client.clone(), NAMESPACE.to_owned(), dialer, applier, credentials, eyes))
    }

    /// Refuses, before anything is changed, when a right is missing that these faults need.
    pub async fn require_rights(&self, kinds: BTreeSet<FaultKind>) -> Result<(), Failure> {
        let rights = fault::always().into_iter().chain(kinds.into_iter().flat_map(fault::rights));
        let wanted: BTreeSet<Wanted> = rights
            .flat_map(|right| {
                right.verbs.iter().map(move |verb| Wanted {
                    namespace: (!right.cluster).then(|| NAMESPACE.to_owned()),
                    group: right.group.to_owned(),
                    resource: right.resource.to_owned(),
                    verb: (*verb).to_owned(),
                })
            })
            .collect();
        let lacking = lacking(&self.client, wanted.into_iter().collect()).await;
        if lacking.is_empty() {
            return Ok(());
        }
        let lacking: Vec<String> = lacking.iter().map(Wanted::to_string).collect();
        let error = anyhow::anyhow!("the kubeconfig's user may not: {}", lacking.join(", "));
        Err(Failure::new(Exit::SetUp, error)
            .hint("`mettle rbac FILE` prints what the faults of a file need, for `kubectl apply -f -`"))
    }

    /// Refuses while an earlier run's changes are open.
    pub fn refuse_unreverted(&self) -> Result<(), Failure> {
        let open = find_unreverted(&self.journals).map_err(|error| Failure::new(Exit::SetUp, error))?;
        match open.first() {
            None => Ok(()),
            Some(first) => {
                let error = anyhow::anyhow!("an earlier run left changes behind: {}", first.display());
                Err(Failure::new(Exit::RevertIncomplete, error).hint("`mettle revert` undoes them"))
            }
        }
    }
}

/// The provider's power over its machines; its calls block.
struct Beneath(ClusterHandle);

impl Beneath {
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ClusterHandle) -> Result<T, provider::ProviderError> + Send + 'static,
    ) -> Answer<'static, T> {
        let handle = self.0.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&handle)).await;
            done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        })
    }
}

impl Power for Beneath {
    fn break_node<'a>(&'a self, node: &'a str, how: NodeHow) -> Answer<'a, ()> {
        let node = node.to_owned();
        self.call(move |cluster| power::break_node(cluster, &node, how))
    }

    fn restore_node<'a>(&'a self, node: &'a str, how: NodeHow) -> Answer<'a, ()> {
        let node = node.to_owned();
        self.call(move |cluster| power::restore_node(cluster, &node, how))
    }

    fn pause(&self, part: ControlPlanePart) -> Answer<'_, String> {
        self.call(move |cluster| power::pause(cluster, part))
    }

    fn resume(&self, part: ControlPlanePart) -> Answer<'_, ()> {
        self.call(move |cluster| power::resume(cluster, part))
    }

    fn broken(&self) -> Answer<'_, Vec<String>> {
        self.call(power::broken)
    }
}
