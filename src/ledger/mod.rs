//! Operations and what became of them: pure comparison of what was acknowledged with what is there.

mod compare;
mod drill;
mod recovered;

pub use compare::{Found, compare};
pub use drill::{DrillSeen, judge as judge_drill};
pub use recovered::{Passage, Recovered, Stretch, acknowledged_between};
