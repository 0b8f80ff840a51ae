//! Operations and what became of them: pure comparison of what was acknowledged with what is there.

mod compare;

pub use compare::{Found, compare};
