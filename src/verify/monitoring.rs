//! Prometheus itself: everything that has metrics is scraped, every pod's use is seen, the rules are sound, the
//! dashboards' queries return data, and no alert fires.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::prometheus::Prometheus;
use super::seen::{Seen, name};
use super::{Row, Section, Site, all_of, unseen};
use crate::model::{Finding, Verdict};

/// Names that have no metrics of their own: an exporter reads them, or is one.
const BY_EXPORTER: [&str; 4] = ["redis", "redis-exporter", "postgres-exporter", "metrics-adapter"];
/// What Grafana would load.
const DASHBOARDS: &str = "ai-platform-dashboards";
const PANELS_MAX: usize = 500;

pub async fn rows(prometheus: &Prometheus, _site: &Site, seen: &Seen) -> Vec<Row> {
    let row = |claims: &[&str], finding| Row::new(Section::Monitoring, claims, finding);
    vec![
        row(
            &["M1/scraped", "D4"],
            either(TARGETS, prometheus.read("/api/v1/targets?state=active").await, targets),
        ),
        row(&["M1/scraped"], scraped(prometheus, seen).await),
        row(&["M2"], usage(prometheus, seen).await),
        row(&["M4/rules"], either(RULES, prometheus.read("/api/v1/rules?type=alert").await, rules)),
        row(&["M4/rules"], either(MANAGERS, prometheus.read("/api/v1/alertmanagers").await, managers)),
        row(&["D4"], either(FIRING, prometheus.read("/api/v1/rules?type=alert").await, firing)),
    ]
}

/// The dashboards' queries, after somebody has used the stack: a rate of nothing has no data.
pub async fn used(prometheus: &Prometheus, seen: &Seen) -> Row {
    Row::new(Section::Monitoring, &["M3/panels"], panels(prometheus, seen).await)
}

fn either<T>(check: &str, read: Result<T, String>, judge: fn(&T) -> Finding) -> Finding {
    match read {
        Ok(data) => judge(&data),
        Err(why) => unseen(check, why),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    labels: BTreeMap<String, String>,
    health: String,
    last_error: String,
}

const TARGETS: &str = "every target is scraped";

fn targets(targets: &Targets) -> Finding {
    let told = |target: &Target| {
        let label = |key: &str| target.labels.get(key).map_or("", String::as_str);
        format!("{} {} is {}: {}", label("job"), label("instance"), target.health, target.last_error)
    };
    // Unknown: a server that has just started has not been to it yet.
    let (unknown, known): (Vec<&Target>, Vec<_>) =
        targets.active_targets.iter().partition(|target| target.health == "unknown");
    let wrong = known.into_iter().filter(|target| target.health != "up").map(told);
    let finding = all_of(TARGETS, targets.active_targets.len(), "targets", wrong.collect());
    match unknown.first().filter(|_| finding.verdict == Verdict::Pass) {
        Some(_) => unseen(TARGETS, format!("{} targets were not scraped yet", unknown.len()))
            .with_evidence(unknown.into_iter().map(told)),
        None => finding,
    }
}

/// Every pod with metrics is a target: a component that nobody lists would pass the row above.
async fn scraped(prometheus: &Prometheus, seen: &Seen) -> Finding {
    let check = "every pod with metrics is a target";
    let series = match prometheus.query("sum by (app) (up{job=~\"pods|istiod\"})").await {
        Ok(series) => series,
        Err(why) => return unseen(check, why),
    };
    let up: BTreeMap<&str, f64> =
        series.iter().filter_map(|one| Some((one.labels.get("app")?.as_str(), one.value))).collect();
    covered(check, seen, &up)
}

fn covered(check: &str, seen: &Seen, up: &BTreeMap<&str, f64>) -> Finding {
    let mut running = seen.running();
    running.retain(|app, _| !BY_EXPORTER.contains(app));
    let wrong = running.iter().filter_map(|(app, pods)| {
        let found = up.get(app).copied().unwrap_or(0.0);
        ((found - *pods as f64).abs() > 0.5).then(|| format!("{app}: {pods} pods run, {found} are scraped"))
    });
    all_of(check, running.len(), "kinds of pods", wrong.collect())
}

/// Processor time and memory of every running pod.
async fn usage(prometheus: &Prometheus, seen: &Seen) -> Finding {
    let check = "processor time and memory of every pod are seen";
    let query = "count by (pod) (container_memory_working_set_bytes{namespace=\"ai-platform\",container!=\"\"}) and count by (pod) (container_cpu_usage_seconds_total{namespace=\"ai-platform\",container!=\"\"})";
    let series = match prometheus.query(query).await {
        Ok(series) => series,
        Err(why) => return unseen(check, why),
    };
    let known: Vec<&str> = series.iter().filter_map(|one| Some(one.labels.get("pod")?.as_str())).collect();
    let pods: Vec<&str> =
        seen.of("Pod").iter().filter(|pod| pod["status"]["phase"] == "Running").map(name).collect();
    let wrong = pods.iter().filter(|pod| !known.contains(pod)).map(|pod| format!("{pod} has no series"));
    all_of(check, pods.len(), "pods", wrong.collect())
}

/// Every query of every dashboard.
async fn panels(prometheus: &Prometheus, seen: &Seen) -> Finding {
    let check = "every panel's query returns data";
    let expressions = expressions(seen);
    let mut wrong = Vec::new();
    for (panel, expression) in &expressions {
        match prometheus.query(expression).await {
            Ok(series) if series.is_empty() => wrong.push(format!("{panel}: no data for {expression}")),
            Ok(_) => {}
            Err(why) => wrong.push(format!("{panel}: {why}")),
        }
    }
    all_of(check, expressions.len(), "queries of dashboards", wrong)
}

/// Dashboard and panel → query.
fn expressions(seen: &Seen) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let maps = seen.named("ConfigMap", DASHBOARDS).into_iter();
    for (file, text) in maps.filter_map(|map| map["data"].as_object()).flatten() {
        let dashboard: Value = serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or_default();
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or("a panel");
            for target in panel["targets"].as_array().into_iter().flatten() {
                if let Some(expression) = target["expr"].as_str() {
                    let expression =
                        expression.replace("$__rate_interval", "1m").replace("$__interval", "1m");
                    found.push((format!("{file}, {title}"), expression));
                }
            }
        }
    }
    found.truncate(PANELS_MAX);
    found
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: String,
    health: String,
    #[serde(default)]
    last_error: String,
    #[serde(default)]
    state: String,
}

