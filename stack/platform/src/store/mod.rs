//! The stores behind the services.

pub mod fault;
pub mod kv;
pub mod kv_fault;
pub mod models;
pub mod predictions;
pub mod sessions;
pub mod sql;
pub mod transaction;
