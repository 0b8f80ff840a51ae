//! Is the stack what the guide promises, now? Every row is a judgement of what was just seen, with the claim that it is
//! about. What was seen is data, and the judgements are pure; what cannot be seen is inconclusive, never fine.

mod access;
mod asker;
mod balance;
mod figures;
mod identity;
mod journey;
mod levels;
mod logs;
pub mod members;
mod monitoring;
mod objects;
mod prometheus;
mod refusals;
mod routes;
mod routing;
mod seen;
mod sessions;
mod topics;
mod trace;

use std::time::Duration;

use kube::Client;

pub use prometheus::Prometheus;
pub use seen::Seen;

use crate::cluster::Dialer;
use crate::component::Credentials;
use crate::model::{Finding, Verdict};

/// What a row is about, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    Nodes,
    Pods,
    Services,
    Autoscalers,
    Members,
    Logs,
    Mesh,
    Routes,
    Monitoring,
    Access,
    Manifests,
    Journey,
    Refusals,
    Sessions,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    pub section: Section,
    /// The claims that it speaks for, with the part of each: `S1/spec`. Empty where the guide promises nothing.
    pub claims: Vec<String>,
    #[serde(flatten)]
    pub finding: Finding,
}

impl Row {
    pub fn new(section: Section, claims: &[&str], finding: Finding) -> Self {
        Self { section, claims: claims.iter().map(|claim| (*claim).to_owned()).collect(), finding }
    }
}

/// The stack, and how to reach it.
pub struct Site {
    pub client: Client,
    pub dialer: Dialer,
    pub credentials: Credentials,
    pub namespace: String,
    /// What each service account may do: `stack/access.yaml`.
    pub access: std::path::PathBuf,
}

/// Passes when `wrong` is empty, and something was looked at.
fn all_of(check: impl Into<String>, looked_at: usize, noun: &str, wrong: Vec<String>) -> Finding {
    if looked_at == 0 {
        return Finding::new(check, Verdict::Inconclusive, format!("there are no {noun}"));
    }
    let Some(first) = wrong.first() else {
        return Finding::new(check, Verdict::Pass, format!("{looked_at} {noun}"));
    };
    let more = if wrong.len() > 1 { format!(" (and {} more)", wrong.len() - 1) } else { String::new() };
    Finding::new(check, Verdict::Fail, format!("{first}{more}")).with_evidence(wrong)
}

fn unseen(check: impl Into<String>, why: impl std::fmt::Display) -> Finding {
    Finding::new(check, Verdict::Inconclusive, why.to_string())
}

/// What comes of it, or that nothing did in time.
async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(deadline, work).await;
    done.unwrap_or_else(|_| Err(format!("not done within {} s", deadline.as_secs())))
}

/// What holds for any part of the stack: its pods, services, autoscalers, logs. Of what the part has not, nothing is said.
pub async fn look_at_part(site: &Site, seen: &Seen) -> Vec<Row> {
    let mut rows = objects::rows(seen);
    if seen.of("HorizontalPodAutoscaler").is_empty() {
        rows.retain(|row| row.section != Section::Autoscalers);
    }
    if seen.running().contains_key("backend") {
        rows.extend(logs::rows(site, seen).await);
    }
    rows
}

/// What reading alone shows of the whole stack.
pub async fn look(site: &Site, seen: &Seen) -> Vec<Row> {
    let mut rows = objects::rows(seen);
    rows.extend(logs::rows(site, seen).await);
    rows.push(Row::new(Section::Pods, &["D4"], members::complete(seen)));
    rows.push(Row::new(Section::Mesh, &["D4"], objects::mesh(seen)));
    match Prometheus::open(site).await {
        Ok(prometheus) => {
            rows.extend(figures::rows(&prometheus, seen).await);
            rows.extend(monitoring::rows(&prometheus, site, seen).await);
        }
        Err(why) => rows.push(Row::new(Section::Monitoring, &["M1"], unseen("prometheus answers", why))),
    }
    rows.push(topics::row(site, seen).await);
    rows.extend(routes::rows(site).await);
    rows.push(access::row(site).await);
    rows.sort_by_key(|row| row.section);
    rows
}

/// What only shows when it is used: an account, models, a job and messages of our own; a route of our own for a while;
/// connections; pods that are refused. It leaves the account, the models and the job in the platform, and nothing else (but
/// see `routing.rs` for a queue that was not empty).
pub async fn use_it(site: &Site, seen: &Seen) -> Vec<Row> {
    let mut rows = journey::rows(site).await;
    match Prometheus::open(site).await {
        Ok(prometheus) => rows.push(monitoring::used(&prometheus, seen).await),
        Err(why) => {
            rows.push(Row::new(Section::Monitoring, &["M3/panels"], unseen("prometheus answers", why)))
        }
    }
    rows.push(levels::row(site).await);
    rows.extend(routing::rows(site, seen).await);
    rows.extend(balance::rows(site).await);
    rows.extend(refusals::rows(site, seen).await);
    rows.push(identity::row(site, seen).await);
    rows.extend(sessions::rows(site, seen).await);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_looked_at_is_no_pass() {
        let verdict = |looked_at, wrong: &[&str]| {
            let wrong = wrong.iter().map(|text| (*text).to_owned()).collect();
            all_of("x", looked_at, "things", wrong).verdict
        };
        assert_eq!(verdict(0, &[]), Verdict::Inconclusive);
        assert_eq!(verdict(3, &[]), Verdict::Pass);
        assert_eq!(verdict(3, &["one is broken"]), Verdict::Fail);
    }
}
