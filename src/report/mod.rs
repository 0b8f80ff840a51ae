//! What a run leaves behind, and how it is shown: every form is made from the same [`crate::model::Report`].

mod build;
mod compare;
mod compare_table;
mod json;
mod junit;
mod repeats;
mod scrub;
mod standing;
mod table;
mod usable;

#[cfg(test)]
mod sample;

pub use build::{Judged, experiment, run, with_control};
pub use compare::compare;
pub use compare_table::render as render_comparison;
pub use json::{FILE_NAME, ReportError, read, schema, to_text, write};
pub use junit::{to_xml, write as write_junit};
pub use standing::{Inventory, Standing, standings};
pub use table::render;
