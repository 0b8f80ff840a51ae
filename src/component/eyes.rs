//! Asks the members of any component that has roles, and keeps the connections that it can.

use std::time::Duration;

use super::kafka::{self, Brokers};
use super::rabbitmq::{self, Nodes};
use super::{Credentials, Members, postgres, redis, zookeeper};
use crate::cluster::{Dialer, PodAddress};
use crate::model::Component;

/// A JVM, and a node that is asked three things, are slower than the small servers.
const SMALL_DEADLINE: Duration = Duration::from_millis(1000);
const LARGE_DEADLINE: Duration = Duration::from_millis(2500);
/// Between two looks. Short enough for phases of a second, long enough for two cores.
const SMALL_EVERY: Duration = Duration::from_millis(300);
const LARGE_EVERY: Duration = Duration::from_millis(1000);

pub struct Eyes {
    dialer: Dialer,
    credentials: Credentials,
    servers: postgres::Servers,
    brokers: Brokers,
    nodes: Nodes,
}

impl Eyes {
    /// Components whose members have roles of their own word.
    pub const COMPONENTS: [Component; 5] =
        [Component::Postgres, Component::Redis, Component::Zookeeper, Component::Kafka, Component::Rabbitmq];

    /// `credentials`: of the database's user for measuring. `cookie`: that of RabbitMQ's nodes.
    #[must_use]
    pub fn new(dialer: Dialer, credentials: Credentials, cookie: String) -> Self {
        let servers = postgres::Servers::new(credentials.clone());
        Self { dialer, credentials, servers, brokers: Brokers::default(), nodes: Nodes::new(cookie) }
    }

    /// How long to wait between two looks at a component.
    #[must_use]
    pub fn every(component: Component) -> Duration {
        if is_small(component) { SMALL_EVERY } else { LARGE_EVERY }
    }

    /// One of the looks that are taken again and again: bounded by a second or two.
    pub async fn look(&self, component: Component, pods: &[PodAddress]) -> Option<Members> {
        if component == Component::Postgres {
            return Some(postgres::watched(&self.servers, &self.dialer, pods, SMALL_DEADLINE).await);
        }
        let deadline = if is_small(component) { SMALL_DEADLINE } else { LARGE_DEADLINE };
        self.members(component, pods, deadline).await
    }

    /// One thorough look: roles that a target is chosen by.
    pub async fn members(
        &self,
        component: Component,
        pods: &[PodAddress],
        deadline: Duration,
    ) -> Option<Members> {
        let dialer = &self.dialer;
        match component {
            Component::Postgres => {
                Some(postgres::members(dialer, pods, Some(&self.credentials), deadline).await)
            }
            Component::Redis => Some(redis::members(dialer, pods, deadline).await),
            Component::Zookeeper => Some(zookeeper::members(dialer, pods, deadline).await),
            Component::Kafka => Some(kafka::members(&self.brokers, dialer, pods, deadline).await),
            Component::Rabbitmq => Some(rabbitmq::members(&self.nodes, dialer, pods, deadline).await),
            _ => None,
        }
    }
}

fn is_small(component: Component) -> bool {
    matches!(component, Component::Postgres | Component::Redis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Leadership;

    #[test]
    fn every_component_with_a_leader_is_looked_at() {
        for component in Component::ALL {
            let looked_at = Eyes::COMPONENTS.contains(&component);
            assert_eq!(looked_at, component.leadership() != Leadership::None, "{component}");
        }
    }
}
