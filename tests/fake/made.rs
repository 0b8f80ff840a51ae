//! What stands in the in-memory cluster: workloads, and the groups that replicate.

use mettle::model::Component;

use super::group::Group;
use super::state::{Pod, State};

impl State {
    pub fn fill(&mut self) {
        let b = self.behaviour.clone();
        self.workload("StatefulSet/postgres", Component::Postgres, 3, |i| i % 3);
        let redis = if b.redis_replicas { 6 } else { 3 };
        // A replica is on another node than its primary.
        self.workload("StatefulSet/redis", Component::Redis, redis, |i| (i + i / 3) % 3);
        self.workload("ReplicaSet/pgbouncer-5d", Component::Pgbouncer, 2, |i| i % 3);
        self.workload("ReplicaSet/backend-7c", Component::Backend, b.backends as usize, |i| i % 3);
        self.workload("ReplicaSet/inference-5b", Component::Inference, 2, |i| i % 3);
        self.workload("StatefulSet/rabbitmq", Component::Rabbitmq, 3, |i| i % 3);
        self.workload("StatefulSet/kafka", Component::Kafka, 3, |i| i % 3);
        self.workload("StatefulSet/zookeeper", Component::Zookeeper, 3, |i| i % 3);
        for (controller, component) in [
            ("ReplicaSet/celery-4a", Component::Celery),
            ("ReplicaSet/gateway-6f", Component::Gateway),
            ("ReplicaSet/edge-3c", Component::Edge),
        ] {
            self.workload(controller, component, 2, |i| i % 3);
        }
        let mut postgres =
            Group::new(Component::Postgres, "ai-platform", (0..3).map(|i| format!("postgres-{i}")).collect());
        (postgres.synchronous, postgres.lag_ms) = (b.synchronous, b.lag_ms);
        self.groups.push(postgres);
        for (i, slots) in [(0, 5460), (5461, 10922), (10923, 16383)].into_iter().enumerate() {
            let members = [i, i + 3].into_iter().filter(|i| *i < redis).map(|i| format!("redis-{i}"));
            let mut shard = Group::new(Component::Redis, &format!("slot:{}", slots.0), members.collect());
            (shard.synchronous, shard.persistent, shard.lag_ms) = (false, false, 20);
            shard.slots = vec![slots];
            self.groups.push(shard);
        }
        // After the stores: the load finds those by their place.
        for (component, scope, first) in [
            (Component::Zookeeper, "ensemble", 0),
            (Component::Kafka, "decisions/0", 0),
            (Component::Kafka, "controller", 1),
            (Component::Rabbitmq, "inference.jobs", 0),
        ] {
            let members = (0..3).map(|i| format!("{component}-{}", (i + first) % 3));
            self.groups.push(Group::new(component, scope, members.collect()));
        }
    }

    fn workload(&mut self, controller: &str, component: Component, count: usize, node: fn(usize) -> usize) {
        let prefix = controller.split_once('/').map_or(controller, |(_, name)| name);
        for i in 0..count {
            self.pods.push(Pod {
                name: format!("{prefix}-{i}"),
                uid: format!("uid-{prefix}-{i}"),
                node: self.nodes[node(i)].name.clone(),
                component,
                controller: controller.to_owned(),
                ready: true,
                terminating: false,
                running: true,
                paused: false,
                cut: false,
                incarnation: 1,
                synced_at_ms: 0,
            });
        }
        let count = i32::try_from(count).expect("a few");
        self.desired.insert(controller.to_owned(), (component, count));
    }
}
