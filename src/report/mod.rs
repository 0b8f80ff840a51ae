//! What a run leaves behind, and how it is shown: every form is made from the same [`crate::model::Report`].

mod build;
mod json;
mod junit;
mod scrub;
mod standing;
mod table;

#[cfg(test)]
mod sample;

pub use build::{Judged, experiment, run, script};
pub use json::{FILE_NAME, ReportError, read, schema, to_text, write};
pub use junit::{to_xml, write as write_junit};
pub use standing::{Inventory, Standing, standings};
pub use table::render;
