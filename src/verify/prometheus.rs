//! The stack's own Prometheus, asked as a user would ask it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Site;
use crate::cluster::{ClusterError, Door};

const SERVICE: &str = "ai-platform-prometheus";
const PORT: u16 = 9090;
const DEADLINE: Duration = Duration::from_secs(10);

pub struct Prometheus {
    http: reqwest::Client,
    base: String,
    _door: Door,
}

/// One series of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(default)]
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// Seconds, and the value as text.
    value: (f64, String),
}

impl Prometheus {
    pub async fn open(site: &Site) -> Result<Self, ClusterError> {
        let door = Door::open(&site.client, &site.dialer, &site.namespace, SERVICE, PORT).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build();
        let http = http.map_err(|error| ClusterError::state("make an HTTP client", error.to_string()))?;
        Ok(Self { http, base: format!("http://{}", door.address), _door: door })
    }

    /// `data` of a path of its API.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let response = self.http.get(format!("{}{path}", self.base)).send().await;
        let response = response.map_err(|error| format!("prometheus does not answer: {error}"))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| format!("prometheus broke off: {error}"))?;
        if !status.is_success() {
            return Err(format!("prometheus answers {status} to {path}"));
        }
        let answer: Answer<T> =
            serde_json::from_slice(&body).map_err(|error| format!("prometheus' answer: {error}"))?;
        Ok(answer.data)
    }

    /// An instant query.
    pub async fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let vector: Vector = self.read(&format!("/api/v1/query?query={}", escape(expression))).await?;
        let series = vector
            .result
            .into_iter()
            .filter_map(|sample| Some(Series { labels: sample.metric, value: sample.value.1.parse().ok()? }));
        Ok(series.collect())
    }

    /// The value of a query that gives one series; absent when it gives none.
    pub async fn number(&self, expression: &str) -> Result<Option<f64>, String> {
        Ok(self.query(expression).await?.first().map(|series| series.value))
    }
}

/// For a query string.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_survives_the_url() {
        assert_eq!(escape("sum(up{a=\"b\"})"), "sum%28up%7Ba%3D%22b%22%7D%29");
    }
}
