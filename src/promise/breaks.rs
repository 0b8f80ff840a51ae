//! For each promise, changes of the real manifests after which it is broken, and must be seen to be.

use serde_json::{Value, json};

pub(super) struct Break {
    pub promise: &'static str,
    pub what: &'static str,
    pub change: fn(&mut Vec<Value>),
}

type Objects = Vec<Value>;

fn one<'a>(objects: &'a mut Objects, kind: &str, name: &str) -> &'a mut Value {
    let name = format!("ai-platform-{name}").replace("ai-platform-/", "");
    let wanted = |object: &&mut Value| object["kind"] == kind && object["metadata"]["name"] == *name;
    objects.iter_mut().find(wanted).unwrap_or_else(|| panic!("{kind} {name} is not there"))
}

fn set(objects: &mut Objects, kind: &str, name: &str, path: &str, value: Value) {
    let object = one(objects, kind, name);
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{kind} {name} has no {path}"));
    match parent {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        fields => fields[key.replace("~1", "/")] = value,
    }
}

/// Replaces a text in one file of a ConfigMap.
fn text(objects: &mut Objects, name: &str, file: &str, from: &str, to: &str) {
    let place = &mut one(objects, "ConfigMap", name)["data"][file];
    let old = place.as_str().unwrap_or_else(|| panic!("{name} has no {file}")).to_owned();
    assert!(old.contains(from), "{file} of {name} has no {from:?}");
    *place = Value::from(old.replace(from, to));
}

/// Sets a variable of a workload's first container.
fn env(objects: &mut Objects, kind: &str, name: &str, key: &str, value: &str) {
    let container = &mut one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
    let list = container["env"].as_array_mut().expect("variables");
    list.retain(|one| one["name"] != key);
    list.push(json!({ "name": key, "value": value }));
}

