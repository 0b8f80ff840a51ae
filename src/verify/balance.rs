//! How the gateway shares requests out: between services by the weights of a route, and between the pods of one service
//! evenly. The weighted route is one of our own for a host that nobody else asks for, and is taken away again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::json;

use super::journey::{SETTLE_MAX, SETTLE_TICK, quiet};
use super::prometheus::Prometheus;
use super::routes::Gateway;
use super::{Row, Section, Site, all_of, unseen, within};
use crate::cluster::{ClusterError, pod_info, poll_until, remove};
use crate::model::{Finding, Verdict};

const WEIGHTS: &str = "the gateway shares requests out by a route's weights, 80 to 20";
const SPREAD: &str = "the gateway spreads requests over a service's pods";

const ROUTE: &str = "mettle-split";
/// A host of its own wins over the platform's `*`, and nobody's requests but ours bear it.
const HOST: &str = "split.mettle.test";
const MARK: &str = "x-mettle-to";
/// Both answer it themselves, and both let the gateway in.
const PATH: &str = "/livez";
/// Mark, service, weight.
const SHARES: [(&str, &str, u32); 2] = [("a", "ai-platform-model", 80), ("b", "ai-platform-frontend", 20)];
const SPLIT_REQUESTS: usize = 400;
/// Standard deviations of a binomial count: chance alone goes beyond them once in 16,000 times.
const DEVIATIONS: f64 = 4.0;
const ROUTE_DEADLINE: Duration = Duration::from_secs(30);
/// Answers in a row, each over a connection of its own, after which all of the gateway's pods should have the route. One
/// that has not yet shows later: its answers bear no mark, and nothing is concluded.
const SURE: usize = 12;

const CATALOG: &str = "/api/v1/catalog?limit=1";
const SERVED: &str = "sum by (pod) (http_requests_total{role=\"backend\",route=\"/api/v1/catalog\"})";
/// Requests a pod: half of a hundred is five standard deviations away.
const EACH: usize = 100;
const PODS_MAX: usize = 50;
const AT_ONCE: usize = 4;
/// For all requests of a row.
const SEND_DEADLINE: Duration = Duration::from_secs(120);

pub async fn rows(site: &Site) -> Vec<Row> {
    let row = |claim: &str, finding| Row::new(Section::Mesh, &[claim], finding);
    let (weights, spread) = match Gateway::open(site).await {
        Ok(gateway) => (weights(site, &gateway).await, spread(site, &gateway).await),
        Err(why) => (unseen(WEIGHTS, &why), unseen(SPREAD, why)),
    };
    vec![row("I2/weights", weights), row("I2/spread", spread)]
}

async fn weights(site: &Site, gateway: &Gateway) -> Finding {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let kind = ApiResource::from_gvk(&kind);
    let routes = Api::<DynamicObject>::namespaced_with(site.client.clone(), &site.namespace, &kind);
    // One of a former look that was killed.
    if let Err(why) = take_away(&routes).await {
        return unseen(WEIGHTS, why);
    }
    let counted = split(&routes, &kind, gateway).await;
    let removed = take_away(&routes).await;
    match (counted, removed) {
        (Ok(counted), Ok(())) => weighted(&counted),
        (Err(why), Ok(())) => unseen(WEIGHTS, why),
        (counted, Err(left)) => {
            let why = counted.err().map_or_else(String::new, |why| format!("{why}; "));
            unseen(WEIGHTS, format!("{why}VirtualService {ROUTE} is left: {left}"))
        }
    }
}

/// Mark, or what an answer without one was → how many.
type Counted = BTreeMap<String, usize>;

