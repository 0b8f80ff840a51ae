//! The real cluster as a [`World`]: reads, roles, changes, probes and the ledger's direct reads.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{Recorder, Undone, World, WorldError};
use crate::cluster::{self, Applied, Applier, ClusterError, Dialer, PodAddress, PodCache};
use crate::component::{self, Credentials, Eyes, Members, Rows};
use crate::ledger::Found;
use crate::model::{Change, Component, Observation, OnConflict, RunId, Snapshot, Store, Undo, Watch};
use crate::probe::{self, Sink, Source};

/// One member's answer at a snapshot.
const ROLE_DEADLINE: Duration = Duration::from_secs(3);
const READ_DEADLINE: Duration = Duration::from_secs(50);

pub struct LiveWorld {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) dialer: Dialer,
    applier: Applier,
    pub(super) credentials: Credentials,
    pub(super) eyes: Arc<Eyes>,
}

impl LiveWorld {
    #[must_use]
    pub fn new(
        client: Client,
        namespace: String,
        dialer: Dialer,
        applier: Applier,
        credentials: Credentials,
        eyes: Eyes,
    ) -> Self {
        Self { client, namespace, dialer, applier, credentials, eyes: Arc::new(eyes) }
    }

    /// What only some runs are judged by.
    async fn observe_more(
        &self,
        watch: Watch,
        cache: &PodCache,
        recorder: &Recorder,
        end: &CancellationToken,
    ) {
        let (dialer, sink) = (|| self.dialer.clone(), || recorder.clone());
        let mut probes: Vec<BoxFuture<'_, ()>> = Vec::new();
        if !watch.alerts.is_empty() {
            let alerts = probe::observe_alerts(watch.alerts, cache.clone(), dialer(), sink(), end.clone());
            probes.push(alerts.boxed());
        }
        for component in watch.breakers {
            let (client, namespace) = (self.client.clone(), self.namespace.clone());
            let breakers = probe::observe_breakers(
                component,
                client,
                namespace,
                cache.clone(),
                dialer(),
                sink(),
                end.clone(),
            );
            probes.push(breakers.boxed());
        }
        for component in watch.served {
            let served = probe::observe_served(component, cache.clone(), dialer(), sink(), end.clone());
            probes.push(served.boxed());
        }
        for component in watch.scales {
            let (client, namespace) = (self.client.clone(), self.namespace.clone());
            probes.push(probe::observe_scales(component, client, namespace, sink(), end.clone()).boxed());
        }
        if watch.refusals {
            let client = self.client.clone();
            let refusals = probe::observe_refusals(client, cache.clone(), dialer(), sink(), end.clone());
            probes.push(refusals.boxed());
        }
        futures::future::join_all(probes).await;
    }
}

impl LiveWorld {
    /// The pod of PostgreSQL's primary, by Patroni's and its own word.
    pub(super) async fn primary(&self, snapshot: &Snapshot) -> Result<PodAddress, WorldError> {
        let pods = addresses(snapshot, Component::Postgres);
        let members =
            component::postgres_members(&self.dialer, &pods, Some(&self.credentials), ROLE_DEADLINE).await;
        let leader = members.leaders.into_iter().find_map(|(_, leader)| leader);
        let Some((leader, _)) = leader else {
            return Err(WorldError::new("postgres has no leader to read from"));
        };
        let primary = pods.into_iter().find(|pod| pod.name == leader);
        primary.ok_or_else(|| WorldError::new(format!("the leader {leader} is no pod")))
    }

    async fn rows<'a>(&self, primary: &'a PodAddress, run: &'a RunId) -> Result<Rows<'a>, WorldError> {
        let rows = Rows::open(&self.dialer, primary, &self.credentials, run).await;
        rows.map_err(failed("failed to reach the primary of postgres"))
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
        let looks = Eyes::COMPONENTS.map(|component| {
            let pods = addresses(&snapshot, component);
            async move {
                if pods.is_empty() { None } else { self.eyes.members(component, &pods, ROLE_DEADLINE).await }
            }
        });
        let members = futures::future::join_all(looks).await;
        snapshot.roles = members.into_iter().flatten().flat_map(|members| members.roles()).collect();
        Ok(snapshot)
    }

    async fn apply(&self, run: &RunId, change: &Change, recorder: &Recorder) -> Result<(), WorldError> {
        let said = recorder.clone();
        let said = move |agent: &str, text: String| {
            Recorder::observe(&said, Observation::Agent { agent: agent.to_owned(), text });
        };
        self.applier.apply(run, change, said).await.map_err(failed("the cluster refused"))
    }

    async fn undo(&self, undo: &Undo, on_conflict: OnConflict) -> Result<Undone, WorldError> {
        match self.applier.undo(undo, on_conflict).await.map_err(failed("not undone"))? {
            Applied::Done(how) => Ok(Undone::Reverted(how)),
            Applied::AlreadyClean(how) => Ok(Undone::AlreadyClean(how)),
            Applied::Conflict(why) => Ok(Undone::Conflict(why)),
        }
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        self.applier.residue(&self.namespace).await.map_err(failed("failed to look for residue"))
    }

    async fn observe(&self, watch: Watch, recorder: Recorder, end: CancellationToken) {
        let cache = PodCache::start(self.client.clone(), &self.namespace, end.clone());
        let source = |component| ComponentSource {
            component,
            cache: cache.clone(),
            eyes: self.eyes.clone(),
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            want: Arc::default(),
        };
        let members = Eyes::COMPONENTS
            .map(|component| probe::observe_members(source(component), recorder.clone(), end.clone()));
        tokio::join!(
            probe::observe_api(self.client.clone(), self.namespace.clone(), recorder.clone(), end.clone()),
            futures::future::join_all(members),
            self.observe_more(watch, &cache, &recorder, &end),
        );
    }

    async fn found(&self, store: Store, run: &RunId) -> Result<Found, WorldError> {
        let snapshot = cluster::snapshot(&self.client, &self.namespace).await;
        let snapshot = snapshot.map_err(failed("failed to read the cluster"))?;
        match store {
            Store::Postgres => {
                let primary = self.primary(&snapshot).await?;
                let rows = self.rows(&primary, run).await?;
                rows.tables(READ_DEADLINE).await.map_err(failed("failed to read the ledger of postgres"))
            }
            Store::Jobs => {
                let primary = self.primary(&snapshot).await?;
                let rows = self.rows(&primary, run).await?;
                rows.results(READ_DEADLINE).await.map_err(failed("failed to read the results of jobs"))
            }
            Store::Kafka => {
                let primary = self.primary(&snapshot).await?;
                let rows = self.rows(&primary, run).await?;
                rows.events_relayed().await.map_err(failed("failed to wait for the outbox"))?;
                let pods = addresses(&snapshot, Component::Kafka);
                let events = component::kafka_found(&self.dialer, &pods, run, READ_DEADLINE).await;
                events.map(Found::of_ids).map_err(failed("failed to read the ledger of kafka"))
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
    eyes: Arc<Eyes>,
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
        Some((self.eyes.look(self.component, &pods).await?, want))
    }

    fn name(&self) -> &'static str {
        self.component.as_str()
    }

    fn every(&self) -> Duration {
        Eyes::every(self.component)
    }
}
