//! What the primary's tables hold of a run, once what was accepted has gone its way.

use std::time::Duration;

use futures::{TryStreamExt, pin_mut};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::Credentials;
use super::postgres::{connect, said};
use crate::cluster::{ClusterError, Dialer, PodAddress};
use crate::ledger::Found;
use crate::model::{OpId, RunId};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A ledger with more rows than this is not one of our runs.
const ROWS_MAX: usize = 20_000_000;
/// Examples of one rule that does not hold.
const TORN_MAX: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What has not moved for so long does not move any more: a broker gives a dead worker's jobs to another one, and an
/// interrupted publish is made again, in less.
const QUIET: Duration = Duration::from_secs(45);
/// What still moves after that is no ledger.
const QUIET_MAX: Duration = Duration::from_secs(120);

const TABLES: &str = "select op_id from predictions where op_id like $1 union all \
    select op_id from models where op_id like $1 union all \
    select op_id from users where op_id like $1 union all \
    select op_id from decisions where op_id like $1";
/// Counter and rows are written in one transaction: where they differ, one of them was applied alone or twice.
const TORN_PREDICTIONS: &str = "select m.op_id, m.prediction_count, count(p.op_id) from models m \
    left join predictions p on p.model_id = m.id where m.op_id like $1 \
    group by m.id, m.op_id, m.prediction_count having m.prediction_count <> count(p.op_id) limit 100";

const RESULTS: &str = "select op_id from inferences where op_id like $1";
/// The same for results: a job that was delivered twice is counted once.
const TORN_RESULTS: &str = "select m.op_id, coalesce(c.done, 0), count(i.op_id) from models m \
    left join inference_counts c on c.model_id = m.id left join inferences i on i.model_id = m.id \
    where m.op_id like $1 group by m.id, m.op_id, c.done having coalesce(c.done, 0) <> count(i.op_id) limit 100";

const PENDING_JOBS: &str = "select count(*) from inference_jobs j where j.op_id like $1 \
    and not exists (select 1 from inferences i where i.op_id = j.op_id)";
const PENDING_EVENTS: &str = "select count(*) from outbox where payload->>'id' like $1";

