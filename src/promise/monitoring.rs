//! Who is watched, who raises the alarm, and where traces go.

use serde_json::Value;

use super::case::Case;
use super::manifests::{Manifests, env, list, long_running, pod_app, selects, texts, tier, title};

const PROMETHEUS: &str = "ai-platform-prometheus";
/// Ports by whose name a pod says that it has metrics.
const METRIC_PORTS: [&str; 2] = ["metrics", "http-envoy-prom"];
/// Nobody inside can tell that these are away: Prometheus itself, and the adapter, which has no metrics.
const UNWATCHED: [&str; 2] = ["prometheus", "metrics-adapter"];

fn prometheus(manifests: &Manifests<'_>, case: &mut Case) -> Option<Value> {
    case.need("prometheus.yml", manifests.config_yaml(PROMETHEUS, "prometheus.yml"))
}

fn jobs(config: &Value) -> impl Iterator<Item = &Value> {
    list(&config["scrape_configs"])
}

/// The regular expressions here are names joined by bars, with or without a group around them.
fn names_it(regex: &Value, app: &str) -> bool {
    let text = regex.as_str().unwrap_or_default();
    text.trim_start_matches("(?:").trim_end_matches(')').split('|').any(|one| one == app)
}

/// M1: whoever has metrics is scraped, at the port that it names.
pub(super) fn scrapes(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(config) = prometheus(manifests, case) else { return };
    let rules: Vec<&Value> = jobs(&config)
        .filter(|job| job["job_name"] == "pods")
        .flat_map(|job| list(&job["relabel_configs"]))
        .collect();
    let targets: Vec<&str> = jobs(&config)
        .flat_map(|job| list(&job["static_configs"]).chain(list(&job["relabel_configs"])))
        .flat_map(|one| texts(&one["targets"]).chain(one["replacement"].as_str()))
        .collect();
    for workload in manifests.workloads() {
        let app = pod_app(workload);
        let port = long_running(workload)
            .flat_map(|one| list(&one["ports"]))
            .find(|port| METRIC_PORTS.iter().any(|name| port["name"] == *name));
        if port.is_none() && tier(workload) != "service" {
            continue;
        }
        let kept = rules.iter().any(|rule| rule["action"] == "keep" && names_it(&rule["regex"], app));
        let number = port.and_then(|port| port["containerPort"].as_i64());
        let address = rules.iter().filter(|rule| rule["target_label"] == "__address__").any(|rule| {
            let regex = rule["regex"].as_str().unwrap_or_default().split(';').next().unwrap_or_default();
            let at = rule["replacement"].as_str().unwrap_or_default().strip_prefix("$1:");
            let right = number.is_none_or(|number| at == Some(number.to_string().as_str()));
            names_it(&Value::from(regex), app) && right
        });
        let by_name = number
            .is_some_and(|number| targets.iter().any(|target| target.ends_with(&format!("{app}:{number}"))));
        case.hold(
            format!("the metrics of {} are not scraped", title(workload)),
            (kept && address) || by_name,
        );
    }
}

/// M2: what pods and nodes use, from the kubelets, which Prometheus may ask.
pub(super) fn resources(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(config) = prometheus(manifests, case) else { return };
    for path in ["/metrics/resource", "/metrics/cadvisor"] {
        let asked = jobs(&config).any(|job| {
            job["metrics_path"] == path
                && list(&job["kubernetes_sd_configs"]).any(|one| one["role"] == "node")
        });
        case.hold(format!("no job reads {path} of the nodes"), asked);
    }
    let role = manifests.get("ClusterRole", PROMETHEUS);
    let Some(role) = case.need("the ClusterRole of Prometheus", role) else { return };
    let may = |resource: &str, verb: &str| {
        list(&role["rules"]).any(|rule| {
            texts(&rule["resources"]).any(|one| one == resource)
                && texts(&rule["verbs"]).any(|one| one == verb)
        })
    };
    case.hold("Prometheus may not read nodes/metrics", may("nodes/metrics", "get"));
    case.hold("Prometheus may not list nodes", may("nodes", "list"));
}

/// M3: dashboards that load, each panel with a query; and where Grafana is, its data source.
pub(super) fn dashboards(manifests: &Manifests<'_>, case: &mut Case) {
    let found = manifests.get("ConfigMap", "ai-platform-dashboards");
    let Some(config) = case.need("the dashboards", found) else { return };
    for (file, text) in config["data"].as_object().into_iter().flatten() {
        let board: Option<Value> = text.as_str().and_then(|text| serde_json::from_str(text).ok());
        let Some(board) = board else {
            case.hold(format!("{file} is no JSON"), false);
            continue;
        };
        let panels: Vec<&Value> = list(&board["panels"]).filter(|panel| panel["type"] != "row").collect();
        case.hold(
            format!("{file} has no title or no panel"),
            board["title"].is_string() && !panels.is_empty(),
        );
        for panel in panels {
            let mut queries = list(&panel["targets"]).peekable();
            let asks = queries.peek().is_some()
                && queries.all(|one| one["expr"].as_str().is_some_and(|text| !text.is_empty()));
            case.hold(format!("panel {} of {file} asks nothing", panel["title"]), asks);
        }
    }
    if manifests.workload("grafana").is_none() {
        case.note("Grafana is not in this overlay: nothing here shows them");
        return;
    }
    let sources = manifests.config_yaml("ai-platform-grafana", "datasource.yaml");
    let Some(sources) = case.need("Grafana's data sources", sources) else { return };
    let ours = list(&sources["datasources"])
        .any(|one| one["url"].as_str().is_some_and(|url| url.contains("//ai-platform-prometheus:")));
    case.hold("Grafana does not ask our Prometheus", ours);
}

