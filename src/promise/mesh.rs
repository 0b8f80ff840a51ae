//! Gateway, mesh and edge: every service is reached, by TLS, from known callers, through breakers that can trip.

use serde_json::Value;

use super::case::Case;
use super::manifests::{
    Manifests, PREFIX, list, long_running, name, pod_app, pod_labels, selects, setting, texts, tier, title,
};

/// What the outside may ask; the frontend is served by the edges.
const ROUTED: [&str; 6] = ["auth", "model", "inference", "decision", "backend", "edge"];
const GATEWAY: &str = "ai-platform-gateway";
const KONG: &str = "ai-platform-kong";

/// Is this the host of a Service of ours, short or whole?
fn is_host(host: &Value, app: &str) -> bool {
    let host = host.as_str().unwrap_or_default();
    let first = host.split(['.', ':']).next().unwrap_or_default();
    first.strip_prefix(PREFIX) == Some(app)
}

/// G1: every service has a route, and what does not answer is taken out: by Kong where it is, else by Istio's gateway.
pub(super) fn routes(manifests: &Manifests<'_>, case: &mut Case) {
    if manifests.workload("kong").is_some() {
        return kong(manifests, case);
    }
    let Some(gateway) = case.need("the gateway's workload", manifests.workload("gateway")) else { return };
    case.note(format!("Kong is not in this overlay: these are the routes of {}", title(gateway)));
    for app in ROUTED {
        let routed = manifests
            .kind("VirtualService")
            .filter(|one| texts(&one["spec"]["gateways"]).any(|gateway| gateway == GATEWAY))
            .flat_map(|one| list(&one["spec"]["http"]))
            .flat_map(|route| list(&route["route"]))
            .any(|route| is_host(&route["destination"]["host"], app));
        case.hold(format!("the gateway has no route to {app}"), routed);
        case.hold(format!("nothing takes broken pods of {app} out"), breaker(manifests, app).is_some());
    }
}

/// G1 as the guide says it.
pub(super) fn kong(manifests: &Manifests<'_>, case: &mut Case) {
    let Some(workload) = case.need("Kong's workload", manifests.workload("kong")) else { return };
    let config = case.need("kong.yaml", manifests.config_yaml(KONG, "kong.yaml"));
    let Some(config) = config else { return };
    for app in ROUTED {
        let to = |upstream: &&Value| list(&upstream["targets"]).any(|one| is_host(&one["target"], app));
        let Some(upstream) = list(&config["upstreams"]).find(to) else {
            case.hold(format!("Kong has no upstream for {app}"), false);
            continue;
        };
        let active = &upstream["healthchecks"]["active"];
        let period = |state: &str| active[state]["interval"].as_f64().unwrap_or(0.0);
        // Passive ones never take a target in again.
        let checked = period("healthy") > 0.0 && period("unhealthy") > 0.0;
        case.hold(format!("Kong does not check {app} actively"), checked);
        let service = list(&config["services"]).find(|one| one["host"] == upstream["name"]);
        let routed =
            service.is_some_and(|one| list(&one["routes"]).any(|route| list(&route["paths"]).count() > 0));
        case.hold(format!("Kong has no route to {app}"), routed);
        // In the mesh a request goes where its Host header says.
        case.hold(format!("Kong calls {app} by another name"), is_host(&upstream["host_header"], app));
        let own = service.is_some_and(|one| list(&one["routes"]).all(|route| route["preserve_host"] != true));
        case.hold(format!("Kong passes the caller's Host on to {app}"), own);
        let Some(service) = case.need(format!("the workload {app}"), manifests.workload(app)) else {
            continue;
        };
        case.hold(format!("no policy lets Kong connect to {app}"), may_connect(manifests, workload, service));
    }
}

fn may_connect(manifests: &Manifests<'_>, from: &Value, to: &Value) -> bool {
    manifests.kind("NetworkPolicy").filter(|policy| selects(&policy["spec"]["podSelector"], to)).any(
        |policy| {
            list(&policy["spec"]["ingress"]).any(|rule| {
                let named = list(&rule["from"])
                    .any(|peer| peer["podSelector"].is_object() && selects(&peer["podSelector"], from));
                named || rule["from"].is_null()
            })
        },
    )
}

/// Pods of services that ask for a sidecar.
fn meshed<'a>(manifests: &Manifests<'a>) -> Vec<&'a Value> {
    let injected = |one: &&Value| pod_labels(one)["sidecar.istio.io/inject"] == "true";
    manifests.workloads().filter(injected).filter(|one| tier(one) == "service").collect()
}

/// I3: plain text is refused by every service in the mesh.
pub(super) fn strict(manifests: &Manifests<'_>, case: &mut Case) {
    for workload in meshed(manifests) {
        let about = |one: &&Value| {
            let selector = &one["spec"]["selector"];
            selector.is_object() && selects(selector, workload)
        };
        let own = manifests.kind("PeerAuthentication").find(about);
        let whole = || manifests.kind("PeerAuthentication").find(|one| one["spec"]["selector"].is_null());
        let mode = own.or_else(whole).and_then(|one| one["spec"]["mtls"]["mode"].as_str());
        case.want(format!("mutual TLS of {}", pod_app(workload)), mode, &"STRICT");
    }
    for one in manifests.kind("PeerAuthentication") {
        let off = one["spec"]["mtls"]["mode"] == "DISABLE";
        case.hold(format!("{} turns mutual TLS off", title(one)), !off);
    }
}

