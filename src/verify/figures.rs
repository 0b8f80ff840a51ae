//! What the components say of themselves, through Prometheus: one query a row, and what it must give.

use super::prometheus::{Prometheus, Series};
use super::{Row, Section, Seen, unseen};
use crate::model::{Finding, Verdict};

/// What a query's one value must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Want {
    Exactly(f64),
    AtLeast(f64),
    /// As many as pods of this name should run.
    Replicas(&'static str),
    /// One fewer than that.
    OtherReplicas(&'static str),
    /// As many as pods with a proxy run.
    Proxies,
}

struct Figure {
    claims: &'static [&'static str],
    what: &'static str,
    query: &'static str,
    want: Want,
}

/// Queries that give nothing when there is nothing: an absent component is inconclusive, never zero.
const FIGURES: [Figure; 15] = [
    Figure {
        claims: &["P3/streams"],
        what: "postgres: replicas that stream",
        query: "count(patroni_replica == 1 and patroni_postgres_running == 1)",
        want: Want::OtherReplicas("postgres"),
    },
    Figure {
        claims: &["P3/streams"],
        what: "postgres: synchronous standbys",
        query: "sum(patroni_sync_standby)",
        want: Want::AtLeast(1.0),
    },
    Figure {
        claims: &["R1"],
        what: "redis: nodes that call the cluster ok",
        query: "sum(redis_cluster_state)",
        want: Want::Replicas("redis"),
    },
    Figure {
        claims: &["R1"],
        what: "redis: slots served, by the node that knows fewest",
        query: "min(redis_cluster_slots_ok)",
        want: Want::Exactly(16384.0),
    },
    Figure {
        claims: &["R1"],
        what: "redis: primaries with slots",
        query: "max(redis_cluster_size)",
        want: Want::Exactly(3.0),
    },
    Figure {
        claims: &["R1"],
        what: "redis: replicas with a living link",
        query: "count(redis_master_link_up == 1)",
        want: Want::Exactly(3.0),
    },
    Figure {
        claims: &["R2/lru"],
        what: "redis: nodes that evict the least recently used of all keys",
        query: "count(redis_instance_info{maxmemory_policy=\"allkeys-lru\"})",
        want: Want::Replicas("redis"),
    },
    Figure {
        claims: &["K1/isr"],
        what: "kafka: brokers that the controller knows",
        query: "sum(kafka_controller_kafkacontroller_activebrokercount)",
        want: Want::Replicas("kafka"),
    },
    Figure {
        claims: &["K1/isr"],
        what: "kafka: partitions that lack a replica or a leader",
        query: "sum(kafka_server_replicamanager_underreplicatedpartitions) + sum(kafka_controller_kafkacontroller_offlinepartitionscount)",
        want: Want::Exactly(0.0),
    },
    Figure {
        claims: &["K1/isr"],
        what: "kafka: replicas of partitions",
        query: "sum(kafka_server_replicamanager_partitioncount)",
        want: Want::AtLeast(9.0),
    },
    Figure {
        claims: &["K2/quorum"],
        what: "rabbitmq: members of the smallest quorum queue",
        query: "min(count by (queue) (rabbitmq_raft_term_total))",
        want: Want::Replicas("rabbitmq"),
    },
    Figure {
        claims: &["K2/quorum"],
        what: "rabbitmq: quorum queues",
        query: "count(count by (queue) (rabbitmq_raft_term_total{queue=~\"(inference|dead|audit)[.]jobs\"}))",
        want: Want::Exactly(3.0),
    },
    Figure {
        claims: &["K3/quorum"],
        what: "zookeeper: followers in sync with the leader",
        query: "max(synced_followers)",
        want: Want::OtherReplicas("zookeeper"),
    },
    Figure {
        claims: &["I1/proxies", "D4"],
        what: "mesh: proxies that are connected to istiod",
        query: "sum(pilot_xds)",
        want: Want::Proxies,
    },
    Figure {
        claims: &["I1/proxies", "D4"],
        what: "mesh: configurations that a proxy refused",
        query: "sum(envoy_listener_manager_lds_update_rejected) + sum(envoy_cluster_manager_cds_update_rejected)",
        want: Want::Exactly(0.0),
    },
];

pub async fn rows(prometheus: &Prometheus, seen: &Seen) -> Vec<Row> {
    let mut rows = Vec::new();
    for figure in &FIGURES {
        let finding = match prometheus.query(figure.query).await {
            Ok(series) => judge(figure, &series, seen),
            Err(why) => unseen(figure.what, why),
        };
        let section = if figure.claims.contains(&"D4") { Section::Mesh } else { Section::Members };
        rows.push(Row::new(section, figure.claims, finding));
    }
    let finding = match prometheus.query("redis_config_maxmemory").await {
        Ok(series) => maxmemory(&series, seen),
        Err(why) => unseen(MAXMEMORY, why),
    };
    rows.push(Row::new(Section::Members, &["R2/lru"], finding));
    rows
}