fn drop_one(objects: &mut Objects, kind: &str, name: &str) {
    let at = objects.iter().position(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    objects.remove(at.unwrap_or_else(|| panic!("{kind} {name} is not there")));
}

const POD: &str = "/spec/template/spec";
const FIRST: &str = "/spec/template/spec/containers/0";

fn in_pod(objects: &mut Objects, name: &str, field: &str, value: Value) {
    set(objects, "Deployment", name, &format!("{POD}/{field}"), value);
}

fn in_container(objects: &mut Objects, name: &str, field: &str, value: Value) {
    set(objects, "Deployment", name, &format!("{FIRST}/{field}"), value);
}

fn scaler(objects: &mut Objects, name: &str, field: &str, value: Value) {
    set(objects, "HorizontalPodAutoscaler", name, &format!("/spec/{field}"), value);
}

const fn of(promise: &'static str, what: &'static str, change: fn(&mut Vec<Value>)) -> Break {
    Break { promise, what, change }
}

#[rustfmt::skip]
pub(super) const BREAKS: &[Break] = &[
    of("namespace", "the mesh's label is gone", |o| set(o, "Namespace", "/ai-platform", "/metadata/labels/istio-injection", json!("disabled"))),
    of("secret-references", "a Secret with data", |o| o.push(json!({ "kind": "Secret", "metadata": { "name": "s" }, "data": { "a": "Yg==" } }))),
    of("secret-references", "a key that nobody makes", |o| in_container(o, "backend", "env/0", json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": "ai-platform-secrets", "key": "nothing" } } }))),
    of("apply-order", "the frontend first", |o| { let last = o.iter().position(|one| one["kind"] == "Deployment" && one["metadata"]["name"] == "ai-platform-frontend").unwrap(); let object = o.remove(last); o.insert(0, object); }),
    of("apply-order", "Redis before PostgreSQL", |o| { let at = |o: &Objects, name: &str| o.iter().position(|one| one["kind"] == "StatefulSet" && one["metadata"]["name"] == name).unwrap(); let (a, b) = (at(o, "ai-platform-postgres"), at(o, "ai-platform-redis")); o.swap(a, b); }),
    of("images-pinned", "latest", |o| in_container(o, "backend", "image", json!("localhost/mettle/platform:latest"))),
    of("images-pinned", "no tag", |o| in_container(o, "kong", "image", json!("registry:5000/kong"))),
    of("images-pinned", "the sidecar's", |o| set(o, "ConfigMap", "/istio-sidecar-injector", "/data/values", json!("global:\n  proxy:\n    image: localhost/mettle/proxy:latest\n"))),
    of("images-released", "dev", |o| in_container(o, "backend", "image", json!("localhost/mettle/platform:dev"))),
    of("images-released", "the sidecar's dev", |o| set(o, "ConfigMap", "/istio-sidecar-injector", "/data/values", json!("global:\n  proxy:\n    image: localhost/mettle/proxy:dev\n"))),
    of("routes-and-health-checks", "no route to decision", |o| text(o, "kong", "kong.yaml", "host: decision", "host: nowhere")),
    of("routes-and-health-checks", "the gateway's, where Kong is not", |o| { drop_one(o, "Deployment", "ai-platform-kong"); set(o, "VirtualService", "gateway", "/spec/http/0/route/0/destination/host", json!("elsewhere")); }),
    of("routes-and-health-checks", "no outlier detection, where Kong is not", |o| { drop_one(o, "Deployment", "ai-platform-kong"); set(o, "DestinationRule", "auth", "/spec/trafficPolicy/outlierDetection", json!({})); }),
    of("kong-is-the-gateway", "no active checks", |o| text(o, "kong", "kong.yaml", "active:", "passive:")),
    of("kong-is-the-gateway", "the caller's Host", |o| text(o, "kong", "kong.yaml", "preserve_host: false", "preserve_host: true")),
    of("kong-is-the-gateway", "not let in", |o| drop_one(o, "NetworkPolicy", "ai-platform-kong-routes")),
    of("backend-autoscaling", "49", |o| scaler(o, "backend", "minReplicas", json!(49))),
    of("backend-autoscaling", "501", |o| scaler(o, "backend", "maxReplicas", json!(501))),
    of("backend-autoscaling", "CPU 75", |o| scaler(o, "backend", "metrics/0/resource/target/averageUtilization", json!(75))),
    of("backend-autoscaling", "memory 70", |o| scaler(o, "backend", "metrics/1/resource/target/averageUtilization", json!(70))),
    of("backend-autoscaling", "no request", |o| in_container(o, "backend", "resources/requests", json!({ "memory": "1Mi" }))),
    of("backend-autoscaling", "replicas beside it", |o| set(o, "Deployment", "backend", "/spec/replicas", json!(50))),
    of("frontend-autoscaling", "9", |o| scaler(o, "frontend", "minReplicas", json!(9))),
    of("frontend-autoscaling", "memory 90", |o| scaler(o, "frontend", "metrics/1/resource/target/averageUtilization", json!(90))),
    of("services-autoscaling", "auth on CPU only", |o| { let list = one(o, "HorizontalPodAutoscaler", "auth")["spec"]["metrics"].as_array_mut().unwrap(); list.truncate(1); }),
    of("services-autoscaling", "model does not scale", |o| scaler(o, "model", "maxReplicas", json!(5))),
    of("services-autoscaling", "decision as auth", |o| { let resources = one(o, "Deployment", "auth")["spec"]["template"]["spec"]["containers"][0]["resources"].clone(); in_container(o, "decision", "resources", resources); }),
    of("worker-autoscaling", "51", |o| scaler(o, "celery-worker", "maxReplicas", json!(51))),
    of("worker-autoscaling", "another metric", |o| scaler(o, "celery-worker", "metrics/0/external/metric/name", json!("other"))),
    of("worker-autoscaling", "nobody answers", |o| text(o, "metrics-adapter", "adapter.yml", "celery_queue_length", "other")),
    of("edge-autoscaling", "9", |o| scaler(o, "edge", "minReplicas", json!(9))),
    of("edge-autoscaling", "on CPU", |o| scaler(o, "edge", "metrics", json!([{ "type": "Resource", "resource": { "name": "cpu" } }]))),
    of("client-connections", "1,999", |o| text(o, "pgbouncer", "pgbouncer.ini", "max_client_conn = 2100", "max_client_conn = 1999")),
    of("client-connections", "more pools than fit", |o| env(o, "Deployment", "backend", "POOL_MAX", "16")),
    of("connection-pool", "session pooling", |o| text(o, "pgbouncer", "pgbouncer.ini", "pool_mode = transaction", "pool_mode = session")),
    of("connection-pool", "a connection a client", |o| text(o, "pgbouncer", "pgbouncer.ini", "max_db_connections = 25", "max_db_connections = 2100")),
    of("connection-pool", "more than the server takes", |o| text(o, "postgres", "patroni.yml", "max_connections: 120", "max_connections: 80")),
    of("connection-pool", "too many poolers", |o| set(o, "Deployment", "pgbouncer", "/spec/replicas", json!(8))),
    of("replication", "two members", |o| set(o, "StatefulSet", "postgres", "/spec/replicas", json!(2))),
    of("replication", "asynchronous", |o| text(o, "postgres", "patroni.yml", "synchronous_mode: true", "synchronous_mode: false")),
    of("replication", "on one node", |o| set(o, "StatefulSet", "postgres", "/spec/template/spec/affinity", json!({}))),
    of("redis-cluster", "five nodes", |o| set(o, "StatefulSet", "redis", "/spec/replicas", json!(5))),
    of("redis-cluster", "no replicas", |o| env(o, "StatefulSet", "redis", "REDIS_REPLICAS", "0")),
    of("redis-cluster", "no cluster", |o| text(o, "redis", "redis.conf", "cluster-enabled yes", "cluster-enabled no")),
    of("redis-cluster", "anywhere", |o| set(o, "StatefulSet", "redis", "/spec/template/spec/topologySpreadConstraints/0/whenUnsatisfiable", json!("ScheduleAnyway"))),
    of("redis-memory", "1 GB", |o| env(o, "StatefulSet", "redis", "REDIS_MAXMEMORY", "1gb")),
    of("redis-memory", "no eviction", |o| text(o, "redis", "redis.conf", "allkeys-lru", "noeviction")),
    of("redis-memory", "a limit without room", |o| set(o, "StatefulSet", "redis", "/spec/template/spec/containers/0/resources/limits/memory", json!("2Gi"))),
    of("kafka-cluster", "two brokers", |o| set(o, "StatefulSet", "kafka", "/spec/replicas", json!(2))),
    of("kafka-cluster", "one in sync", |o| text(o, "kafka", "server.properties", "\nmin.insync.replicas=2", "\nmin.insync.replicas=1")),
    of("kafka-cluster", "a topic on one broker", |o| text(o, "kafka", "topics", "decisions 6 3", "decisions 6 1")),
    of("kafka-cluster", "unclean leaders", |o| text(o, "kafka", "server.properties", "unclean.leader.election.enable=false", "unclean.leader.election.enable=true")),
    of("rabbitmq-cluster", "a classic queue", |o| text(o, "rabbitmq", "definitions.json", "quorum", "classic")),
    of("rabbitmq-cluster", "one node", |o| set(o, "StatefulSet", "rabbitmq", "/spec/replicas", json!(1))),
    of("rabbitmq-cluster", "no routing by topic", |o| text(o, "rabbitmq", "definitions.json", "\"topic\"", "\"fanout\"")),
    of("rabbitmq-cluster", "minorities go on", |o| text(o, "rabbitmq", "rabbitmq.conf", "pause_minority", "ignore")),
    of("zookeeper-ensemble", "one server", |o| set(o, "StatefulSet", "zookeeper", "/spec/replicas", json!(1))),
    of("zookeeper-ensemble", "Kafka knows one", |o| env(o, "StatefulSet", "kafka", "ZOOKEEPER_CONNECT", "ai-platform-zookeeper-0.ai-platform-zookeeper-pods:2181/kafka")),
    of("strict-mutual-tls", "permissive", |o| set(o, "PeerAuthentication", "inference", "/spec/mtls/mode", json!("PERMISSIVE"))),
    of("strict-mutual-tls", "another pod's", |o| drop_one(o, "PeerAuthentication", "ai-platform-decision")),
    of("circuit-breakers", "Istio's tenth", |o| set(o, "DestinationRule", "model", "/spec/trafficPolicy/outlierDetection/maxEjectionPercent", json!(10))),
    of("circuit-breakers", "no pool", |o| set(o, "DestinationRule", "backend", "/spec/trafficPolicy/connectionPool/tcp/maxConnections", json!(0))),
    of("circuit-breakers", "no rule", |o| drop_one(o, "DestinationRule", "ai-platform-edge")),
    of("asset-cache", "not kept", |o| text(o, "edge", "common.vcl", "set beresp.ttl = 30d;", "set beresp.ttl = 0d;")),
    of("asset-cache", "not stood in for", |o| text(o, "edge", "common.vcl", "set beresp.grace = 24h;", "set beresp.grace = 0s;")),
    of("scrape-targets", "Kafka is not kept", |o| text(o, "prometheus", "prometheus.yml", "|zookeeper|kafka|", "|zookeeper|")),
    of("scrape-targets", "another port", |o| text(o, "prometheus", "prometheus.yml", "$1:9404", "$1:9405")),
    of("scrape-targets", "the exporter of Redis", |o| text(o, "prometheus", "prometheus.yml", "ai-platform-redis-exporter:9121", "elsewhere:9121")),
    of("resource-metrics", "no cAdvisor", |o| text(o, "prometheus", "prometheus.yml", "/metrics/cadvisor", "/metrics")),
    of("resource-metrics", "not allowed", |o| set(o, "ClusterRole", "prometheus", "/rules/1/resources", json!(["nodes/proxy"]))),
    of("dashboards", "no JSON", |o| set(o, "ConfigMap", "dashboards", "/data/edge.json", json!("{"))),
    of("dashboards", "a panel without a query", |o| set(o, "ConfigMap", "dashboards", "/data/edge.json", json!("{\"title\":\"t\",\"panels\":[{\"title\":\"p\"}]}"))),
    of("dashboards", "another source", |o| text(o, "grafana", "datasource.yaml", "ai-platform-prometheus", "elsewhere")),
    of("alert-rules", "nobody asks for RabbitMQ", |o| text(o, "prometheus", "alerts-data.yml", "app=\"rabbitmq\"", "app=\"other\"")),
    of("alert-rules", "not read", |o| text(o, "prometheus", "prometheus.yml", "\"alerts-*.yml\"", "none.yml")),
    of("alert-rules", "nobody is told", |o| text(o, "prometheus", "prometheus.yml", "ai-platform-alertmanager:9093", "elsewhere:9093")),
    of("tracing", "no server", |o| set(o, "Service", "zipkin", "/spec/selector", json!({ "app": "none" }))),
    of("tracing", "nothing sampled", |o| set(o, "Telemetry", "/ai-platform", "/spec/tracing/0/randomSamplingPercentage", json!(0))),
    of("tracing", "the backend is silent", |o| env(o, "Deployment", "backend", "ZIPKIN_URL", "http://elsewhere")),
    of("restart-and-disruption", "no budget", |o| drop_one(o, "PodDisruptionBudget", "ai-platform-auth")),
    of("restart-and-disruption", "never restarted", |o| in_pod(o, "auth", "restartPolicy", json!("Never"))),
    of("probes", "no liveness", |o| in_container(o, "pgbouncer", "livenessProbe", Value::Null)),
    of("probes", "a socket", |o| in_container(o, "model", "livenessProbe", json!({ "tcpSocket": { "port": 80 } }))),
    of("probes", "slow is killed", |o| in_container(o, "model", "livenessProbe/failureThreshold", json!(1))),
    of("probes", "no readiness", |o| in_container(o, "edge", "readinessProbe", Value::Null)),
    of("default-deny", "nothing is denied", |o| o.retain(|one| one["metadata"]["name"] != "default-deny")),
    of("default-deny", "everybody everywhere", |o| o.push(json!({ "kind": "NetworkPolicy", "metadata": { "name": "all", "namespace": "ai-platform" }, "spec": { "podSelector": {}, "ingress": [{}] } }))),
    of("default-deny", "nothing is said of a workload", |o| o.retain(|one| one["metadata"]["name"] != "ai-platform-grafana" || one["kind"] != "NetworkPolicy")),
    of("least-privilege", "any verb", |o| set(o, "Role", "postgres", "/rules/0/verbs", json!(["*"]))),
    of("least-privilege", "cluster-admin", |o| set(o, "ClusterRoleBinding", "prometheus", "/roleRef/name", json!("cluster-admin"))),
    of("least-privilege", "a token for nothing", |o| in_pod(o, "backend", "automountServiceAccountToken", json!(true))),
    of("least-privilege", "another's account", |o| in_pod(o, "backend", "serviceAccountName", json!("ai-platform-prometheus"))),
    of("least-privilege", "the default account", |o| in_pod(o, "backend", "serviceAccountName", json!("default"))),
    of("restricted-pods", "root", |o| in_pod(o, "backend", "securityContext/runAsNonRoot", json!(false))),
    of("restricted-pods", "a writable root", |o| in_container(o, "kong", "securityContext/readOnlyRootFilesystem", json!(false))),
    of("restricted-pods", "a capability", |o| in_container(o, "edge", "securityContext/capabilities", json!({ "drop": ["ALL"], "add": ["NET_RAW"] }))),
    of("restricted-pods", "the node's network", |o| in_pod(o, "edge", "hostNetwork", json!(true))),
    of("tls-doors", "plain text", |o| set(o, "Gateway", "gateway", "/spec/servers/0/tls/httpsRedirect", json!(false))),
    of("tls-doors", "TLS 1.0", |o| set(o, "Gateway", "gateway", "/spec/servers/1/tls/minProtocolVersion", json!("TLSV1_0"))),
    of("tls-doors", "Kong's plain text", |o| env(o, "Deployment", "kong", "KONG_PROXY_LISTEN", "0.0.0.0:8443 ssl, 0.0.0.0:8000")),
    of("tls-doors", "Kong's TLS 1.1", |o| env(o, "Deployment", "kong", "KONG_SSL_PROTOCOLS", "TLSv1.1 TLSv1.2")),
    of("no-literal-secrets", "in a variable", |o| env(o, "Deployment", "backend", "DATABASE_PASSWORD", "hunter2")),
    of("no-literal-secrets", "in an address", |o| env(o, "Deployment", "backend", "DATABASE_URL", "postgresql://ai_user:hunter2@ai-platform-pgbouncer:6432/ai_platform")),
    of("no-literal-secrets", "in a file", |o| text(o, "edge", "edge.vcl", "vcl 4.1;", "vcl 4.1; # http://a:b@c/")),
    of("known-callers", "anybody with a name", |o| set(o, "AuthorizationPolicy", "inference", "/spec/rules/0/from/0/source/principals", json!(["*"]))),
    of("known-callers", "no rule", |o| drop_one(o, "AuthorizationPolicy", "ai-platform-decision")),
];