/// X5: every service in the mesh names its callers.
pub(super) fn known_callers(manifests: &Manifests<'_>, case: &mut Case) {
    for workload in meshed(manifests) {
        let app = pod_app(workload);
        let mut rules = manifests
            .kind("AuthorizationPolicy")
            .filter(|one| one["spec"]["action"].is_null() || one["spec"]["action"] == "ALLOW")
            .filter(|one| selects(&one["spec"]["selector"], workload))
            .flat_map(|one| list(&one["spec"]["rules"]))
            .peekable();
        case.hold(format!("{app} serves whoever calls"), rules.peek().is_some());
        for rule in rules {
            let mut sources = list(&rule["from"]).peekable();
            let any = sources.peek().is_none();
            let named = sources.all(|one| {
                let mut who = texts(&one["source"]["principals"]).peekable();
                who.peek().is_some() && who.all(|who| !who.contains('*'))
            });
            case.hold(format!("{app} serves a caller without a name"), named && !any);
        }
    }
}

fn breaker<'a>(manifests: &Manifests<'a>, app: &str) -> Option<&'a Value> {
    let about = |one: &&Value| is_host(&one["spec"]["host"], app);
    let rule = manifests.kind("DestinationRule").find(about)?;
    let outliers = &rule["spec"]["trafficPolicy"]["outlierDetection"];
    let counts = outliers["consecutive5xxErrors"].as_i64().unwrap_or(0) > 0;
    (counts && outliers["interval"].is_string()).then_some(rule)
}

/// I4: breakers that can trip. Istio's default takes out at most a tenth of the pods: with few of them, none.
pub(super) fn breakers(manifests: &Manifests<'_>, case: &mut Case) {
    for app in ROUTED {
        let Some(workload) = case.need(format!("the workload {app}"), manifests.workload(app)) else {
            continue;
        };
        let Some(rule) = breaker(manifests, app) else {
            case.hold(format!("{app} has no outlier detection"), false);
            continue;
        };
        let policy = &rule["spec"]["trafficPolicy"];
        let percent = policy["outlierDetection"]["maxEjectionPercent"].as_i64().unwrap_or(10);
        let copies = manifests.copies(workload).map(|(least, _)| least);
        if let Some(copies) = case.need(format!("the copies of {app}"), copies) {
            case.hold(
                format!("of {copies} pods of {app} at most {percent} % are taken out, so none is"),
                percent * copies / 100 >= 1,
            );
        }
        let pool = &policy["connectionPool"];
        case.at_least(format!("maxConnections to {app}"), pool["tcp"]["maxConnections"].as_i64(), 1);
        let pending = pool["http"]["http1MaxPendingRequests"].as_i64();
        case.at_least(format!("http1MaxPendingRequests to {app}"), pending, 1);
    }
}

/// X3: no plain-text door. HTTP is only told where the door is; TLS begins at 1.2.
pub(super) fn doors(manifests: &Manifests<'_>, case: &mut Case) {
    for gateway in manifests.kind("Gateway") {
        for server in list(&gateway["spec"]["servers"]) {
            let (port, tls) = (&server["port"], &server["tls"]);
            let of = format!("port {} of {}", port["number"], title(gateway));
            if port["protocol"] == "HTTP" {
                case.hold(format!("{of} serves plain text"), tls["httpsRedirect"] == true);
            } else {
                let version = &tls["minProtocolVersion"];
                let new = version == "TLSV1_2" || version == "TLSV1_3";
                case.hold(format!("{of} takes TLS from {version}"), new);
                case.hold(
                    format!("{of} has no certificate"),
                    tls["mode"] != "PASSTHROUGH" && tls["mode"].is_string(),
                );
            }
        }
    }
    let Some(kong) = manifests.workload("kong") else { return };
    for container in long_running(kong).filter(|one| one["name"] == "kong") {
        let value = |key: &str| super::manifests::env(container, key);
        if let Some(listen) = case.need("KONG_PROXY_LISTEN", value("KONG_PROXY_LISTEN")) {
            let sealed = listen.split(',').all(|one| one.split_whitespace().any(|word| word == "ssl"));
            case.hold(format!("Kong listens on {listen}"), sealed);
        }
        if let Some(versions) = case.need("KONG_SSL_PROTOCOLS", value("KONG_SSL_PROTOCOLS")) {
            let new = versions.split_whitespace().all(|one| one == "TLSv1.2" || one == "TLSv1.3");
            case.hold(format!("Kong takes {versions}"), new);
        }
    }
}

/// C3: assets are kept for long, and served on while the origin is away.
pub(super) fn asset_cache(manifests: &Manifests<'_>, case: &mut Case) {
    let text = manifests.config("ai-platform-edge", "common.vcl");
    let Some(text) = case.need("common.vcl of the edge", text) else { return };
    let assets = text.split("\"^/assets/\" && beresp.status == 200").nth(1);
    let kept = assets.and_then(|rest| days(setting(rest.split('}').next()?, "set beresp.ttl")?));
    case.at_least("days that an asset is kept", kept, 1);
    let grace = setting(text, "set beresp.grace").is_some();
    let stale = text.lines().any(|line| line.trim() == "set beresp.grace = 24h;");
    case.hold("nothing is served while the origin is away", grace && stale);
    for app in ["edge", "edge-shield"] {
        let Some(workload) = case.need(format!("the workload {app}"), manifests.workload(app)) else {
            continue;
        };
        let size = long_running(workload).find_map(|one| super::manifests::env(one, "EDGE_CACHE_SIZE"));
        case.hold(format!("{} has no size of its cache", name(workload)), size.is_some());
    }
}

fn days(text: &str) -> Option<i64> {
    text.trim_end_matches(';').strip_suffix('d')?.parse().ok()
}
