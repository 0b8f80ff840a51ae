//! Predictions: a row and a counter that must never part.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::fault::DbFault;
use super::models::{Effect, unreadable};
use super::sql::{Database, Source};
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    pub op_id: String,
    pub model_id: i64,
    pub output: Value,
}

const SELECT: &str = "SELECT op_id, model_id, output FROM predictions WHERE op_id = $1";

impl Database {
    /// Inserts the prediction and counts it, in one transaction. Only a row that was inserted is counted,
    /// so that `sum(models.prediction_count) = count(predictions)` holds at any time.
    ///
    /// # Errors
    /// [`DbFault::NoReference`] when there is no such model. All but `CommitUnknown` mean that nothing was
    /// committed.
    pub async fn create_prediction(
        &self,
        op_id: &str,
        model_id: i64,
        input: &Value,
        output: &Value,
        deadline: Deadline,
    ) -> Result<(Prediction, Effect), DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let inserted = transaction
            .query_row(
                "INSERT INTO predictions (op_id, model_id, input, output) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (op_id) DO NOTHING RETURNING op_id, model_id, output",
                &[(&op_id, Type::TEXT), (&model_id, Type::INT8), (input, Type::JSONB), (output, Type::JSONB)],
            )
            .await?;
        if let Some(row) = inserted {
            let prediction = prediction(&row)?;
            let sql = "UPDATE models SET prediction_count = prediction_count + 1 WHERE id = $1";
            transaction.query(sql, &[(&model_id, Type::INT8)]).await?;
            transaction.commit().await?;
            return Ok((prediction, Effect::Created));
        }
        let existing = transaction.query_row(SELECT, &[(&op_id, Type::TEXT)]).await?;
        transaction.rollback().await;
        match existing {
            Some(row) => Ok((prediction(&row)?, Effect::AlreadyThere)),
            None => Err(DbFault::Away(format!("prediction {op_id} was removed meanwhile"))),
        }
    }

    /// # Errors
    /// What the primary's failure means.
    pub async fn prediction(
        &self,
        op_id: &str,
        deadline: Deadline,
    ) -> Result<Option<(Prediction, Source)>, DbFault> {
        match self.read_row(SELECT, &[(&op_id, Type::TEXT)], deadline).await? {
            Some((row, source)) => Ok(Some((prediction(&row)?, source))),
            None => Ok(None),
        }
    }
}

fn prediction(row: &Row) -> Result<Prediction, DbFault> {
    let read = || {
        Ok(Prediction {
            op_id: row.try_get("op_id")?,
            model_id: row.try_get("model_id")?,
            output: row.try_get("output")?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| unreadable(&error))
}

/// The stand-in for inference: a pure function of model and input, so that any copy of the service gives the
/// same output and a client can tell a wrong one.
#[must_use]
pub fn infer(model_id: i64, input: &Value) -> Value {
    let hash = fnv1a(format!("{model_id}:{input}").as_bytes());
    let label = ["negative", "neutral", "positive"][usize::try_from(hash % 3).unwrap_or(0)];
    serde_json::json!({ "label": label, "score_per_mille": (hash >> 8) % 1_000, "digest": format!("{hash:016x}") })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inference_is_a_function_of_model_and_input() {
        let input = serde_json::json!({"text": "hello", "n": [1, 2]});
        assert_eq!(infer(1, &input), infer(1, &input));
        assert_ne!(infer(1, &input), infer(2, &input));
        assert_ne!(infer(1, &input), infer(1, &Value::Null));
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