async fn split(
    routes: &Api<DynamicObject>,
    kind: &ApiResource,
    gateway: &Gateway,
) -> Result<Counted, String> {
    let destinations = SHARES.map(|(mark, service, weight)| {
        json!({ "destination": { "host": service, "port": { "number": 80 } }, "weight": weight,
            "headers": { "response": { "set": { MARK: mark } } } })
    });
    let mut route = DynamicObject::new(ROUTE, kind).data(json!({ "spec": {
        "hosts": [HOST], "gateways": ["ai-platform-gateway"],
        "http": [{ "match": [{ "uri": { "exact": PATH } }], "route": destinations, "timeout": "5s" }] } }));
    let labels = [("app.kubernetes.io/part-of", "mettle")];
    route.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let created = routes.create(&PostParams::default(), &route).await;
    created.map_err(|error| format!("failed to create VirtualService {ROUTE}: {error}"))?;
    let fresh = gateway.fresh()?;
    let what = format!("the route of {HOST}");
    let taken_up = poll_until(&what, ROUTE_DEADLINE, || async {
        for _ in 0..SURE {
            let to = led(gateway, &fresh).await;
            if !SHARES.iter().any(|(mark, ..)| *mark == to) {
                return Ok(Err(to));
            }
        }
        Ok(Ok(()))
    });
    taken_up.await.map_err(|error| error.to_string())?;
    within(SEND_DEADLINE, async {
        let mut counted = Counted::new();
        let answers = stream::iter(0..SPLIT_REQUESTS).map(|_| led(gateway, &gateway.http));
        let mut answers = answers.buffer_unordered(AT_ONCE);
        while let Some(to) = answers.next().await {
            *counted.entry(to).or_default() += 1;
        }
        Ok(counted)
    })
    .await
}

/// Where one request was led: the mark, or why there is none.
async fn led(gateway: &Gateway, http: &reqwest::Client) -> String {
    let request = http.get(format!("{}{PATH}", gateway.base)).header("host", HOST);
    match gateway.send(request).await {
        Err(why) => why,
        Ok(answer) if answer.status != 200 => format!("status {}", answer.status),
        Ok(answer) => {
            let mark = answer.headers.get(MARK).and_then(|mark| mark.to_str().ok());
            mark.map_or_else(|| format!("an answer without {MARK}"), str::to_owned)
        }
    }
}

async fn take_away(routes: &Api<DynamicObject>) -> Result<(), ClusterError> {
    let what = format!("VirtualService {ROUTE}");
    remove(routes, ROUTE, &what, &DeleteParams::default(), ROUTE_DEADLINE).await
}

fn weighted(counted: &Counted) -> Finding {
    let sent: usize = counted.values().sum();
    let marked: usize = SHARES.iter().filter_map(|(mark, ..)| counted.get(*mark)).sum();
    if sent != SPLIT_REQUESTS || marked != sent {
        let others = counted.iter().filter(|(to, _)| !SHARES.iter().any(|(mark, ..)| mark == to));
        let others: Vec<String> = others.map(|(to, count)| format!("{count}: {to}")).collect();
        return unseen(
            WEIGHTS,
            format!("{marked} of {SPLIT_REQUESTS} came by the route; {}", others.join(", ")),
        );
    }
    let [(mark, service, weight), (_, other, _)] = SHARES;
    let (share, requests) = (f64::from(weight) / 100.0, sent as f64);
    let (mean, deviation) = (requests * share, (requests * share * (1.0 - share)).sqrt());
    let (least, most) = (mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation);
    let got = counted.get(mark).copied().unwrap_or(0);
    let verdict = if (least..=most).contains(&(got as f64)) { Verdict::Pass } else { Verdict::Fail };
    let rest = sent - got;
    let reason = format!("{got} of {sent} to {service}, {rest} to {other}; wanted {least:.0} to {most:.0}");
    Finding::new(WEIGHTS, verdict, reason)
}

/// Pod → requests that it served.
type Served = BTreeMap<String, f64>;

async fn spread(site: &Site, gateway: &Gateway) -> Finding {
    match spread_over(site, gateway).await {
        Ok((pods, sent, served)) => even(&pods, sent, &served),
        Err(why) => unseen(SPREAD, why),
    }
}

