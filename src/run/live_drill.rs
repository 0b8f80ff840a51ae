//! The real cluster as a drill's world.

use std::time::Duration;

use super::drill::DrillWorld;
use super::live::{addresses, failed};
use super::{LiveWorld, WorldError};
use crate::cluster::{self, StoreMembers};
use crate::component::{self, Moment};
use crate::model::{Component, Snapshot, Store};

const BACKUP_DEADLINE: Duration = Duration::from_secs(600);
const ROLE_DEADLINE: Duration = Duration::from_secs(3);
const MOMENT_DEADLINE: Duration = Duration::from_secs(10);

fn component_of(store: Store) -> Component {
    match store {
        // Of jobs the results are rows of the database.
        Store::Postgres | Store::Jobs => Component::Postgres,
        Store::Redis => Component::Redis,
        Store::Kafka => Component::Kafka,
    }
}

impl LiveWorld {
    async fn seen(&self) -> Result<Snapshot, WorldError> {
        let snapshot = cluster::snapshot(&self.client, &self.namespace).await;
        snapshot.map_err(failed("failed to read the cluster"))
    }
}

impl DrillWorld for LiveWorld {
    async fn members(&self, store: Store) -> Result<StoreMembers, WorldError> {
        let members = cluster::store_members(&self.client, &self.namespace, store).await;
        members.map_err(failed("failed to read the members"))
    }

    async fn in_sync(&self, store: Store) -> Result<(u32, u32), WorldError> {
        let want = DrillWorld::members(self, store).await?.want;
        let component = component_of(store);
        let pods = addresses(&self.seen().await?, component);
        let members = self.eyes.members(component, &pods, ROLE_DEADLINE).await;
        let members =
            members.ok_or_else(|| WorldError::new(format!("no member of {component} can be asked")))?;
        Ok((component::redundancy(&members), want))
    }

    async fn back_up(&self, store: Store, job: &str) -> Result<String, WorldError> {
        let cron = format!("ai-platform-{}-backup", store.as_str());
        let ran = cluster::run_job(&self.client, &self.namespace, &cron, job, BACKUP_DEADLINE).await;
        ran.map_err(failed("the backup job did not end well"))
    }

    async fn moment(&self, store: Store) -> Result<Moment, WorldError> {
        let snapshot = self.seen().await?;
        match store {
            Store::Postgres => {
                let primary = self.primary(&snapshot).await?;
                let moment =
                    component::postgres_moment(&self.dialer, &primary, &self.credentials, MOMENT_DEADLINE)
                        .await;
                moment.map_err(failed("failed to ask the database"))
            }
            Store::Redis => {
                let pods = addresses(&snapshot, Component::Redis);
                let bytes = component::redis_bytes(&self.dialer, &pods, ROLE_DEADLINE).await;
                let bytes = bytes.map_err(failed("failed to ask redis"))?;
                Ok(Moment { time: String::new(), bytes, segment: String::new(), archived: None })
            }
            Store::Jobs | Store::Kafka => {
                Err(WorldError::new(format!("{} has no backup of its own", store.as_str())))
            }
        }
    }
}
