//! The cache's levels, each seen at work: a model that is new comes from the database, then from a backend's own memory
//! and, where that has let go of it or another backend is asked, from Redis; an asset comes from an edge.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::journey::wanted;
use super::routes::{Gateway, asset};
use super::{Row, Section, Site, unseen, within};
use crate::model::{Finding, Verdict};

const CHECK: &str = "every level of the cache answers: a backend's memory, redis, an edge";
/// Level, and what a backend calls it.
const LEVELS: [(&str, &[&str]); 3] =
    [("the database", &["replica", "primary"]), ("a backend's memory", &["local"]), ("redis", &["redis"])];
/// Requests without a pause: within what a backend's memory keeps.
const ROUND: usize = 16;
const ROUNDS: usize = 6;
/// Longer than a backend keeps a model in its memory (`LOCAL_CACHE_TTL_MS`, 2 s), shorter than Redis does.
const PAUSE: Duration = Duration::from_millis(2_500);
const DEADLINE: Duration = Duration::from_secs(60);
const MODELS: &str = "/api/v1/models";

pub async fn row(site: &Site) -> Row {
    let finding = match Gateway::open(site).await {
        Ok(gateway) => match within(DEADLINE, labels(&gateway)).await {
            Ok(labels) => judge(&labels, &asset(&gateway).await),
            Err(why) => unseen(CHECK, why),
        },
        Err(why) => unseen(CHECK, why),
    };
    Row::new(Section::Routes, &["R4/levels"], finding)
}

/// Where an answer came from, or its status → how many.
type Labels = BTreeMap<String, usize>;

/// Asks for a new model until every level has answered, or often enough.
async fn labels(gateway: &Gateway) -> Result<Labels, String> {
    let id: u64 = rand::random();
    let new = json!({ "op_id": format!("verify-{id:016x}-levels"), "name": "verify", "framework": "onnx" });
    let request = gateway.http.post(format!("{}{MODELS}", gateway.base));
    let made = gateway.send(request.header("content-type", "application/json").body(new.to_string())).await;
    let made = made.map_err(|why| format!("{MODELS}: {why}"))?;
    wanted(MODELS, &made, 201)?;
    let made: Value = serde_json::from_str(&made.body).map_err(|error| format!("{MODELS}: {error}"))?;
    let path = format!("{MODELS}/{}", made["id"]);
    let mut labels = Labels::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        for _ in 0..ROUND {
            let answer = gateway.get(&path).await.map_err(|why| format!("{path}: {why}"))?;
            let from = answer.headers.get("x-cache").and_then(|from| from.to_str().ok());
            let label = match (answer.status, from) {
                (200, Some(from)) => from.to_owned(),
                (200, None) => "no x-cache".to_owned(),
                (status, _) => format!("status {status}"),
            };
            *labels.entry(label).or_default() += 1;
        }
        if lacking(&labels).is_empty() {
            break;
        }
    }
    Ok(labels)
}

fn lacking(labels: &Labels) -> Vec<&'static str> {
    let seen = |called: &[&str]| called.iter().any(|name| labels.contains_key(*name));
    LEVELS.into_iter().filter(|(_, called)| !seen(called)).map(|(level, _)| level).collect()
}

fn judge(labels: &Labels, edge: &Finding) -> Finding {
    let asked: usize = labels.values().sum();
    if asked == 0 {
        return unseen(CHECK, "no model was asked for");
    }
    let counts: Vec<String> = labels.iter().map(|(label, count)| format!("{label} {count}")).collect();
    let said = format!("{asked} requests for a new model: {}; {}", counts.join(", "), edge.reason);
    let mut lacking = lacking(labels);
    if edge.verdict == Verdict::Fail {
        lacking.push("an edge");
    }
    if !lacking.is_empty() {
        return Finding::new(CHECK, Verdict::Fail, format!("never {}; {said}", lacking.join(", ")));
    }
    Finding::new(CHECK, edge.verdict, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn a_level_that_never_answers_is_named() {
        let edge = |verdict| Finding::new("x", verdict, "/assets/a.css: MISS, HIT");
        let labels = |all: &[(&str, usize)]| -> Labels {
            all.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
        };
        let whole = [("local", 5), ("redis", 2), ("replica", 1)];
        for (seen, at_edge, verdict, reason) in [
            (
                &whole[..],
                Pass,
                Pass,
                "8 requests for a new model: local 5, redis 2, replica 1; /assets/a.css: MISS, HIT",
            ),
            (&[("local", 5), ("primary", 1), ("redis", 2)], Pass, Pass, "8 requests"),
            (&whole[1..], Pass, Fail, "never a backend's memory; 3 requests"),
            (&[("local", 47), ("replica", 1)], Pass, Fail, "never redis; 48 requests"),
            (&[("local", 6), ("redis", 2)], Pass, Fail, "never the database; 8 requests"),
            (&[("status 503", 48)], Pass, Fail, "never the database, a backend's memory, redis; 48 requests"),
            (&whole[..], Fail, Fail, "never an edge; 8 requests"),
            (&whole[..], Inconclusive, Inconclusive, "8 requests"),
            (&whole[1..], Inconclusive, Fail, "never a backend's memory"),
            (&[], Pass, Inconclusive, "no model was asked for"),
        ] {
            let finding = judge(&labels(seen), &edge(at_edge));
            assert_eq!(finding.verdict, verdict, "{seen:?}: {}", finding.reason);
            assert!(finding.reason.starts_with(reason), "{}", finding.reason);
        }
    }
}
