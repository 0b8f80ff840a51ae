//! The service as a process: alone, and on real dependencies.

mod away;
mod services;
mod support;
