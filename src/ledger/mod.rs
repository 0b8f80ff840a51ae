//! Operations and what became of them: pure comparison of what was acknowledged, and of what was read, with what is there.

mod compare;
mod drill;
mod found;
mod history;
mod recovered;
mod writes;

#[cfg(test)]
mod generator;

pub use compare::compare;
pub use drill::{DrillSeen, judge as judge_drill};
pub use found::{Found, FoundError};
pub use recovered::{Passage, Recovered, Stretch, acknowledged_between};
