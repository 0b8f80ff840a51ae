//! Decisions: a row and its event, in one transaction.

use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::fault::DbFault;
use super::models::{Effect, unreadable};
use super::outbox::Topic;
use super::sql::Database;
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub op_id: String,
    pub model_id: i64,
    pub decision: String,
    /// Something that it should stand on was away.
    pub degraded: bool,
    pub detail: Value,
}

const COLUMNS: &str = "op_id, model_id, decision, degraded, detail";

impl Database {
    /// Idempotent by `op_id`: the first decision stands, whatever a later one would have been.
    ///
    /// # Errors
    /// All but `CommitUnknown` mean that nothing was committed.
    pub async fn record_decision(
        &self,
        new: &Decision,
        input: &Value,
        deadline: Deadline,
    ) -> Result<(Decision, Effect), DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let sql = format!(
            "INSERT INTO decisions (op_id, model_id, input, decision, degraded, detail) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (op_id) DO NOTHING RETURNING {COLUMNS}"
        );
        let inserted = transaction
            .query_row(
                &sql,
                &[
                    (&new.op_id, Type::TEXT),
                    (&new.model_id, Type::INT8),
                    (input, Type::JSONB),
                    (&new.decision, Type::TEXT),
                    (&new.degraded, Type::BOOL),
                    (&new.detail, Type::JSONB),
                ],
            )
            .await?;
        if let Some(row) = inserted {
            let decision = decision(&row)?;
            let event = json!({
                "event": "decision-made", "id": format!("decision:{}", decision.op_id), "decision": &decision,
            });
            transaction.announce(Topic::Decisions, &decision.op_id, &event).await?;
            transaction.commit().await?;
            return Ok((decision, Effect::Created));
        }
        let sql = format!("SELECT {COLUMNS} FROM decisions WHERE op_id = $1");
        let existing = transaction.query_row(&sql, &[(&new.op_id, Type::TEXT)]).await?;
        transaction.rollback().await;
        match existing {
            Some(row) => Ok((decision(&row)?, Effect::AlreadyThere)),
            None => Err(DbFault::Away(format!("decision {} was removed meanwhile", new.op_id))),
        }
    }

    /// # Errors
    /// What the primary's failure means.
    pub async fn decision(&self, op_id: &str, deadline: Deadline) -> Result<Option<Decision>, DbFault> {
        let sql = format!("SELECT {COLUMNS} FROM decisions WHERE op_id = $1");
        match self.read_row(&sql, &[(&op_id, Type::TEXT)], deadline).await? {
            Some((row, _)) => Ok(Some(decision(&row)?)),
            None => Ok(None),
        }
    }
}

fn decision(row: &Row) -> Result<Decision, DbFault> {
    let read = || {
        Ok(Decision {
            op_id: row.try_get("op_id")?,
            model_id: row.try_get("model_id")?,
            decision: row.try_get("decision")?,
            degraded: row.try_get("degraded")?,
            detail: row.try_get("detail")?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| unreadable(&error))
}
