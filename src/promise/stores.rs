//! Databases, cache and queues: how many copies, how they are kept apart, and the settings that keep what is acknowledged.

use serde_json::Value;

use super::case::Case;
use super::manifests::{Manifests, PREFIX, env, list, long_running, number, pod, setting, title};

/// What a service's pool holds when `POOL_MAX` is not set: the default of `stack/platform`.
const POOL_MAX_DEFAULT: i64 = 16;
/// Connections that PostgreSQL must have left for Patroni, replication, probes and people.
const CONNECTIONS_KEPT: i64 = 10;

/// P1: the guide's number, and room for everybody when all have scaled out.
pub(super) fn client_connections(manifests: &Manifests<'_>, case: &mut Case) {
    let Some((pooler, ini)) = pooler(manifests, case) else { return };
    let most = number(ini, "max_client_conn");
    case.at_least("max_client_conn", most, 2000);
    let (Some(each), Some((poolers, _))) = (most, manifests.copies(pooler)) else { return };
    let (mut clients, mut asked) = (0, 0);
    for workload in manifests.workloads() {
        for container in long_running(workload) {
            let pools = ["DATABASE_URL", "DATABASE_RO_URL"].iter();
            let pools =
                pools.filter(|name| env(container, name).is_some_and(|url| url.contains("pgbouncer")));
            let pools = i64::try_from(pools.count()).unwrap_or(0);
            if pools == 0 {
                continue;
            }
            let size = match (env(container, "POOL_MAX"), env(container, "CELERY_CONCURRENCY")) {
                (Some(text), _) | (None, Some(text)) => text.parse().ok(),
                (None, None) => Some(POOL_MAX_DEFAULT),
            };
            let copies = manifests.copies(workload).map(|(_, most)| most);
            let (Some(size), Some(copies)) = (size, copies) else {
                case.unseen(format!("how many connections {} opens", title(workload)));
                continue;
            };
            clients += copies * pools * size;
            asked += 1;
        }
    }
    if asked == 0 {
        case.unseen("no workload has PgBouncer's address");
    }
    let room = each * poolers;
    case.hold(
        format!("at their most the services open {clients} connections; {poolers} poolers take {room}"),
        clients <= room,
    );
}

fn pooler<'a>(manifests: &Manifests<'a>, case: &mut Case) -> Option<(&'a Value, &'a str)> {
    let pooler = case.need("the workload pgbouncer", manifests.workload("pgbouncer"))?;
    let ini = manifests.config(&format!("{PREFIX}pgbouncer"), "pgbouncer.ini");
    Some((pooler, case.need("pgbouncer.ini", ini)?))
}

fn patroni(manifests: &Manifests<'_>, case: &mut Case) -> Option<Value> {
    let found = manifests.config_yaml(&format!("{PREFIX}postgres"), "patroni.yml");
    case.need("patroni.yml", found)
}

/// P2: many clients on few server connections, and these fit the server, also while poolers are replaced.
pub(super) fn connection_pool(manifests: &Manifests<'_>, case: &mut Case) {
    let Some((pooler, ini)) = pooler(manifests, case) else { return };
    let Some(patroni) = patroni(manifests, case) else { return };
    case.want("pool_mode", setting(ini, "pool_mode"), &"transaction");
    let values = ["max_client_conn", "default_pool_size", "max_db_connections"].map(|name| number(ini, name));
    let [Some(clients), Some(pool), Some(servers)] = values else {
        case.unseen("the pool's sizes cannot be read");
        return;
    };
    case.hold(format!("the pool is {pool}, over max_db_connections {servers}"), pool <= servers);
    case.hold(format!("{servers} server connections do not cut {clients} clients"), servers * 10 <= clients);
    let parameters = &patroni["bootstrap"]["dcs"]["postgresql"]["parameters"];
    let limit = parameters["max_connections"].as_i64();
    let copies = manifests.copies(pooler);
    let (Some(limit), Some((_, copies))) = (limit, copies) else {
        case.unseen("max_connections or the number of poolers cannot be read");
        return;
    };
    // One server is the primary or a replica, so it serves one of the two databases; one pooler more during a rollout.
    let most = (copies + 1) * servers + CONNECTIONS_KEPT;
    case.hold(
        format!("poolers may open {most} connections with what is kept; {limit} are allowed"),
        most <= limit,
    );
}

/// P3: three members on three nodes, and a commit is acknowledged when two have it.
pub(super) fn replication(manifests: &Manifests<'_>, case: &mut Case) {
    members(manifests, case, "postgres", 3);
    let Some(patroni) = patroni(manifests, case) else { return };
    let dcs = &patroni["bootstrap"]["dcs"];
    case.want("synchronous_mode", dcs["synchronous_mode"].as_bool(), &true);
    let parameters = &dcs["postgresql"]["parameters"];
    case.want("hot_standby", parameters["hot_standby"].as_str(), &"on");
    let level = parameters["wal_level"].as_str();
    if let Some(level) = case.need("wal_level", level) {
        case.hold(format!("wal_level is {level}"), ["replica", "logical"].contains(&level));
    }
    case.at_least("max_wal_senders", parameters["max_wal_senders"].as_i64(), 2);
}