/// Every alerting rule of Prometheus' files: its name and expression.
fn alert_rules(manifests: &Manifests<'_>, case: &mut Case) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let config = manifests.get("ConfigMap", PROMETHEUS);
    let Some(config) = case.need("the files of Prometheus", config) else { return found };
    for (file, text) in config["data"].as_object().into_iter().flatten() {
        if !file.starts_with("alerts-") {
            continue;
        }
        let parsed: Option<Value> = text.as_str().and_then(|text| serde_saphyr::from_str(text).ok());
        let Some(parsed) = case.need(format!("the rules of {file}"), parsed) else { continue };
        for rule in list(&parsed["groups"]).flat_map(|group| list(&group["rules"])) {
            let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            found.push((word("alert"), word("expr")));
        }
    }
    found
}

/// M4: the loss of each component raises an alert, and somebody is told.
pub(super) fn alerts(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(config) = prometheus(manifests, case) else { return };
    let told = list(&config["alerting"]["alertmanagers"])
        .flat_map(|one| list(&one["static_configs"]))
        .flat_map(|one| texts(&one["targets"]))
        .any(|target| target.starts_with("ai-platform-alertmanager:"));
    case.hold("Prometheus tells no Alertmanager", told);
    let rules = alert_rules(manifests, case);
    for (alert, expr) in &rules {
        case.hold(format!("alert {alert:?} has no expression"), !alert.is_empty() && !expr.is_empty());
    }
    let loads = |file: &str| texts(&config["rule_files"]).any(|one| one == file);
    case.hold("Prometheus does not read the alerts", loads("alerts-*.yml"));
    for workload in manifests.workloads() {
        let app = pod_app(workload);
        let asked = rules.iter().any(|(_, expr)| {
            let named = [format!("app=\"{app}\""), format!("job=\"{app}\"")];
            let kind = app.ends_with("-exporter") && expr.contains("job=~\".+-exporter\"");
            named.iter().any(|name| expr.contains(name)) || kind
        });
        let excused = UNWATCHED.contains(&app);
        case.hold(format!("no alert is about {}", title(workload)), asked || excused);
    }
}

/// M5: mesh and services send their spans to an address with a server behind it.
pub(super) fn tracing(manifests: &Manifests<'_>, case: &mut Case) {
    let service = manifests.get("Service", "ai-platform-zipkin");
    if let Some(service) = case.need("the tracing server's Service", service) {
        let selector = serde_json::json!({ "matchLabels": service["spec"]["selector"] });
        let port = list(&service["spec"]["ports"]).find(|port| port["port"] == 9411);
        let served = manifests.workloads().any(|one| selects(&selector, one) && listens(one, port));
        case.hold("no workload answers as the tracing server", served);
    }
    let mesh: Option<Value> = manifests.config_yaml("istio", "mesh");
    let Some(mesh) = case.need("the mesh's configuration", mesh) else { return };
    let provider = list(&mesh["extensionProviders"]).find(|one| one["zipkin"].is_object());
    let to_ours = provider.is_some_and(|one| {
        one["zipkin"]["service"].as_str().is_some_and(|host| host.starts_with("ai-platform-zipkin."))
    });
    case.hold("the mesh has no tracing provider of ours", to_ours);
    let sampled = manifests.kind("Telemetry").flat_map(|one| list(&one["spec"]["tracing"])).any(|one| {
        let known =
            list(&one["providers"]).any(|used| provider.is_some_and(|own| own["name"] == used["name"]));
        known && one["randomSamplingPercentage"].as_f64().is_some_and(|share| share > 0.0)
    });
    case.hold("the mesh samples no request", sampled);
    for workload in manifests.workloads().filter(|one| ["service", "worker"].contains(&tier(one))) {
        let sends = long_running(workload).any(|one| {
            env(one, "ZIPKIN_URL").is_some_and(|url| url.starts_with("http://ai-platform-zipkin:9411"))
        });
        case.hold(format!("{} sends no spans", title(workload)), sends);
    }
}

/// Does a container open the port that the Service's port leads to?
fn listens(workload: &Value, port: Option<&Value>) -> bool {
    let Some(port) = port else { return false };
    let wanted = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
    long_running(workload)
        .flat_map(|one| list(&one["ports"]))
        .any(|open| open["name"] == *wanted || open["containerPort"] == *wanted)
}
