//! Reads back what a child wrote.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::LoadError;
use crate::model::Operation;

/// More are not read: 2,000 requests/s for almost three hours.
const LINES_MAX: u64 = 20_000_000;

/// All operations of the file, in the order in which they were done. A last line without its end
/// is what a killed child leaves: it is skipped. Anything else that is no operation is an error.
///
/// # Errors
/// When the file cannot be read, holds something else, or more than 20 million operations.
pub fn read_operations(path: &Path) -> Result<Vec<Operation>, LoadError> {
    let read = |source| LoadError::ReadOperations { path: path.to_owned(), source };
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(read)?);
    let (mut operations, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        if number > LINES_MAX {
            return Err(LoadError::TooManyOperations { path: path.to_owned(), lines_max: LINES_MAX });
        }
        match serde_json::from_slice(&line) {
            Ok(operation) => operations.push(operation),
            Err(_) if line.last() != Some(&b'\n') => break,
            Err(source) => {
                return Err(LoadError::ParseOperation { path: path.to_owned(), line: number, source });
            }
        }
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"s":"a.b","i":1,"t":2,"d":3,"o":"ok"}"#;

    fn read(text: &str) -> Result<usize, LoadError> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        read_operations(file.path()).map(|operations| operations.len())
    }

    #[test]
    fn only_a_cut_last_line_is_forgiven() {
        assert_eq!(read("").expect("empty"), 0);
        assert_eq!(read(&format!("{LINE}\n{LINE}\n")).expect("whole"), 2);
        assert_eq!(read(&format!("{LINE}\n{}", &LINE[..20])).expect("cut"), 1);
        assert_eq!(read(&format!("{LINE}\n{LINE}")).expect("whole without an end"), 2);
        let error = read(&format!("{LINE}\nnonsense\n{LINE}\n")).expect_err("damaged").to_string();
        assert!(error.contains(":2: not an operation"), "{error}");
        assert!(read_operations(Path::new("/nonexistent/x")).is_err());
    }
}