async fn spread_over(site: &Site, gateway: &Gateway) -> Result<(BTreeSet<String>, usize, Served), String> {
    let prometheus = Prometheus::open(site).await.map_err(|error| error.to_string())?;
    let pods = ready(site).await?;
    if pods.len() > PODS_MAX {
        return Err(format!("{} pods are more than are sent enough requests here ({PODS_MAX})", pods.len()));
    }
    let sent = EACH * pods.len();
    quiet(&prometheus).await?;
    let before = served(&prometheus).await?;
    within(SEND_DEADLINE, send(gateway, sent)).await?;
    let grown = settled(&prometheus, &before, sent).await?;
    if ready(site).await? != pods {
        return Err("the backend's pods changed meanwhile".to_owned());
    }
    Ok((pods, sent, grown))
}

async fn send(gateway: &Gateway, count: usize) -> Result<(), String> {
    let answers = stream::iter(0..count).map(|_| gateway.get(CATALOG)).buffer_unordered(AT_ONCE);
    let failed = answers.filter_map(|answer| async {
        match answer {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("status {}", answer.status)),
            Err(why) => Some(why),
        }
    });
    let failed: Vec<String> = failed.collect().await;
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {count} requests failed: {first}", failed.len())),
    }
}

async fn ready(site: &Site) -> Result<BTreeSet<String>, String> {
    let pods = Api::<Pod>::namespaced(site.client.clone(), &site.namespace);
    let of = ListParams::default().labels("app.kubernetes.io/name=backend");
    let pods = pods.list(&of).await.map_err(|error| format!("failed to list the backend's pods: {error}"))?;
    let ready = pods.iter().map(pod_info).filter(|pod| pod.ready && !pod.terminating);
    Ok(ready.map(|pod| pod.name).collect())
}

async fn served(prometheus: &Prometheus) -> Result<Served, String> {
    let series = prometheus.query(SERVED).await?;
    let of = series.into_iter().filter_map(|mut one| Some((one.labels.remove("pod")?, one.value)));
    Ok(of.collect())
}

/// By how much each pod's counter has grown, once all that was sent is counted, or when it never is.
async fn settled(prometheus: &Prometheus, before: &Served, sent: usize) -> Result<Served, String> {
    let end = tokio::time::Instant::now() + SETTLE_MAX;
    let (mut grown, mut good) = (Served::new(), 0);
    // A sum that goes on growing after it was right was not ours alone.
    while good < 3 && tokio::time::Instant::now() < end {
        tokio::time::sleep(SETTLE_TICK).await;
        let now = served(prometheus).await?;
        let by = |(pod, value): (String, f64)| {
            let was = before.get(&pod).copied().unwrap_or(0.0);
            (pod, value - was)
        };
        grown = now.into_iter().map(by).collect();
        good = if is(&grown, sent) { good + 1 } else { 0 };
    }
    Ok(grown)
}

/// Not `sum`: that of nothing is -0.
fn total(grown: &Served) -> f64 {
    grown.values().fold(0.0, |total, count| total + count)
}

fn is(grown: &Served, sent: usize) -> bool {
    (total(grown) - sent as f64).abs() < 0.5
}

