//! The gateway's door: every route answers, in TLS and by the service that it is meant for; plain text is sent away; the
//! edge keeps what it has fetched.

use std::time::Duration;

use super::{Row, Section, Site, unseen};
use crate::cluster::{Door, chain, secret_text};
use crate::model::{Finding, Verdict};

const SERVICE: &str = "ai-platform-gateway";
const AUTHORITY: &str = "ai-platform-gateway-tls";
const TLS_PORT: u16 = 443;
const PLAIN_PORT: u16 = 80;
const DEADLINE: Duration = Duration::from_secs(10);

/// The gateway from outside, as a user comes in.
pub struct Gateway {
    pub http: reqwest::Client,
    pub base: String,
    pub tls: Door,
    name: String,
    authority: reqwest::Certificate,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Gateway {
    pub async fn open(site: &Site) -> Result<Self, String> {
        let tls = Door::open(&site.client, &site.dialer, &site.namespace, SERVICE, TLS_PORT).await;
        let tls = tls.map_err(|error| error.to_string())?;
        let pem = secret_text(&site.client, &site.namespace, AUTHORITY, "ca.crt").await;
        let pem = pem.map_err(|error| chain(&error))?;
        let authority = reqwest::Certificate::from_pem(pem.as_bytes()).map_err(|error| chain(&error))?;
        let name = format!("{SERVICE}.{}.svc", site.namespace);
        let http = builder(&authority, &name, &tls).build().map_err(|error| chain(&error))?;
        Ok(Self { http, base: format!("https://{name}:{}", tls.address.port()), tls, name, authority })
    }

    /// A client that makes a connection for each request: each may reach another of the gateway's pods.
    pub fn fresh(&self) -> Result<reqwest::Client, String> {
        let builder = builder(&self.authority, &self.name, &self.tls).pool_max_idle_per_host(0);
        builder.build().map_err(|error| chain(&error))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let response = request.send().await.map_err(|error| chain(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.map_err(|error| chain(&error))?;
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }
}

fn builder(authority: &reqwest::Certificate, name: &str, door: &Door) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DEADLINE)
        .http1_only()
        .tls_certs_only([authority.clone()])
        .resolve(name, door.address)
}

/// A path, the status that only its own service gives, and a piece of its answer.
const ROUTES: [(&str, &str, u16, &str); 7] = [
    ("auth", "/api/v1/whoami", 401, "not logged in"),
    ("model", "/api/v1/registry/models?limit=1", 200, "\"models\""),
    ("inference", "/api/v1/infer/none", 401, "not logged in"),
    ("decision", "/api/v1/decisions/none", 401, "not logged in"),
    ("backend", "/api/v1/catalog?limit=1", 200, "\"models\""),
    ("frontend", "/api/frontend/config", 200, "\"version\""),
    ("edge", "/", 200, "<!doctype html>"),
];

pub async fn rows(site: &Site) -> Vec<Row> {
    let gateway = match Gateway::open(site).await {
        Ok(gateway) => gateway,
        Err(why) => {
            return vec![Row::new(Section::Routes, &["G1/routes"], unseen("the gateway is there", why))];
        }
    };
    let mut rows = Vec::new();
    for (service, path, status, piece) in ROUTES {
        let finding = route(&format!("route to {service}: {path}"), &gateway.get(path).await, status, piece);
        rows.push(Row::new(Section::Routes, &["G1/routes", "D4"], finding));
    }
    rows.push(Row::new(Section::Routes, &["C3/hit"], asset(&gateway).await));
    rows.push(Row::new(Section::Routes, &["X3/door"], plain(site).await));
    rows.push(Row::new(Section::Routes, &["X3/door"], certificate(site, &gateway).await));
    rows
}

fn route(check: &str, answer: &Result<Answer, String>, status: u16, piece: &str) -> Finding {
    match answer {
        Err(why) => Finding::new(check, Verdict::Fail, why.clone()),
        Ok(answer) if answer.status == status && answer.body.contains(piece) => {
            Finding::new(check, Verdict::Pass, format!("{status}, and the answer is its own"))
        }
        Ok(answer) => {
            let start: String = answer.body.chars().take(80).collect();
            Finding::new(
                check,
                Verdict::Fail,
                format!("{}, wanted {status} with {piece}: {start}", answer.status),
            )
        }
    }
}

/// An asset of the page, asked for until the edge that answers has it.
pub(super) async fn asset(gateway: &Gateway) -> Finding {
    let check = "the edge keeps an asset";
    let page = match gateway.get("/").await {
        Ok(page) => page.body,
        Err(why) => return unseen(check, why),
    };
    let Some(path) = asset_of(&page) else { return unseen(check, "the page names no asset") };
    // One request for each edge that may have to fetch it, and one more.
    let mut labels = Vec::new();
    for _ in 0..6 {
        match gateway.get(path).await {
            Ok(answer) if answer.status == 200 => {
                let label = answer.headers.get("x-cache").and_then(|value| value.to_str().ok());
                labels.push(label.unwrap_or("no x-cache").to_owned());
            }
            Ok(answer) => {
                return Finding::new(check, Verdict::Fail, format!("{path} answers {}", answer.status));
            }
            Err(why) => return Finding::new(check, Verdict::Fail, why),
        }
    }
    let verdict = if labels.iter().any(|label| label == "HIT") { Verdict::Pass } else { Verdict::Fail };
    Finding::new(check, verdict, format!("{path}: {}", labels.join(", ")))
}

fn asset_of(page: &str) -> Option<&str> {
    let start = page.find("\"/assets/")? + 1;
    let length = page[start..].find('"')?;
    Some(&page[start..start + length])
}

async fn plain(site: &Site) -> Finding {
    let check = "plain text at the door is sent to TLS";
    let door = match Door::open(&site.client, &site.dialer, &site.namespace, SERVICE, PLAIN_PORT).await {
        Ok(door) => door,
        Err(why) => return unseen(check, why),
    };
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE);
    let http = match http.build() {
        Ok(http) => http,
        Err(error) => return unseen(check, error),
    };
    match http.get(format!("http://{}/api/v1/catalog", door.address)).send().await {
        Ok(answer) => {
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            redirected(check, answer.status().as_u16(), to)
        }
        Err(error) => unseen(check, chain(&error)),
    }
}

