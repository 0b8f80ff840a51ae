//! The HTTP side: routes, middleware, errors as responses.

pub mod app;
pub mod body;
pub mod error;
pub mod health;
pub mod layers;
pub mod models;
pub mod predictions;
pub mod router;
pub mod sessions;