fn all(rules: &Rules) -> impl Iterator<Item = &Rule> {
    rules.groups.iter().flat_map(|group| &group.rules)
}

const RULES: &str = "every alert can be evaluated";

fn rules(rules: &Rules) -> Finding {
    let wrong = all(rules)
        .filter(|rule| rule.health != "ok")
        .map(|rule| format!("{} is {}: {}", rule.name, rule.health, rule.last_error));
    all_of(RULES, all(rules).count(), "alerts", wrong.collect())
}

const FIRING: &str = "no alert fires";

fn firing(rules: &Rules) -> Finding {
    let wrong = all(rules).filter(|rule| rule.state == "firing").map(|rule| format!("{} fires", rule.name));
    all_of(FIRING, all(rules).count(), "alerts", wrong.collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Managers {
    active_alertmanagers: Vec<Value>,
}

const MANAGERS: &str = "prometheus knows an alertmanager";

fn managers(managers: &Managers) -> Finding {
    match managers.active_alertmanagers.len() {
        0 => Finding::new(MANAGERS, Verdict::Fail, "it knows none: no alert would reach anybody"),
        count => Finding::new(MANAGERS, Verdict::Pass, format!("{count}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn targets_and_rules() {
        let of = |health: &str| -> Targets {
            serde_json::from_value(json!({ "activeTargets": [
                { "labels": { "job": "pods" }, "health": health, "lastError": "" }] }))
            .unwrap()
        };
        assert_eq!(targets(&of("up")).verdict, Pass);
        assert_eq!(targets(&of("down")).verdict, Fail);
        assert_eq!(targets(&of("unknown")).verdict, Inconclusive);
        let both = [of("unknown"), of("down")].into_iter().flat_map(|one| one.active_targets).collect();
        assert_eq!(targets(&Targets { active_targets: both }).verdict, Fail);
        assert_eq!(targets(&Targets { active_targets: vec![] }).verdict, Inconclusive);
        let of = |health: &str, state: &str| -> Rules {
            serde_json::from_value(json!({ "groups": [{ "rules": [
                { "name": "A", "health": health, "state": state }] }] }))
            .unwrap()
        };
        assert_eq!(rules(&of("ok", "inactive")).verdict, Pass);
        assert_eq!(rules(&of("err", "inactive")).verdict, Fail);
        assert_eq!(firing(&of("ok", "pending")).verdict, Pass);
        assert_eq!(firing(&of("ok", "firing")).verdict, Fail);
        assert_eq!(firing(&Rules { groups: vec![] }).verdict, Inconclusive);
        assert_eq!(managers(&Managers { active_alertmanagers: vec![] }).verdict, Fail);
        assert_eq!(managers(&Managers { active_alertmanagers: vec![json!({})] }).verdict, Pass);
    }

    #[test]
    fn a_pod_that_nobody_scrapes_is_found() {
        let pod = json!({ "metadata": { "labels": { "app.kubernetes.io/name": "auth" } },
            "status": { "phase": "Running" } });
        let seen = Seen { objects: [("Pod", vec![pod.clone(), pod])].into() };
        assert_eq!(covered("x", &seen, &[("auth", 2.0)].into()).verdict, Pass);
        assert_eq!(covered("x", &seen, &[("auth", 1.0)].into()).verdict, Fail);
        assert_eq!(covered("x", &seen, &BTreeMap::new()).verdict, Fail);
        assert_eq!(covered("x", &Seen::default(), &BTreeMap::new()).verdict, Inconclusive);
    }

    #[test]
    fn the_queries_of_a_dashboard() {
        let text =
            json!({ "panels": [{ "title": "t", "targets": [{ "expr": "rate(x[$__rate_interval])" }] }] });
        let map = json!({ "metadata": { "name": DASHBOARDS },
            "data": { "d.json": text.to_string() } });
        let seen = Seen { objects: [("ConfigMap", vec![map])].into() };
        assert_eq!(expressions(&seen), [("d.json, t".to_owned(), "rate(x[1m])".to_owned())]);
    }
}
