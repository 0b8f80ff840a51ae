//! Watches the API and keeps the node's table in step with it, until a signal.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll, StreamExt as _, select_all};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::apply::{Applied, ApplyError, Table};
use super::policy::{Limits, World, judge};
use super::render::{render, render_closed};
use super::ruleset::{Direction, Ruleset};
use crate::cluster::chain;

/// From the first change until the rules are written: changes come in bursts.
const DEBOUNCE: Duration = Duration::from_millis(75);
const VERIFY_EVERY: Duration = Duration::from_secs(30);
/// A watch that hears nothing is begun anew after this, so a connection that died in silence is found.
const WATCH_TIMEOUT_S: u32 = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(2);
const REASON_CHARS_MAX: usize = 300;

#[derive(Debug, Clone)]
pub struct Options {
    pub kubeconfig: PathBuf,
    pub node: String,
    pub nft: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("failed to read kubeconfig {}", path.display())]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("failed to make a client from kubeconfig {}", path.display())]
    Client { path: PathBuf, source: Box<kube::Error> },
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("the watches ended")]
    WatchesEnded,
}

/// Returns on SIGTERM and SIGINT. The rules stay.
pub async fn run(options: &Options) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let client = client(&options.kubeconfig).await?;
    let enforcer = Enforcer::new(options, &client);
    say(&format!("enforcing network policies on node {}", options.node));
    tokio::select! {
        ended = enforcer.enforce() => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn client(path: &Path) -> Result<Client, RunError> {
    let failed = |source| RunError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config)
        .map_err(|source| RunError::Client { path: path.to_owned(), source: Box::new(source) })
}

/// What a watch tells.
enum Notice {
    Changed(&'static str),
    /// The first list of this kind, or a new one after an interruption, is complete.
    Synced(&'static str),
    Failed(&'static str, watcher::Error),
}

struct Enforcer {
    node: String,
    table: Table,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    notices: SelectAll<BoxStream<'static, Notice>>,
    /// Kinds that were listed at least once; no rule is written before all were.
    synced: BTreeSet<&'static str>,
    /// Kinds whose watch failed last.
    away: BTreeSet<&'static str>,
    /// When the rules are to be written.
    due: Option<Instant>,
    retry: Retry,
}

/// The watches of pods, namespaces and policies.
const KINDS: usize = 3;

impl Enforcer {
    fn new(options: &Options, client: &Client) -> Self {
        let (pods, pod_notices) = watch::<Pod>("pods", client);
        let (namespaces, namespace_notices) = watch::<Namespace>("namespaces", client);
        let (policies, policy_notices) = watch::<NetworkPolicy>("networkpolicies", client);
        Self {
            node: options.node.clone(),
            table: Table::new(options.nft.clone()),
            pods,
            namespaces,
            policies,
            notices: select_all([pod_notices, namespace_notices, policy_notices]),
            synced: BTreeSet::new(),
            away: BTreeSet::new(),
            due: None,
            retry: Retry::default(),
        }
    }

    async fn enforce(mut self) -> Result<(), RunError> {
        let mut verify = interval(VERIFY_EVERY);
        verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.due;
            tokio::select! {
                notice = self.notices.next() => match notice {
                    Some(notice) => self.hear(notice),
                    None => return Err(RunError::WatchesEnded),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.write().await,
                _ = verify.tick(), if self.synced.len() == KINDS => self.verify().await,
            }
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Failed(kind, error) => {
                if self.away.insert(kind) {
                    say(&format!("watch of {kind} failed, the last rules stay: {}", reason(&error)));
                }
                return;
            }
            Notice::Synced(kind) => {
                self.synced.insert(kind);
                self.back(kind);
            }
            Notice::Changed(kind) => self.back(kind),
        }
        if self.synced.len() == KINDS && self.due.is_none() {
            self.due = Some(Instant::now() + DEBOUNCE);
        }
    }

    fn back(&mut self, kind: &'static str) {
        if self.away.remove(kind) {
            say(&format!("watch of {kind} is back"));
        }
    }

    async fn write(&mut self) {
        self.due = None;
        let (pods, namespaces, policies) =
            (self.pods.state(), self.namespaces.state(), self.policies.state());
        let world = World {
            node: &self.node,
            pods: pods.iter().map(Arc::as_ref).collect(),
            namespaces: namespaces.iter().map(Arc::as_ref).collect(),
            policies: policies.iter().map(Arc::as_ref).collect(),
        };
        let (text, status) = decide(&world);
        let begun = Instant::now();
        match self.table.apply(&text).await {
            Ok(Applied::Unchanged) => self.retry.reset(),
            Ok(Applied::Changed) => {
                self.retry.reset();
                say(&format!("{status}; applied in {} ms", begun.elapsed().as_millis()));
            }
            Err(error) => self.complain(&error),
        }
    }

    async fn verify(&mut self) {
        match self.table.verify().await {
            Ok(true) => {}
            Ok(false) => {
                say("the table has vanished, it is written again");
                self.due = Some(Instant::now());
            }
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &ApplyError) {
        let wait = self.retry.step();
        say(&format!("{error}; the last rules stay, next try in {} ms", wait.as_millis()));
        self.due = Some(Instant::now() + wait);
    }
}

/// The text for nft, and what to say about it.
fn decide(world: &World<'_>) -> (String, String) {
    match judge(world, &Limits::default()) {
        Ok(ruleset) => (render(&ruleset), status(world, &ruleset)),
        Err(exceeded) => (render_closed(world), format!("{exceeded}: this node's pods are cut off")),
    }
}

fn status(world: &World<'_>, ruleset: &Ruleset) -> String {
    let isolated = |direction| ruleset.chains.values().filter(|chain| chain.direction == direction).count();
    format!(
        "pods {} (judged here {}), namespaces {}, policies {}, isolated here for ingress {}, for egress {}",
        world.pods.len(),
        ruleset.local_pods,
        world.namespaces.len(),
        world.policies.len(),
        isolated(Direction::Ingress),
        isolated(Direction::Egress),
    )
}

/// What went wrong in one line: the API's own sentence, or the chain of causes.
fn reason(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let text = match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.message.clone(),
        InitialListFailed(source) | WatchStartFailed(source) | WatchFailed(source) => chain(source),
        NoResourceVersion => error.to_string(),
    };
    text.chars().take(REASON_CHARS_MAX).collect()
}

fn watch<K>(kind: &'static str, client: &Client) -> (Store<K>, BoxStream<'static, Notice>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT_S);
    let events = watcher(Api::<K>::all(client.clone()), config).backoff(Retry::default()).modify(|object| {
        object.meta_mut().managed_fields = None;
        object.meta_mut().annotations = None;
    });
    let notices = events.reflect(writer).filter_map(move |event| {
        let notice = match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => Some(Notice::Changed(kind)),
            Ok(watcher::Event::InitDone) => Some(Notice::Synced(kind)),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => Some(Notice::Failed(kind, error)),
        };
        std::future::ready(notice)
    });
    (store, notices.boxed())
}

/// Doubles from the shortest wait to the longest, without end.
#[derive(Debug, Clone, Default)]
struct Retry {
    last: Option<Duration>,
}

impl Retry {
    fn step(&mut self) -> Duration {
        let wait = self.last.map_or(RETRY_MIN, |last| (last * 2).min(RETRY_MAX));
        self.last = Some(wait);
        wait
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.step())
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.last = None;
    }
}

fn say(line: &str) {
    eprintln!("mettle netpol: {line}");
}