/// The primary, with the run whose operations are meant.
pub struct Rows<'a> {
    client: Client,
    pod: &'a PodAddress,
    run: &'a RunId,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// When the primary cannot be reached.
    pub async fn open(
        dialer: &Dialer,
        primary: &'a PodAddress,
        credentials: &Credentials,
        run: &'a RunId,
    ) -> Result<Self, ClusterError> {
        let client = connect(dialer, primary, credentials, CONNECT_DEADLINE).await?;
        Ok(Self { client, pod: primary, run })
    }

    /// Every operation that the platform's tables hold, and the rule that binds them.
    ///
    /// # Errors
    /// When they cannot be read within the deadline.
    pub async fn tables(&self, deadline: Duration) -> Result<Found, ClusterError> {
        self.within(deadline, async {
            let ids = self.ids(TABLES).await?;
            let torn = self.torn(TORN_PREDICTIONS, "prediction_count", "predictions").await?;
            Ok(Found::of_ids(ids).with_violations(torn))
        })
        .await
    }

    /// Every job that has its result, once no job moves any more; and the rule that binds them.
    ///
    /// # Errors
    /// When they cannot be read, or jobs still are being done after two minutes.
    pub async fn results(&self, deadline: Duration) -> Result<Found, ClusterError> {
        let pattern = self.of_run();
        settled("jobs without a result", || self.count(PENDING_JOBS, &pattern)).await?;
        self.within(deadline, async {
            let ids = self.ids(RESULTS).await?;
            let torn = self.torn(TORN_RESULTS, "inference_counts.done", "inferences").await?;
            Ok(Found::of_ids(ids).with_violations(torn))
        })
        .await
    }

    /// Waits until no event of the run is on its way to Kafka, nor to come from a job.
    ///
    /// # Errors
    /// When it cannot be asked, or events still are on their way after two minutes.
    pub async fn events_relayed(&self) -> Result<(), ClusterError> {
        let (jobs, events) = (self.of_run(), format!("%:{}-%", self.run));
        let pending =
            async || Ok(self.count(PENDING_JOBS, &jobs).await? + self.count(PENDING_EVENTS, &events).await?);
        settled("events that wait for kafka", pending).await.map(drop)
    }

    fn of_run(&self) -> String {
        format!("{}-%", self.run)
    }

    async fn count(&self, sql: &str, pattern: &str) -> Result<i64, ClusterError> {
        let asked = async { self.client.query_one(sql, &[&pattern]).await };
        let asked = tokio::time::timeout(CONNECT_DEADLINE, asked).await;
        let row = asked.map_err(|_| self.late(CONNECT_DEADLINE))?;
        Ok(row.map_err(|error| said(self.pod, &error))?.get(0))
    }

    /// Row by row: all of them at once would cost twenty times what the ids do.
    async fn ids(&self, sql: &str) -> Result<Vec<OpId>, ClusterError> {
        let failed = |error| said(self.pod, &error);
        let rows = self.client.query_raw(sql, [self.of_run()]).await.map_err(failed)?;
        pin_mut!(rows);
        let mut ids = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            if ids.len() == ROWS_MAX {
                let why = format!("more than {ROWS_MAX} rows are more than a run makes");
                return Err(ClusterError::state(self.what(), why));
            }
            ids.push(OpId::new(row.get(0)));
        }
        Ok(ids)
    }

    /// Models whose counter and rows differ.
    async fn torn(&self, sql: &str, counter: &str, rows: &str) -> Result<Vec<String>, ClusterError> {
        let torn = self.client.query(sql, &[&self.of_run()]).await.map_err(|error| said(self.pod, &error))?;
        let sentence = |row: &tokio_postgres::Row| {
            let (model, counted, there): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            format!("model {model}: {counter} is {counted}, {rows} are {there}")
        };
        Ok(torn.iter().take(TORN_MAX).map(sentence).collect())
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        reading: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        tokio::time::timeout(deadline, reading).await.unwrap_or_else(|_| Err(self.late(deadline)))
    }

    fn late(&self, deadline: Duration) -> ClusterError {
        ClusterError::Deadline { what: self.what(), seconds: deadline.as_secs() }
    }

    fn what(&self) -> String {
        format!("read the ledger of {}", self.pod.name)
    }
}

/// Until there is nothing, or what there is has not changed for [`QUIET`]; how much is left.
async fn settled<F>(what: &str, count: impl Fn() -> F) -> Result<i64, ClusterError>
where
    F: Future<Output = Result<i64, ClusterError>>,
{
    let begun = Instant::now();
    let (mut known, mut since) = (None, begun);
    loop {
        let left = count().await?;
        if known != Some(left) {
            (known, since) = (Some(left), Instant::now());
        }
        if left == 0 || since.elapsed() >= QUIET {
            return Ok(left);
        }
        if begun.elapsed() >= QUIET_MAX {
            let why =
                format!("{left} {what} are left after {} s, and fewer by the second", QUIET_MAX.as_secs());
            return Err(ClusterError::state("wait for what was accepted", why));
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it waits, and for what, when so much is left after so many seconds.
    async fn waits(left: impl Fn(u64) -> i64) -> (u64, Result<i64, String>) {
        let begun = Instant::now();
        let count = || async { Ok(left(begun.elapsed().as_secs())) };
        let settled = settled("jobs", count).await.map_err(|error| error.to_string());
        (begun.elapsed().as_secs(), settled)
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_what_moves_and_not_for_what_does_not() {
        assert_eq!(waits(|_| 0).await, (0, Ok(0)));
        assert_eq!(waits(|second| 7_i64.saturating_sub_unsigned(second).max(0)).await, (7, Ok(0)));
        assert_eq!(waits(|_| 3).await, (45, Ok(3)));
        assert_eq!(waits(|second| if second < 30 { 5 } else { 2 }).await, (75, Ok(2)));
        let (seconds, still) = waits(|second| 1000 - i64::try_from(second).unwrap()).await;
        assert_eq!(seconds, 120);
        assert!(still.unwrap_err().contains("880 jobs are left after 120 s"));
    }
}
