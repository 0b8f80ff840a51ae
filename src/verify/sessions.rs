//! The promised number of sessions, held at once, and what the pooler makes of them.

use std::time::{Duration, Instant};

use super::{Row, Section, Seen, Site, unseen};
use crate::cluster::Door;
use crate::component::{ask_all, hold, server_sessions};
use crate::model::{Finding, Verdict};

const SERVICE: &str = "ai-platform-pgbouncer";
const PORT: u16 = 6432;
/// The guide's number.
const SESSIONS: usize = 2000;
const DEADLINE: Duration = Duration::from_secs(30);
const HELD: &str = "2000 sessions are held and answer at once";
const POOLED: &str = "the pooler serves them with few of the server's sessions";

pub async fn rows(site: &Site, seen: &Seen) -> Vec<Row> {
    let row = |claim: &str, finding| Row::new(Section::Sessions, &[claim], finding);
    if !site.dialer.is_direct() {
        let why =
            "2000 sessions do not go through the API server; this needs a route to the cluster's addresses";
        return vec![row("P1", unseen(HELD, why)), row("P2", unseen(POOLED, why))];
    }
    let door = match Door::open(&site.client, &site.dialer, &site.namespace, SERVICE, PORT).await {
        Ok(door) => door,
        Err(why) => return vec![row("P1", unseen(HELD, &why)), row("P2", unseen(POOLED, why))],
    };
    let started = Instant::now();
    let held = hold(door.address, &site.credentials, SESSIONS, DEADLINE).await;
    let opened = started.elapsed();
    let (answered, behind) = tokio::join!(ask_all(&held, DEADLINE), behind(site, seen));
    let total = started.elapsed();
    drop(held.clients);
    let figures =
        format!("opened in {:.1} s, all done in {:.1} s", opened.as_secs_f64(), total.as_secs_f64());
    let poolers = seen.running().get("pgbouncer").copied().unwrap_or(0);
    vec![row("P1", answers(answered, &held.failures, &figures)), row("P2", pooled(answered, behind, poolers))]
}

fn answers(answered: usize, failures: &[String], figures: &str) -> Finding {
    let verdict = if answered == SESSIONS { Verdict::Pass } else { Verdict::Fail };
    Finding::new(HELD, verdict, format!("{answered} of {SESSIONS} answered; {figures}"))
        .with_evidence(failures.iter().cloned())
}

/// Sessions of the platform's user on every server together.
async fn behind(site: &Site, seen: &Seen) -> Result<i64, String> {
    let mut most = 0;
    // Looked at a few times while the queries run: the pool is not full at any one moment.
    for _ in 0..4 {
        let mut sum = 0;
        for pod in seen.addresses(&site.namespace, "postgres") {
            let count = server_sessions(&site.dialer, &pod, &site.credentials, Duration::from_secs(10)).await;
            sum += count.map_err(|error| error.to_string())?;
        }
        most = most.max(sum);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(most)
}

/// `max_db_connections` of each pooler, for each of its two databases; the services keep none of their own.
fn pooled(answered: usize, behind: Result<i64, String>, poolers: usize) -> Finding {
    const EACH: usize = 25 * 2;
    let behind = match behind {
        Ok(behind) => usize::try_from(behind).unwrap_or(0),
        Err(why) => return unseen(POOLED, why),
    };
    if answered < SESSIONS || poolers == 0 {
        return unseen(POOLED, format!("only {answered} sessions answered"));
    }
    let most = EACH * poolers;
    let verdict = if behind == 0 {
        Verdict::Inconclusive
    } else if behind <= most {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    Finding::new(POOLED, verdict, format!("{behind} on all servers for {SESSIONS} clients, at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict::{Fail, Inconclusive, Pass};

    #[test]
    fn sessions_that_lack_fail_and_an_unpooled_server_too() {
        assert_eq!(answers(2000, &[], "").verdict, Pass);
        assert_eq!(answers(1999, &["refused".to_owned()], "").verdict, Fail);
        for (answered, behind, poolers, verdict) in [
            (2000, Ok(40), 2, Pass),
            (2000, Ok(1900), 2, Fail),
            (2000, Ok(0), 2, Inconclusive),
            (1000, Ok(40), 2, Inconclusive),
            (2000, Ok(40), 0, Inconclusive),
            (2000, Err("away".to_owned()), 2, Inconclusive),
        ] {
            assert_eq!(pooled(answered, behind, poolers).verdict, verdict);
        }
    }
}
