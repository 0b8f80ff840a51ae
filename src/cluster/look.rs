//! Looks at a change's effect from outside its target, until it is there.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::net::TcpStream;

use super::{command, denied, expired, missed};
use crate::model::{Command, Look};

const EVERY: Duration = Duration::from_secs(1);
/// Longer than this nobody waits for an effect. A kubelet brings a changed Secret into a pod within 90 s.
const LOOKS_MAX: u32 = 110;
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// What was seen before the change.
#[derive(Debug, Clone)]
pub enum Before {
    Sum(u64),
    /// What was so, or could not be told, before proves nothing by being so afterwards.
    CanChange(bool),
    Allowed(Vec<denied::Question>),
}

pub async fn before(client: &Client, look: &Look) -> Before {
    match look {
        Look::Grows { commands } => Before::Sum(sum(client, commands).await),
        Look::Unreachable { addresses } => Before::CanChange(!none_answers(addresses).await),
        // Who shows none that expired, or does not answer, can come to show one.
        Look::Expired { addresses } => Before::CanChange(expired::shown(addresses).await == 0),
        Look::Denied { binding } => Before::Allowed(denied::allowed(client, binding).await),
        Look::Tainted { node, key } => Before::CanChange(is_tainted(client, node, key).await == Some(false)),
    }
}

/// Returns once the effect was seen, or when it was not for [`LOOKS_MAX`] looks.
pub async fn until_effective(client: &Client, look: &Look, before: Before) -> Option<String> {
    for _ in 0..LOOKS_MAX {
        tokio::time::sleep(EVERY).await;
        let effect = effect(client, look, &before).await;
        if effect.is_some() {
            return effect.map(|effect| format!("effect: {effect}"));
        }
    }
    None
}

async fn effect(client: &Client, look: &Look, before: &Before) -> Option<String> {
    match (look, before) {
        (Look::Grows { commands }, Before::Sum(before)) => {
            let now = sum(client, commands).await;
            (now > *before).then(|| format!("the counters grew from {before} to {now}"))
        }
        (Look::Unreachable { addresses }, Before::CanChange(true)) => {
            let none = none_answers(addresses).await;
            none.then(|| format!("no connection to {}", addresses.join(", ")))
        }
        (Look::Expired { addresses }, Before::CanChange(true)) => {
            let (shown, all) = (expired::shown(addresses).await, addresses.len());
            (shown > 0).then(|| format!("{shown} of {all} servers show a certificate that has expired"))
        }
        (Look::Denied { .. }, Before::Allowed(allowed)) => denied::first_denied(client, allowed).await,
        (Look::Tainted { node, key }, Before::CanChange(true)) => {
            let tainted = is_tainted(client, node, key).await == Some(true);
            tainted.then(|| format!("the node controller has tainted {node} with {key}"))
        }
        _ => None,
    }
}

/// Returns once the question has no answer, or when it had for [`LOOKS_MAX`] looks.
pub async fn until_missed(client: &Client, question: &missed::Question) -> Option<String> {
    for _ in 0..LOOKS_MAX {
        if let Some(effect) = question.missed(client).await {
            return Some(effect);
        }
        tokio::time::sleep(EVERY).await;
    }
    None
}

/// `None` when nobody says.
async fn is_tainted(client: &Client, node: &str, key: &str) -> Option<bool> {
    let nodes = Api::<Node>::all(client.clone());
    let found = tokio::time::timeout(DIAL_DEADLINE, nodes.get(node)).await.ok()?.ok()?;
    let taints = found.spec.unwrap_or_default().taints.unwrap_or_default();
    Some(taints.iter().any(|taint| taint.key == key))
}

/// Of all numbers that the commands print at the ends of their lines. One that fails counts nothing.
async fn sum(client: &Client, commands: &[Command]) -> u64 {
    let runs = commands.iter().map(|one| command::run(client, one, COMMAND_DEADLINE));
    let outputs = futures::future::join_all(runs).await;
    outputs.into_iter().flatten().map(|output| numbers(&output)).sum()
}

fn numbers(output: &str) -> u64 {
    output.lines().filter_map(|line| line.rsplit(':').next()?.trim().parse::<u64>().ok()).sum()
}

async fn none_answers(addresses: &[String]) -> bool {
    let dials = addresses.iter().map(|address| async move {
        matches!(tokio::time::timeout(DIAL_DEADLINE, TcpStream::connect(address)).await, Ok(Ok(_)))
    });
    futures::future::join_all(dials).await.into_iter().all(|answered| !answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_all_lines_count() {
        assert_eq!(numbers("cluster.a.x: 3\ncluster.b.x: 4\n\nnoise\n"), 7);
        assert_eq!(numbers(""), 0);
    }

    #[tokio::test]
    async fn one_that_answers_is_enough_to_be_reachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().to_string();
        assert!(!none_answers(std::slice::from_ref(&open)).await);
        let closed = "127.0.0.1:1".to_owned();
        assert!(none_answers(std::slice::from_ref(&closed)).await);
        assert!(!none_answers(&[closed, open]).await);
    }
}
