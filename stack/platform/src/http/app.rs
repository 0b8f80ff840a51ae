//! What every handler can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::Semaphore;

use super::caller::Callers;
use super::error::ApiError;
use super::frontend::Site;
use super::health::Readiness;
use crate::cache::LocalCache;
use crate::cli::Role;
use crate::config::{Endpoint, Settings};
use crate::deadline::Deadline;
use crate::http_client::Peer;
use crate::metrics::Metrics;
use crate::password::{PasswordFault, Passwords};
use crate::span::{Reporter, Tracer};
use crate::store::kv::Kv;
use crate::store::models::Model;
use crate::store::outbox::Topic;
use crate::store::sql::Database;
use crate::stream::amqp::Broker;
use crate::stream::features::FeatureStore;
use crate::stream::relay::Relay;

/// The parts that a role has; the others are absent.
pub struct App {
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    pub tracer: Arc<Tracer>,
    pub database: Option<Arc<Database>>,
    pub kv: Option<Arc<Kv>>,
    pub models: LocalCache<i64, Model>,
    pub passwords: Option<Passwords>,
    pub callers: Option<Callers>,
    pub broker: Option<Arc<Broker>>,
    pub relay: Option<Arc<Relay>>,
    pub features: Option<Arc<FeatureStore>>,
    pub registry: Option<Peer>,
    pub inference: Option<Peer>,
    pub site: Option<Site>,
    pub readiness: Readiness,
    pub in_flight: Semaphore,
    draining: AtomicBool,
}

#[derive(Debug, Error)]
pub enum AppError {
    #[error("failed to set up metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("failed to set up the database pools")]
    Database(#[from] deadpool_postgres::BuildError),
    #[error("failed to set up the redis client")]
    Redis(#[from] redis::RedisError),
    #[error("failed to set up password hashing")]
    Passwords(#[from] PasswordFault),
    #[error("{0}")]
    Broker(String),
}

impl App {
    /// Builds all parts; connects to nothing yet. The reporter of spans is for the server to run.
    ///
    /// # Errors
    /// When a part cannot be built from the settings.
    pub fn new(role: Role, settings: Settings) -> Result<(Arc<Self>, Option<Reporter>), AppError> {
        let metrics = Arc::new(Metrics::new(role.label())?);
        let (tracer, reporter) = Tracer::new(role.label(), settings.zipkin_url.clone(), Arc::clone(&metrics));
        let is = |roles: &[Role]| roles.contains(&role);
        let database = match &settings.primary {
            Some(primary) if role != Role::Frontend => {
                Some(Arc::new(Database::new(primary, &settings, Arc::clone(&metrics))?))
            }
            _ => None,
        };
        let peer = |dependency, endpoint: &Option<Endpoint>| {
            let endpoint = endpoint.clone()?;
            Some(Peer::new(dependency, endpoint, settings.call_timeout, Arc::clone(&metrics)))
        };
        let broker = match settings.amqp_url.as_deref().filter(|_| is(&[Role::Inference])) {
            Some(url) => Some(Broker::new(url, &settings, Arc::clone(&metrics)).map_err(AppError::Broker)?),
            None => None,
        };
        let relay = topic_of(role).zip(database.as_ref()).map(|(topic, database)| {
            let (brokers, limit) = (settings.kafka_brokers.clone(), settings.publish_timeout);
            let parts = (Arc::clone(database), Arc::clone(&tracer), Arc::clone(&metrics));
            Relay::new(topic, brokers, parts.0, parts.1, parts.2, limit)
        });
        let callers = is(&[Role::Inference, Role::Decision]).then(|| peer("auth", &settings.auth_url));
        let app = Self {
            database,
            kv: if is(&[Role::Backend, Role::Auth]) {
                Kv::new(&settings, Arc::clone(&metrics))?
            } else {
                None
            },
            models: LocalCache::new(settings.local_cache_ttl, settings.local_cache_entries_max),
            passwords: if is(&[Role::Auth]) { Some(Passwords::new()?) } else { None },
            callers: callers.flatten().map(|auth| Callers::new(auth, Arc::clone(&metrics))),
            broker,
            relay,
            features: is(&[Role::Decision]).then(Arc::default),
            registry: peer("model", &settings.model_url),
            inference: peer("inference", &settings.inference_url),
            site: is(&[Role::Frontend]).then(Site::new),
            readiness: Readiness::default(),
            in_flight: Semaphore::new(settings.in_flight_max),
            draining: AtomicBool::new(false),
            tracer,
            metrics,
            settings,
        };
        Ok((Arc::new(app), reporter))
    }

    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.settings.request_timeout)
    }

    /// # Errors
    /// A bug: the route belongs to a role that has a database.
    pub fn database(&self) -> Result<&Database, ApiError> {
        self.database.as_deref().ok_or_else(|| absent("database"))
    }

    /// # Errors
    /// When Redis is not configured.
    pub fn kv(&self) -> Result<&Kv, ApiError> {
        self.kv.as_deref().ok_or_else(|| ApiError::Away("redis is not configured".into()))
    }

    /// From now on the process is not ready.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn local_model(&self, id: i64) -> Option<Model> {
        self.models.get(&id, Instant::now())
    }

    pub fn keep_local(&self, model: &Model) {
        self.models.put(model.id, model.clone(), Instant::now());
    }

    /// Brings the gauges up to date, for a scrape.
    pub fn observe(&self) {
        if let Some(database) = &self.database {
            database.observe_pools();
        }
        if let Some(kv) = &self.kv {
            kv.observe_circuits();
        }
        if let Some(broker) = &self.broker {
            broker.observe();
        }
        let auth = self.callers.as_ref().map(Callers::peer);
        auth.into_iter().chain(&self.registry).chain(&self.inference).for_each(Peer::observe);
    }
}

/// A part that the role has is missing: a bug, nothing was done.
#[must_use]
pub fn absent(part: &str) -> ApiError {
    ApiError::Internal(format!("this role has no {part}"))
}

/// The events that a role relays.
fn topic_of(role: Role) -> Option<Topic> {
    match role {
        Role::Model => Some(Topic::ModelEvents),
        Role::Inference => Some(Topic::InferenceResults),
        Role::Decision => Some(Topic::Decisions),
        Role::Backend | Role::Auth | Role::Frontend => None,
    }
}