fn redirected(check: &str, status: u16, to: &str) -> Finding {
    let verdict = if status == 301 && to.starts_with("https://") { Verdict::Pass } else { Verdict::Fail };
    Finding::new(check, verdict, format!("{status} to {to}"))
}

/// The same door by a name that is not in the certificate must be refused: that shows that the other rows check one.
async fn certificate(site: &Site, gateway: &Gateway) -> Finding {
    let check = "the certificate is its authority's, for this name only";
    let wrong_name = format!("other.{}.svc", site.namespace);
    let http = match builder(&gateway.authority, &wrong_name, &gateway.tls).build() {
        Ok(http) => http,
        Err(error) => return unseen(check, chain(&error)),
    };
    let port = gateway.tls.address.port();
    let answer = http.get(format!("https://{wrong_name}:{port}/")).send().await;
    match (gateway.get("/").await, answer) {
        (Ok(_), Err(error)) if chain(&error).contains("certificate") => {
            Finding::new(check, Verdict::Pass, "another name is refused, the right one is not")
        }
        (Ok(_), Err(error)) => unseen(check, chain(&error)),
        (Ok(_), Ok(_)) => Finding::new(check, Verdict::Fail, format!("it is taken for {wrong_name}, too")),
        (Err(why), _) => Finding::new(check, Verdict::Fail, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Pass};

    fn answer(status: u16, body: &str) -> Result<Answer, String> {
        Ok(Answer { status, headers: reqwest::header::HeaderMap::new(), body: body.to_owned() })
    }

    #[test]
    fn a_route_must_be_answered_by_its_own_service() {
        for (given, verdict) in [
            (answer(200, "{\"models\":[]}"), Pass),
            (answer(200, "something else"), Fail),
            (answer(503, "{\"models\":[]}"), Fail),
            (Err("refused".to_owned()), Fail),
        ] {
            assert_eq!(route("x", &given, 200, "\"models\"").verdict, verdict);
        }
    }

    #[test]
    fn an_asset_and_a_redirect() {
        assert_eq!(asset_of("<link href=\"/assets/a.1.css\">"), Some("/assets/a.1.css"));
        assert_eq!(asset_of("<p>"), None);
        assert_eq!(redirected("x", 301, "https://a").verdict, Pass);
        assert_eq!(redirected("x", 301, "http://a").verdict, Fail);
        assert_eq!(redirected("x", 200, "nowhere").verdict, Fail);
    }
}
