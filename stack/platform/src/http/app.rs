//! What every handler can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::Semaphore;

use super::health::Readiness;
use crate::cache::LocalCache;
use crate::cli::Role;
use crate::config::Settings;
use crate::deadline::Deadline;
use crate::metrics::Metrics;
use crate::store::kv::Kv;
use crate::store::models::Model;
use crate::store::sql::Database;

pub struct App {
    pub settings: Settings,
    pub metrics: Arc<Metrics>,
    pub database: Database,
    pub kv: Option<Arc<Kv>>,
    pub models: LocalCache<Model>,
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
}

impl App {
    /// Builds all parts; connects to nothing yet.
    ///
    /// # Errors
    /// When a part cannot be built from the settings.
    pub fn new(role: Role, settings: Settings) -> Result<Arc<Self>, AppError> {
        let metrics = Arc::new(Metrics::new(role.label())?);
        Ok(Arc::new(Self {
            database: Database::new(&settings, Arc::clone(&metrics))?,
            kv: Kv::new(&settings, Arc::clone(&metrics))?,
            models: LocalCache::new(settings.local_cache_ttl, settings.local_cache_entries_max),
            readiness: Readiness::default(),
            in_flight: Semaphore::new(settings.in_flight_max),
            draining: AtomicBool::new(false),
            metrics,
            settings,
        }))
    }

    #[must_use]
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.settings.request_timeout)
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
        self.models.get(id, Instant::now())
    }

    pub fn keep_local(&self, model: &Model) {
        self.models.put(model.id, model.clone(), Instant::now());
    }
}
