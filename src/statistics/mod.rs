//! Few runs, honestly: medians with an interval, and how far two samples are apart. Pure, and the same seed gives the
//! same figures.

mod bootstrap;
mod summary;

pub use bootstrap::{Bounds, Centre, SAMPLES_MIN, difference};
pub use summary::{centre, statistic};
