//! One journey, one trace: every component that writes spans, or that spans are written about, is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::{Site, all_of, unseen};
use crate::cluster::Door;
use crate::model::{Finding, Verdict};

const DEADLINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(3);
pub(super) const TRACED: &str = "one journey is one trace through every component";

/// `localEndpoint.serviceName` of a span, or `remoteEndpoint.serviceName`, by the component that it stands for.
const IN_TRACE: [&str; 13] = [
    "gateway.ai-platform",
    "ai-platform-auth",
    "ai-platform-model",
    "ai-platform-inference",
    "inference.ai-platform",
    "ai-platform-decision",
    "decision.ai-platform",
    "ai-platform-backend",
    "ai-platform-frontend",
    "celery",
    "postgres",
    "redis",
    "kafka",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(default)]
    local_endpoint: Endpoint,
    #[serde(default)]
    remote_endpoint: Endpoint,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    service_name: String,
}

pub(super) async fn traced(site: &Site, traces: &[String]) -> Finding {
    let door = match Door::open(&site.client, &site.dialer, &site.namespace, "ai-platform-zipkin", 9411).await
    {
        Ok(door) => door,
        Err(why) => return unseen(TRACED, why),
    };
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let mut findings = Vec::new();
        for trace in traces {
            findings.push(match spans(&door, trace).await {
                Ok(spans) => in_one_trace(&spans),
                Err(why) => unseen(TRACED, why),
            });
        }
        let worst = findings.into_iter().max_by_key(|finding| finding.verdict);
        let worst = worst.unwrap_or_else(|| unseen(TRACED, "no journey was made"));
        // Spans come in batches: the last of them a few seconds after their requests.
        if worst.verdict == Verdict::Pass || tokio::time::Instant::now() >= end {
            return worst;
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn spans(door: &Door, trace: &str) -> Result<Vec<Span>, String> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
    let http = http.map_err(|error| error.to_string())?;
    let url = format!("http://{}/api/v2/trace/{trace}", door.address);
    let answer = http.get(url).send().await.map_err(|error| error.to_string())?;
    if answer.status().as_u16() == 404 {
        return Ok(Vec::new());
    }
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

fn in_one_trace(spans: &[Span]) -> Finding {
    let names: BTreeSet<&str> = spans
        .iter()
        .flat_map(|span| [&span.local_endpoint, &span.remote_endpoint])
        .map(|endpoint| endpoint.service_name.as_str())
        .collect();
    let wrong: Vec<String> = IN_TRACE
        .iter()
        .filter(|name| !names.contains(*name))
        .map(|name| format!("{name} is not in the trace of {} spans", spans.len()))
        .collect();
    all_of(TRACED, IN_TRACE.len(), &format!("names in one trace of {} spans", spans.len()), wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Verdict::{Fail, Pass};

    #[test]
    fn a_component_that_lacks_in_the_trace_fails() {
        let spans: Vec<Span> = IN_TRACE
            .iter()
            .map(|name| serde_json::from_value(json!({ "localEndpoint": { "serviceName": name } })).unwrap())
            .collect();
        assert_eq!(in_one_trace(&spans).verdict, Pass);
        assert_eq!(in_one_trace(&spans[1..]).verdict, Fail);
        assert_eq!(in_one_trace(&[]).verdict, Fail);
    }
}