fn judge(figure: &Figure, series: &[Series], seen: &Seen) -> Finding {
    let [one] = series else {
        return unseen(figure.what, format!("prometheus has no value for it ({} series)", series.len()));
    };
    let wanted = match figure.want {
        Want::Exactly(value) => Some((value, value)),
        Want::AtLeast(value) => Some((value, f64::INFINITY)),
        Want::Replicas(app) => replicas(seen, app).map(|count| (count, count)),
        Want::Proxies => proxies(seen).map(|count| (count, count)),
        Want::OtherReplicas(app) => replicas(seen, app).map(|count| (count - 1.0, count - 1.0)),
    };
    let Some((low, high)) = wanted else {
        return unseen(figure.what, "its workload is not there, so nobody can say how many there should be");
    };
    let verdict = if (low..=high).contains(&one.value) { Verdict::Pass } else { Verdict::Fail };
    let bound = if high.is_infinite() { format!("at least {low}") } else { format!("{low}") };
    Finding::new(figure.what, verdict, format!("{}, wanted {bound}", one.value))
}

/// Sidecars bear a label of the mesh; the gateway is one of its own.
fn proxies(seen: &Seen) -> Option<f64> {
    let proxied = |pod: &&serde_json::Value| {
        let labels = &pod["metadata"]["labels"];
        pod["status"]["phase"] == "Running"
            && (labels["security.istio.io/tlsMode"] == "istio"
                || labels["app.kubernetes.io/name"] == "gateway")
    };
    let count = seen.of("Pod").iter().filter(proxied).count();
    (count > 0).then_some(count as f64)
}

/// How many the workload of that name is set to.
fn replicas(seen: &Seen, app: &str) -> Option<f64> {
    let named = |set: &&serde_json::Value| set["metadata"]["labels"]["app.kubernetes.io/name"] == app;
    let set = seen.of("StatefulSet").iter().find(named)?;
    set["spec"]["replicas"].as_f64().filter(|replicas| *replicas > 0.0)
}

const MAXMEMORY: &str = "redis: every node has the promised maxmemory";

/// What the servers say, against what their manifest sets.
fn maxmemory(series: &[Series], seen: &Seen) -> Finding {
    let set = seen.of("StatefulSet").iter().find(|set| set["metadata"]["name"] == "ai-platform-redis");
    let containers = set.and_then(|set| set["spec"]["template"]["spec"]["containers"].as_array());
    let env = containers.into_iter().flatten().filter_map(|container| container["env"].as_array()).flatten();
    let text = env.filter(|one| one["name"] == "REDIS_MAXMEMORY").find_map(|one| one["value"].as_str());
    let Some(wanted) = text.and_then(bytes) else {
        return unseen(MAXMEMORY, "REDIS_MAXMEMORY of ai-platform-redis is not there or no size");
    };
    let wrong = series.iter().filter(|one| (one.value - wanted).abs() > 0.5);
    let wrong = wrong.map(|one| {
        let pod = one.labels.get("pod").map_or("a node", String::as_str);
        format!("{pod} has {} bytes, not {wanted}", one.value)
    });
    super::all_of(MAXMEMORY, series.len(), &format!("nodes, {wanted} bytes each"), wrong.collect())
}

/// `96mb`, as Redis reads it.
fn bytes(text: &str) -> Option<f64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1.0,
        "kb" => 1024.0,
        "mb" => 1024.0 * 1024.0,
        "gb" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    fn value(value: f64) -> Vec<Series> {
        vec![Series { labels: std::collections::BTreeMap::new(), value }]
    }

    fn seen() -> Seen {
        let set = json!({ "metadata": { "name": "ai-platform-redis",
            "labels": { "app.kubernetes.io/name": "redis" } },
            "spec": { "replicas": 6, "template": { "spec": { "containers": [
                { "env": [{ "name": "REDIS_MAXMEMORY", "value": "96mb" }] }] } } } });
        Seen { objects: [("StatefulSet", vec![set])].into() }
    }

    #[test]
    fn a_figure_passes_fails_and_is_unknown() {
        let figure = |want| Figure { claims: &[], what: "x", query: "", want };
        for (want, series, verdict) in [
            (Want::Exactly(0.0), value(0.0), Pass),
            (Want::Exactly(0.0), value(1.0), Fail),
            (Want::Exactly(0.0), value(f64::NAN), Fail),
            (Want::Exactly(0.0), vec![], Inconclusive),
            (Want::AtLeast(1.0), value(2.0), Pass),
            (Want::AtLeast(1.0), value(0.0), Fail),
            (Want::Replicas("redis"), value(6.0), Pass),
            (Want::Replicas("redis"), value(5.0), Fail),
            (Want::Replicas("kafka"), value(6.0), Inconclusive),
            (Want::OtherReplicas("redis"), value(5.0), Pass),
            (Want::Proxies, value(1.0), Inconclusive),
        ] {
            assert_eq!(judge(&figure(want), &series, &seen()).verdict, verdict, "{want:?} {series:?}");
        }
    }

    #[test]
    fn maxmemory_is_the_manifests() {
        assert_eq!(bytes("2gb"), Some(2_147_483_648.0));
        assert_eq!(maxmemory(&value(100_663_296.0), &seen()).verdict, Pass);
        assert_eq!(maxmemory(&value(0.0), &seen()).verdict, Fail);
        assert_eq!(maxmemory(&[], &seen()).verdict, Inconclusive);
        assert_eq!(maxmemory(&value(1.0), &Seen::default()).verdict, Inconclusive);
    }
}