fn even(pods: &BTreeSet<String>, sent: usize, grown: &Served) -> Finding {
    if pods.len() < 2 {
        return unseen(SPREAD, format!("{} ready pods of the backend: nothing to spread over", pods.len()));
    }
    if !is(grown, sent) {
        let why = "somebody else uses the stack, or not every pod is scraped";
        let counted = total(grown);
        return unseen(SPREAD, format!("the pods counted {counted} requests, {sent} were sent: {why}"));
    }
    if let Some((pod, count)) = grown.iter().find(|(pod, count)| **count > 0.0 && !pods.contains(*pod)) {
        return unseen(SPREAD, format!("{pod}, which is not ready, served {count}"));
    }
    let share = sent as f64 / pods.len() as f64;
    let (least, most) = (share / 2.0, share * 2.0);
    let of = |pod: &String| grown.get(pod).copied().unwrap_or(0.0);
    let counts: Vec<String> = pods.iter().map(|pod| format!("{pod} {}", of(pod))).collect();
    let wrong = pods.iter().filter(|pod| !(least..=most).contains(&of(pod)));
    let wrong = wrong.map(|pod| format!("{pod} served {} of {sent}, not {least:.0} to {most:.0}", of(pod)));
    let noun = format!("pods, {sent} requests: {}; wanted {least:.0} to {most:.0} each", counts.join(", "));
    all_of(SPREAD, pods.len(), &noun, wrong.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn chance_is_allowed_for_and_no_more() {
        for (to_a, to_b, elsewhere, verdict, reason) in [
            (
                320,
                80,
                0,
                Pass,
                "320 of 400 to ai-platform-model, 80 to ai-platform-frontend; wanted 288 to 352",
            ),
            (288, 112, 0, Pass, "288 of 400"),
            (352, 48, 0, Pass, "352 of 400"),
            (287, 113, 0, Fail, "287 of 400"),
            (353, 47, 0, Fail, "353 of 400"),
            (200, 200, 0, Fail, "200 of 400"),
            (400, 0, 0, Fail, "400 of 400 to ai-platform-model, 0 to"),
            (0, 400, 0, Fail, "0 of 400"),
            (319, 80, 1, Inconclusive, "399 of 400 came by the route; 1: status 503"),
            (0, 0, 400, Inconclusive, "0 of 400 came by the route; 400: status 503"),
            (32, 8, 0, Inconclusive, "40 of 400 came by the route; "),
            (0, 0, 0, Inconclusive, "0 of 400 came by the route; "),
        ] {
            let all = [("a", to_a), ("b", to_b), ("status 503", elsewhere)];
            let all = all.into_iter().filter(|(_, count)| *count > 0);
            let finding = weighted(&all.map(|(to, count)| (to.to_owned(), count)).collect());
            assert_eq!(finding.verdict, verdict, "{}", finding.reason);
            assert!(finding.reason.starts_with(reason), "{}", finding.reason);
        }
    }

    #[test]
    fn every_pod_serves_its_share() {
        let names =
            |all: &[&str]| -> BTreeSet<String> { all.iter().map(|name| (*name).to_owned()).collect() };
        let grown = |all: &[(&str, f64)]| -> Served {
            all.iter().map(|(pod, count)| ((*pod).to_owned(), *count)).collect()
        };
        let three = &["x", "y", "z"][..];
        for (pods, sent, served, verdict, reason) in [
            (
                three,
                300,
                &[("x", 110.0), ("y", 90.0), ("z", 100.0)][..],
                Pass,
                "3 pods, 300 requests: x 110, y 90, z 100; wanted 50 to 200 each",
            ),
            (three, 300, &[("x", 200.0), ("y", 50.0), ("z", 50.0)], Pass, "3 pods"),
            (three, 300, &[("x", 151.0), ("y", 149.0)], Fail, "z served 0 of 300, not 50 to 200"),
            (
                three,
                300,
                &[("x", 201.0), ("y", 50.0), ("z", 49.0)],
                Fail,
                "x served 201 of 300, not 50 to 200",
            ),
            (
                three,
                300,
                &[("x", 110.0), ("y", 90.0), ("z", 99.0)],
                Inconclusive,
                "the pods counted 299 requests",
            ),
            (
                three,
                300,
                &[("x", 110.0), ("y", 90.0), ("z", 101.0)],
                Inconclusive,
                "the pods counted 301 requests",
            ),
            (three, 300, &[], Inconclusive, "the pods counted 0 requests"),
            (
                three,
                300,
                &[("x", 100.0), ("y", 90.0), ("z", 90.0), ("old", 20.0)],
                Inconclusive,
                "old, which is not ready, served 20",
            ),
            (
                &["x"],
                100,
                &[("x", 100.0)],
                Inconclusive,
                "1 ready pods of the backend: nothing to spread over",
            ),
            (&[], 0, &[], Inconclusive, "0 ready pods"),
        ] {
            let finding = even(&names(pods), sent, &grown(served));
            assert_eq!(finding.verdict, verdict, "{}", finding.reason);
            assert!(finding.reason.starts_with(reason), "{}", finding.reason);
        }
    }
}
