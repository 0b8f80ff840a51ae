//! `report.json`: written whole or not at all, read back with tolerance for fields that came later.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::Report;

pub const FILE_NAME: &str = "report.json";

/// Reports larger than this are not ours.
const SIZE_MAX: u64 = 64 << 20;

#[derive(Debug, Error)]
pub enum ReportError {
    #[error("no report at {}", .0.display())]
    Missing(PathBuf),
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a report: {field}: {message}", path.display())]
    Parse { path: PathBuf, field: String, message: String },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The report as it stands in the file: indented, fields in the order of the schema, one newline at the end.
///
/// # Errors
/// Never in practice: every key of a report is text.
pub fn to_text(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// The JSON schema of `report.json`.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
    format!("{:#}\n", schema.as_value())
}

/// Writes `report.json` into a directory that exists, and answers with its path.
///
/// # Errors
/// When the file cannot be written; an earlier one is then still whole.
pub fn write(directory: &Path, report: &Report) -> Result<PathBuf, ReportError> {
    let path = directory.join(FILE_NAME);
    let text = to_text(report)
        .map_err(|error| ReportError::Write { path: path.clone(), source: io::Error::other(error) })?;
    write_whole(&path, text.as_bytes())?;
    Ok(path)
}

/// Writes a file beside its place, syncs it, and moves it there: a reader sees the old one or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The name is only safe once the directory is.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|source| {
        // The first failure is the one to report, whether or not the remains can be removed.
        let _ = fs::remove_file(&beside);
        failed(source)
    })
}

/// Reads the report of a run: its directory, or the file itself.
///
/// # Errors
/// When there is none, it cannot be read, or it is no report; the message names the field.
pub fn read(path: &Path) -> Result<Report, ReportError> {
    let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReportError::Missing(path.clone()),
        _ => ReportError::Read { path: path.clone(), source },
    };
    let size = fs::metadata(&path).map_err(failed)?.len();
    if size > SIZE_MAX {
        return Err(ReportError::Parse {
            field: "file".to_owned(),
            message: format!("is {size} bytes, at most {SIZE_MAX} are read"),
            path,
        });
    }
    let text = fs::read(&path).map_err(failed)?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(&text)).map_err(|error| {
        let field = error.path().to_string();
        ReportError::Parse {
            path: path.clone(),
            field: if matches!(field.as_str(), "." | "?") { "document".to_owned() } else { field },
            message: error.into_inner().to_string(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::report;
    use super::{FILE_NAME, ReportError, read, schema, to_text, write};

    #[test]
    fn the_file_and_its_schema_are_a_contract() {
        insta::assert_snapshot!("report.json", to_text(&report()).expect("it is JSON"));
        insta::assert_snapshot!("schema", schema());
    }

    #[test]
    fn what_is_written_is_read_back_from_file_and_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(directory.path(), &report()).expect("it is written");
        let again = write(directory.path(), &report()).expect("it is written over");
        assert_eq!(path, again);
        assert_eq!(read(directory.path()).expect("by directory"), report());
        assert_eq!(read(&path).expect("by file"), report());
        let names: Vec<_> = std::fs::read_dir(directory.path()).expect("listing").flatten().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn fields_of_a_later_version_are_tolerated_and_added_ones_may_be_absent() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = to_text(&report()).expect("it is JSON");
        let text = text.replacen('{', "{ \"added_later\": 1,", 1).replace("\"violations\"", "\"unknown\"");
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, text).expect("it is written");
        assert_eq!(read(&path).expect("it is read").experiments.len(), report().experiments.len());
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = read(directory.path()).expect_err("there is none");
        assert!(matches!(missing, ReportError::Missing(_)), "{missing}");
        let path = directory.path().join(FILE_NAME);
        for (text, part) in [
            ("", "document: EOF"),
            ("{\"run\": 3}", "run: invalid type"),
            ("{\"run\": \"r\", \"verdict\": \"good\"}", "verdict: unknown variant `good`"),
        ] {
            std::fs::write(&path, text).expect("it is written");
            let message = read(&path).expect_err(text).to_string();
            assert!(message.contains(part), "{message}");
        }
        let nowhere = write(&directory.path().join("absent"), &report()).expect_err("no directory");
        assert!(matches!(nowhere, ReportError::Write { .. }));
    }
}
