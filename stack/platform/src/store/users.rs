//! Users: a name and the hash of a password.

use serde::Serialize;
use tokio_postgres::types::Type;

use super::fault::DbFault;
use super::models::{Effect, unreadable};
use super::sql::Database;
use super::transaction::WriteTransaction;
use crate::deadline::Deadline;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    pub op_id: String,
    pub user: String,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    Done(User, Effect),
    /// Another operation has taken the name.
    Taken,
}

impl Database {
    /// Idempotent by `op_id`: the first request wins.
    ///
    /// # Errors
    /// All but `CommitUnknown` mean that nothing was committed.
    pub async fn register_user(
        &self,
        op_id: &str,
        user: &str,
        password_hash: &str,
        deadline: Deadline,
    ) -> Result<Registered, DbFault> {
        let mut transaction = WriteTransaction::begin(self, deadline).await?;
        // Either conflict: the operation's id or the name.
        let inserted = transaction
            .query_row(
                "INSERT INTO users (op_id, name, password_hash) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING RETURNING op_id",
                &[(&op_id, Type::TEXT), (&user, Type::TEXT), (&password_hash, Type::TEXT)],
            )
            .await?;
        if inserted.is_some() {
            transaction.commit().await?;
            let user = User { op_id: op_id.to_owned(), user: user.to_owned() };
            return Ok(Registered::Done(user, Effect::Created));
        }
        let sql = "SELECT op_id, name FROM users WHERE op_id = $1";
        let existing = transaction.query_row(sql, &[(&op_id, Type::TEXT)]).await?;
        transaction.rollback().await;
        let Some(row) = existing else { return Ok(Registered::Taken) };
        let read = || Ok(User { op_id: row.try_get("op_id")?, user: row.try_get("name")? });
        let user = read().map_err(|error: tokio_postgres::Error| unreadable(&error))?;
        Ok(Registered::Done(user, Effect::AlreadyThere))
    }

    /// The hash of the user's password.
    ///
    /// # Errors
    /// What the primary's failure means.
    pub async fn password_hash(&self, user: &str, deadline: Deadline) -> Result<Option<String>, DbFault> {
        let sql = "SELECT password_hash FROM users WHERE name = $1";
        match self.read_row(sql, &[(&user, Type::TEXT)], deadline).await? {
            Some((row, _)) => Ok(Some(row.try_get(0).map_err(|error| unreadable(&error))?)),
            None => Ok(None),
        }
    }
}
