//! Looks at a change's effect from outside its target, until it is there.

use std::time::Duration;

use kube::Client;
use tokio::net::TcpStream;

use super::command;
use crate::model::{Command, Look};

const EVERY: Duration = Duration::from_secs(1);
/// Longer than this nobody waits for an effect.
const LOOKS_MAX: u32 = 90;
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// What was seen before the change.
#[derive(Debug, Clone, Copy)]
pub struct Before(u64);

pub async fn before(client: &Client, look: &Look) -> Before {
    match look {
        Look::Grows { commands } => Before(sum(client, commands).await),
        // What could not be reached before proves nothing by not being reached.
        Look::Unreachable { addresses } => Before(u64::from(!none_answers(addresses).await)),
    }
}

/// Returns once the effect was seen, or when it was not for [`LOOKS_MAX`] looks.
pub async fn until_effective(client: &Client, look: &Look, Before(before): Before) -> Option<String> {
    for _ in 0..LOOKS_MAX {
        tokio::time::sleep(EVERY).await;
        match look {
            Look::Grows { commands } => {
                let now = sum(client, commands).await;
                if now > before {
                    return Some(format!("effect: the counters grew from {before} to {now}"));
                }
            }
            Look::Unreachable { addresses } => {
                if before == 1 && none_answers(addresses).await {
                    return Some(format!("effect: no connection to {}", addresses.join(", ")));
                }
            }
        }
    }
    None
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
