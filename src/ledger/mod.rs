//! Operations and what became of them: pure comparison of what was acknowledged, and of what was read, with what is there.

mod compare;
mod found;
mod history;
mod writes;

#[cfg(test)]
mod generator;

pub use compare::compare;
pub use found::{Found, FoundError};
