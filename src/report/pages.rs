//! `report.html` and `report.md` beside `report.json`.

use std::path::Path;

use crate::model::Report;

use super::html::{Series, to_html};
use super::json::{ReportError, write_whole};
use super::markdown::to_markdown;

/// Writes both into a directory that exists.
///
/// # Errors
/// When one cannot be written; an earlier one is then still whole.
pub fn write(
    directory: &Path,
    report: &Report,
    series: &Series,
    exit_meaning: &str,
) -> Result<(), ReportError> {
    let page = to_html(report, series, exit_meaning);
    write_whole(&directory.join("report.html"), page.as_bytes())?;
    write_whole(&directory.join("report.md"), to_markdown(report, exit_meaning).as_bytes())
}
