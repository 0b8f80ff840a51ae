//! The stores behind the services.

pub mod decisions;
pub mod fault;
pub mod jobs;
pub mod kv;
pub mod kv_fault;
pub mod models;
pub mod outbox;
pub mod predictions;
pub mod sessions;
pub mod sql;
pub mod tokens;
pub mod transaction;
pub mod users;