/// As many copies as promised, and the scheduler may not put them together.
fn members<'a>(manifests: &Manifests<'a>, case: &mut Case, app: &str, count: i64) -> Option<&'a Value> {
    let workload = case.need(format!("the workload {app}"), manifests.workload(app))?;
    case.want(format!("replicas of {}", title(workload)), workload["spec"]["replicas"].as_i64(), &count);
    let rule = |rule: &Value| rule["topologyKey"] == "kubernetes.io/hostname";
    let spread = list(&pod(workload)["topologySpreadConstraints"])
        .any(|one| rule(one) && one["whenUnsatisfiable"] == "DoNotSchedule" && one["maxSkew"] == 1);
    let affinity = &pod(workload)["affinity"]["podAntiAffinity"];
    let apart = list(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).any(rule);
    case.hold(format!("pods of {} may share a node", title(workload)), spread || apart);
    Some(workload)
}

pub(super) fn redis_cluster(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(workload) = members(manifests, case, "redis", 6) else { return };
    let config = manifests.config(&format!("{PREFIX}redis"), "redis.conf");
    let enabled = config.and_then(|text| setting(text, "cluster-enabled"));
    case.want("cluster-enabled", enabled, &"yes");
    let redis = long_running(workload).find(|one| one["name"] == "redis");
    let Some(redis) = case.need("the container redis", redis) else { return };
    case.want("REDIS_NODES_COUNT", env(redis, "REDIS_NODES_COUNT"), &"6");
    case.want("REDIS_REPLICAS", env(redis, "REDIS_REPLICAS"), &"1");
}

pub(super) fn kafka(manifests: &Manifests<'_>, case: &mut Case) {
    members(manifests, case, "kafka", 3);
    let name = format!("{PREFIX}kafka");
    let Some(text) = case.need("server.properties", manifests.config(&name, "server.properties")) else {
        return;
    };
    case.want("default.replication.factor", setting(text, "default.replication.factor"), &"3");
    case.want("min.insync.replicas", setting(text, "min.insync.replicas"), &"2");
    let unclean = setting(text, "unclean.leader.election.enable");
    case.want("unclean.leader.election.enable", unclean, &"false");
    let Some(topics) = case.need("the list of topics", manifests.config(&name, "topics")) else { return };
    for line in topics.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kept = words.get(2) == Some(&"3") && words.contains(&"min.insync.replicas=2");
        case.hold(format!("topic {line} is not on three brokers with two in sync"), kept);
    }
}

/// K2: a quorum in each queue, and routing by topic to more than one.
pub(super) fn rabbitmq(manifests: &Manifests<'_>, case: &mut Case) {
    members(manifests, case, "rabbitmq", 3);
    let name = format!("{PREFIX}rabbitmq");
    let handling =
        manifests.config(&name, "rabbitmq.conf").and_then(|text| setting(text, "cluster_partition_handling"));
    case.want("cluster_partition_handling", handling, &"pause_minority");
    let found = manifests.config(&name, "definitions.json").and_then(|text| serde_json::from_str(text).ok());
    let Some(definitions): Option<Value> = case.need("definitions.json", found) else { return };
    let queues: Vec<&Value> = list(&definitions["queues"]).collect();
    case.hold("no queue is defined", !queues.is_empty());
    for queue in queues {
        let kind = &queue["arguments"]["x-queue-type"];
        case.hold(format!("queue {} is {kind}, not a quorum queue", queue["name"]), kind == "quorum");
    }
    let routed = list(&definitions["exchanges"]).filter(|one| one["type"] == "topic").any(|exchange| {
        let bound = list(&definitions["bindings"]).filter(|one| one["source"] == exchange["name"]);
        bound.count() >= 2
    });
    case.hold("no topic exchange routes to two queues", routed);
}

pub(super) fn zookeeper(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(workload) = members(manifests, case, "zookeeper", 3) else { return };
    let server = long_running(workload).find_map(|one| env(one, "ZOOKEEPER_SERVERS"));
    case.want("ZOOKEEPER_SERVERS", server, &"3");
    let kafka = manifests.workload("kafka");
    let connect = kafka.and_then(|one| long_running(one).find_map(|one| env(one, "ZOOKEEPER_CONNECT")));
    if let Some(connect) = case.need("ZOOKEEPER_CONNECT of kafka", connect) {
        let known = connect.matches("zookeeper-pods:").count();
        case.hold(format!("kafka knows {known} of three ZooKeepers"), known == 3);
    }
}
