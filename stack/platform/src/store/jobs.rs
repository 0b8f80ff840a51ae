//! Inference jobs: what was asked for, whether the broker confirmed it, and the result that a worker stored.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::fault::DbFault;
use super::models::unreadable;
use super::sql::Database;
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;
use crate::span;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub op_id: String,
    pub model_id: i64,
    /// JSON, as it was first printed: `jsonb` would print some numbers in another way, and the result is a function of the text.
    pub input: String,
    pub framework: String,
    pub traceparent: Option<String>,
    pub confirmed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inference {
    pub op_id: String,
    pub model_id: i64,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

const SELECT: &str = "SELECT j.op_id, j.model_id, j.input, m.framework, j.traceparent, j.confirmed \
                      FROM inference_jobs j JOIN models m ON m.id = j.model_id ";

impl Database {
    /// Writes the job down before it is published. Idempotent by `op_id`: the first request wins.
    ///
    /// # Errors
    /// [`DbFault::NoReference`] when there is no such model. All but `CommitUnknown` mean that nothing was committed.
    pub async fn note_job(
        &self,
        op_id: &str,
        model_id: i64,
        input: &str,
        deadline: Deadline,
    ) -> Result<Job, DbFault> {
        let traceparent = span::current().map(|context| context.to_string());
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let inserted = transaction
            .query_row(
                "INSERT INTO inference_jobs (op_id, model_id, input, traceparent) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (op_id) DO NOTHING RETURNING op_id",
                &[
                    (&op_id, Type::TEXT),
                    (&model_id, Type::INT8),
                    (&input, Type::TEXT),
                    (&traceparent, Type::TEXT),
                ],
            )
            .await?;
        let sql = format!("{SELECT} WHERE j.op_id = $1");
        let row = transaction.query_row(&sql, &[(&op_id, Type::TEXT)]).await?;
        let job = row.as_ref().map(job).transpose()?;
        match inserted {
            Some(_) => transaction.commit().await?,
            None => transaction.rollback().await,
        }
        job.ok_or_else(|| DbFault::Away(format!("job {op_id} was removed meanwhile")))
    }

    /// The broker has it. The row is written again if another request for the same operation, which failed to publish,
    /// has removed it meanwhile.
    ///
    /// # Errors
    /// Then the job will be published once more.
    pub async fn confirm_job(&self, job: &Job, deadline: Deadline) -> Result<(), DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let params: super::sql::Params<'_> = &[
            (&job.op_id, Type::TEXT),
            (&job.model_id, Type::INT8),
            (&job.input, Type::TEXT),
            (&job.traceparent, Type::TEXT),
        ];
        let sql = "INSERT INTO inference_jobs (op_id, model_id, input, traceparent, confirmed) \
                   VALUES ($1, $2, $3, $4, true) ON CONFLICT (op_id) DO UPDATE SET confirmed = true";
        transaction.query(sql, params).await?;
        transaction.commit().await
    }

    /// The broker certainly does not have it, and nobody has confirmed it since.
    ///
    /// # Errors
    /// Then it is still there, and will be published later.
    pub async fn forget_job(&self, op_id: &str, deadline: Deadline) -> Result<(), DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let sql = "DELETE FROM inference_jobs WHERE op_id = $1 AND NOT confirmed";
        transaction.query(sql, &[(&op_id, Type::TEXT)]).await?;
        transaction.commit().await
    }

    /// Jobs without a confirmation that no request can still be busy with.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn unconfirmed_jobs(
        &self,
        age_s: f64,
        limit: i64,
        deadline: Deadline,
    ) -> Result<Vec<Job>, DbFault> {
        let sql = format!(
            "{SELECT} WHERE NOT j.confirmed AND j.created_at < now() - make_interval(secs => $1) \
             ORDER BY j.created_at LIMIT $2"
        );
        let rows = self.read_primary(&sql, &[(&age_s, Type::FLOAT8), (&limit, Type::INT8)], deadline).await?;
        rows.iter().map(job).collect()
    }

    /// The result, or that it is pending.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn inference(&self, op_id: &str, deadline: Deadline) -> Result<Option<Inference>, DbFault> {
        let sql = "SELECT j.op_id, j.model_id, i.output, i.worker FROM inference_jobs j \
                   LEFT JOIN inferences i ON i.op_id = j.op_id WHERE j.op_id = $1";
        let Some((row, _)) = self.read_row(sql, &[(&op_id, Type::TEXT)], deadline).await? else {
            return Ok(None);
        };
        let read = || {
            let output: Option<Value> = row.try_get("output")?;
            Ok(Inference {
                op_id: row.try_get("op_id")?,
                model_id: row.try_get("model_id")?,
                status: if output.is_some() { "done" } else { "pending" },
                output,
                worker: row.try_get("worker")?,
            })
        };
        read().map(Some).map_err(|error: tokio_postgres::Error| unreadable(&error))
    }
}

fn job(row: &Row) -> Result<Job, DbFault> {
    let read = || {
        Ok(Job {
            op_id: row.try_get("op_id")?,
            model_id: row.try_get("model_id")?,
            input: row.try_get("input")?,
            framework: row.try_get("framework")?,
            traceparent: row.try_get("traceparent")?,
            confirmed: row.try_get("confirmed")?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| unreadable(&error))
}
