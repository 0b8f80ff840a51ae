//! The service as a process: alone, and on real dependencies.

mod away;
mod journey;
mod roles_away;
mod services;
mod support;
