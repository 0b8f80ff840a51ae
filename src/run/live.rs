//! The real cluster as a [`World`]: reads, roles, changes, probes and the ledger's direct reads.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{Recorder, Undone, World, WorldError};
use crate::cluster::{self, Applied, Applier, ClusterError, Dialer, PodAddress, PodCache};
use crate::component::{self, Credentials, Members};
use crate::ledger::Found;
use crate::model::{Change, Component, Observation, RunId, Snapshot, Store, Undo};
use crate::probe::{self, Sink, Source};

/// One member's answer, at a snapshot and at a probe's look.
const ROLE_DEADLINE: Duration = Duration::from_secs(3);
const LOOK_DEADLINE: Duration = Duration::from_millis(1000);
const READ_DEADLINE: Duration = Duration::from_secs(50);

pub struct LiveWorld {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) dialer: Dialer,
    applier: Applier,
    pub(super) credentials: Credentials,
}

impl LiveWorld {
    #[must_use]
    pub fn new(
        client: Client,
        namespace: String,
        dialer: Dialer,
        applier: Applier,
        credentials: Credentials,
    ) -> Self {
        Self { client, namespace, dialer, applier, credentials }
    }

    pub(super) async fn postgres_primary<'a>(
        &self,
        pods: &'a [PodAddress],
    ) -> Result<&'a PodAddress, WorldError> {
        let members =
            component::postgres_members(&self.dialer, pods, Some(&self.credentials), ROLE_DEADLINE).await;
        let leader = members.leaders.into_iter().find_map(|(_, leader)| leader);
        let Some((leader, _)) = leader else {
            return Err(WorldError::new("postgres has no leader to read the ledger from"));
        };
        let primary = pods.iter().find(|pod| pod.name == leader);
        primary.ok_or_else(|| WorldError::new(format!("the leader {leader} is no pod")))
    }

    async fn members_of(&self, component: Component, pods: &[PodAddress]) -> Option<Members> {
        match component {
            _ if pods.is_empty() => None,
            Component::Postgres => Some(
                component::postgres_members(&self.dialer, pods, Some(&self.credentials), ROLE_DEADLINE).await,
            ),
            Component::Redis => Some(component::redis_members(&self.dialer, pods, ROLE_DEADLINE).await),
            _ => None,
        }
    }
}

pub(super) fn addresses(snapshot: &Snapshot, component: Component) -> Vec<PodAddress> {
    let members = snapshot.pods.iter().filter(|pod| pod.component == Some(component) && pod.ip.is_some());
    members.map(PodAddress::from).collect()
}

pub(super) fn failed(what: &str) -> impl FnOnce(ClusterError) -> WorldError + use<'_> {
    move |error| WorldError::because(what, error)
}

impl World for LiveWorld {
    async fn snapshot(&self) -> Result<Snapshot, WorldError> {
        let read = cluster::snapshot(&self.client, &self.namespace).await;
        let mut snapshot = read.map_err(failed("failed to read the cluster"))?;
        for component in [Component::Postgres, Component::Redis] {
            let pods = addresses(&snapshot, component);
            if let Some(members) = self.members_of(component, &pods).await {
                snapshot.roles.extend(members.roles());
            }
        }
        Ok(snapshot)
    }

    async fn apply(&self, change: &Change, recorder: &Recorder) -> Result<(), WorldError> {
        let said = recorder.clone();
        let said = move |agent: &str, text: String| {
            Recorder::observe(&said, Observation::Agent { agent: agent.to_owned(), text });
        };
        self.applier.apply(change, said).await.map_err(failed("the cluster refused"))
    }

    async fn undo(&self, undo: &Undo) -> Result<Undone, WorldError> {
        match self.applier.undo(undo).await.map_err(failed("not undone"))? {
            Applied::Done(how) => Ok(Undone::Reverted(how)),
            Applied::AlreadyClean(how) => Ok(Undone::AlreadyClean(how)),
            Applied::Conflict(why) => Ok(Undone::Conflict(why)),
        }
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        self.applier.residue(&self.namespace).await.map_err(failed("failed to look for residue"))
    }

    async fn observe(&self, recorder: Recorder, end: CancellationToken) {
        let cache = PodCache::start(self.client.clone(), &self.namespace, end.clone());
        let source = |component| ComponentSource {
            component,
            cache: cache.clone(),
            dialer: self.dialer.clone(),
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            want: Arc::default(),
        };
        tokio::join!(
            probe::observe_api(self.client.clone(), self.namespace.clone(), recorder.clone(), end.clone()),
            probe::observe_members(source(Component::Postgres), recorder.clone(), end.clone()),
            probe::observe_members(source(Component::Redis), recorder.clone(), end.clone()),
        );
    }

    async fn found(&self, store: Store, run: &RunId) -> Result<Found, WorldError> {
        let snapshot = cluster::snapshot(&self.client, &self.namespace).await;
        let snapshot = snapshot.map_err(failed("failed to read the cluster"))?;
        match store {
            Store::Postgres => {
                let pods = addresses(&snapshot, Component::Postgres);
                let primary = self.postgres_primary(&pods).await?;
                component::postgres_found(&self.dialer, primary, &self.credentials, run, READ_DEADLINE)
                    .await
                    .map_err(failed("failed to read the ledger of postgres"))
            }
            Store::Redis => {
                let pods = addresses(&snapshot, Component::Redis);
                component::redis_found(&self.dialer, &pods, run, READ_DEADLINE)
                    .await
                    .map_err(failed("failed to read the ledger of redis"))
            }
        }
    }
}

impl Sink for Recorder {
    fn observe(&self, observation: Observation) {
        Self::observe(self, observation);
    }
}

struct ComponentSource {
    component: Component,
    cache: PodCache,
    dialer: Dialer,
    client: Client,
    namespace: String,
    /// How many members the workload wants, read once.
    want: Arc<tokio::sync::OnceCell<u32>>,
}

impl ComponentSource {
    async fn want(&self) -> Option<u32> {
        let wanted = self.want.get_or_try_init(|| async {
            let snapshot = cluster::snapshot(&self.client, &self.namespace).await?;
            let of_component =
                snapshot.workloads.iter().filter(|workload| workload.component == Some(self.component));
            let wanted: i32 = of_component.map(|workload| workload.desired).sum();
            Ok::<u32, ClusterError>(u32::try_from(wanted).unwrap_or(0))
        });
        wanted.await.ok().copied()
    }
}

impl Source for ComponentSource {
    async fn look(&self) -> Option<(Members, u32)> {
        let want = self.want().await.filter(|want| *want > 0)?;
        let pods = self.cache.members(self.component)?;
        let members = match self.component {
            Component::Postgres => {
                component::postgres_members(&self.dialer, &pods, None, LOOK_DEADLINE).await
            }
            Component::Redis => component::redis_members(&self.dialer, &pods, LOOK_DEADLINE).await,
            _ => return None,
        };
        Some((members, want))
    }

    fn name(&self) -> &'static str {
        self.component.as_str()
    }
}
