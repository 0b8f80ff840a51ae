//! The platform services of mettle's stack.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the roles, as a closed enum |
//! | [`config`] | settings from the environment |
//! | [`server`] | listener, graceful shutdown |
//! | [`http`] | routes, middleware, errors as responses |
//! | [`store`] | PostgreSQL (pools, transactions) and Redis (cache, sessions) |
//! | [`migrate`] | the schema |
//! | [`circuit`], [`cache`], [`deadline`], [`trace`], [`validate`] | small parts without I/O |
//!
//! Two rules hold everywhere. Every await has a deadline. And an answer never claims more than is
//! known: 503 says that nothing was done, 504 that a write may or may not have happened.

pub mod cache;
pub mod circuit;
pub mod cli;
pub mod config;
pub mod deadline;
pub mod http;
pub mod metrics;
pub mod migrate;
pub mod server;
pub mod store;
pub mod trace;
pub mod validate;
