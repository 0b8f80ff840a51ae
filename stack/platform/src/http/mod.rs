//! The HTTP side: routes, middleware, errors as responses.

pub mod app;
pub mod auth;
pub mod body;
pub mod caller;
pub mod decisions;
pub mod error;
pub mod frontend;
pub mod health;
pub mod inference;
pub mod layers;
pub mod models;
pub mod predictions;
pub mod registry;
pub mod router;
pub mod sessions;
