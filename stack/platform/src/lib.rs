//! The platform services of mettle's stack.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the roles, as a closed enum |
//! | [`config`] | settings from the environment |
//! | [`server`] | listener, graceful shutdown |
//! | [`http`] | routes, middleware, errors as responses |
//! | [`store`] | PostgreSQL (pools, transactions, the outbox) and Redis (cache, sessions, tokens) |
//! | [`stream`] | Kafka (relay, features) and RabbitMQ (jobs) |
//! | [`http_client`] | calls of other services: deadline, circuit, retry budget |
//! | [`span`], [`trace`] | spans to Zipkin; the context that they hang on |
//! | [`migrate`] | the schema |
//! | [`circuit`], [`cache`], [`deadline`], [`password`], [`token`], [`validate`] | small parts without I/O |
//!
//! Two rules hold everywhere. Every await has a deadline. And an answer never claims more than is
//! known: 503 says that nothing was done, 504 that a write may or may not have happened.

pub mod cache;
pub mod circuit;
pub mod cli;
pub mod config;
pub mod deadline;
pub mod http;
pub mod http_client;
pub mod metrics;
pub mod migrate;
pub mod password;
pub mod server;
pub mod span;
pub mod store;
pub mod stream;
pub mod token;
pub mod trace;
pub mod validate;
