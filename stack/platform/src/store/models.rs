//! Models: rows of PostgreSQL.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::fault::{DbFault, DriverError, before_commit};
use super::outbox::Topic;
use super::sql::{Database, Source};
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;

/// What never changes about a model, so that a cached copy is never wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub id: i64,
    pub op_id: String,
    pub name: String,
    pub framework: String,
    pub created_at: String,
}

/// A line of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogLine {
    #[serde(flatten)]
    pub model: Model,
    pub prediction_count: i64,
}

/// Whether a write did something, or found it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Created,
    AlreadyThere,
}

/// Whether a new model is told to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Yes,
    No,
}

macro_rules! model_columns {
    () => {
        "id, op_id, name, framework, \
         to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at"
    };
}

impl Database {
    /// Idempotent by `op_id`: the first request wins.
    ///
    /// # Errors
    /// See [`DbFault`]: all but `CommitUnknown` mean that nothing was committed.
    pub async fn create_model(
        &self,
        op_id: &str,
        name: &str,
        framework: &str,
        deadline: Deadline,
    ) -> Result<(Model, Effect), DbFault> {
        self.create_model_with(op_id, name, framework, Announce::No, deadline).await
    }

    /// As [`Self::create_model`]; with [`Announce::Yes`] the event goes into the outbox in the same transaction.
    ///
    /// # Errors
    /// See [`DbFault`]: all but `CommitUnknown` mean that nothing was committed.
    pub async fn create_model_with(
        &self,
        op_id: &str,
        name: &str,
        framework: &str,
        announce: Announce,
        deadline: Deadline,
    ) -> Result<(Model, Effect), DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        let inserted = transaction
            .query_row(
                concat!(
                    "INSERT INTO models (op_id, name, framework) VALUES ($1, $2, $3) \
                     ON CONFLICT (op_id) DO NOTHING RETURNING ",
                    model_columns!()
                ),
                &[(&op_id, Type::TEXT), (&name, Type::TEXT), (&framework, Type::TEXT)],
            )
            .await?;
        if let Some(row) = inserted {
            let model = model(&row)?;
            if announce == Announce::Yes {
                let event = serde_json::json!({
                    "event": "model-registered", "id": format!("model:{}", model.op_id), "model": &model,
                });
                transaction.announce(Topic::ModelEvents, &model.id.to_string(), &event).await?;
            }
            transaction.commit().await?;
            return Ok((model, Effect::Created));
        }
        let existing = transaction
            .query_row(
                concat!("SELECT ", model_columns!(), " FROM models WHERE op_id = $1"),
                &[(&op_id, Type::TEXT)],
            )
            .await?;
        transaction.rollback().await;
        match existing {
            Some(row) => Ok((model(&row)?, Effect::AlreadyThere)),
            None => Err(DbFault::Away(format!("model of operation {op_id} was removed meanwhile"))),
        }
    }

    /// # Errors
    /// What the primary's failure means.
    pub async fn model(&self, id: i64, deadline: Deadline) -> Result<Option<(Model, Source)>, DbFault> {
        let sql = concat!("SELECT ", model_columns!(), " FROM models WHERE id = $1");
        match self.read_row(sql, &[(&id, Type::INT8)], deadline).await? {
            Some((row, source)) => Ok(Some((model(&row)?, source))),
            None => Ok(None),
        }
    }

    /// The latest models.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn catalog(
        &self,
        limit: i64,
        deadline: Deadline,
    ) -> Result<(Vec<CatalogLine>, Source), DbFault> {
        let sql =
            concat!("SELECT ", model_columns!(), ", prediction_count FROM models ORDER BY id DESC LIMIT $1");
        let (rows, source) = self.read(sql, &[(&limit, Type::INT8)], deadline).await?;
        let lines = rows
            .iter()
            .map(|row| {
                let prediction_count = row.try_get("prediction_count").map_err(|e| unreadable(&e))?;
                Ok(CatalogLine { model: model(row)?, prediction_count })
            })
            .collect::<Result<_, DbFault>>()?;
        Ok((lines, source))
    }
}

fn model(row: &Row) -> Result<Model, DbFault> {
    let read = || {
        Ok(Model {
            id: row.try_get("id")?,
            op_id: row.try_get("op_id")?,
            name: row.try_get("name")?,
            framework: row.try_get("framework")?,
            created_at: row.try_get("created_at")?,
        })
    };
    read().map_err(|error: tokio_postgres::Error| unreadable(&error))
}

/// A row that does not have the columns we asked for: before a commit, nothing was committed.
pub(super) fn unreadable(error: &tokio_postgres::Error) -> DbFault {
    match DriverError::from(error) {
        DriverError::Connection(message) => DbFault::Refused(format!("unexpected row: {message}")),
        server => before_commit(&server),
    }
}
