//! What a run leaves behind, and how it is shown: every form is made from the same [`crate::model::Report`].

mod build;
mod compare;
mod compare_table;
mod html;
mod json;
mod junit;
mod markdown;
mod pages;
mod repeats;
mod scrub;
mod standing;
mod svg;
mod table;
mod usable;

#[cfg(test)]
mod sample;

pub use build::{Judged, experiment, run, script, with_control};
pub use compare::compare;
pub use compare_table::render as render_comparison;
pub use html::{Series, to_html};
pub use json::{FILE_NAME, ReportError, read, schema, to_text, write};
pub use junit::{to_xml, write as write_junit};
pub use markdown::to_markdown;
pub use pages::write as write_pages;
pub use standing::{Inventory, Standing, standings};
pub use table::render;
