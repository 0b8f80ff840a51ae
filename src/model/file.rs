//! Reads our YAML files. Every error names the file, the line and the field.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}:{line}: {field}: {message}", path.display())]
    Parse { path: PathBuf, line: u64, field: String, message: String },
    #[error("{}: {field}: {message}", path.display())]
    Invalid { path: PathBuf, field: String, message: String },
}

impl FileError {
    pub fn invalid(path: &Path, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), field: field.into(), message: message.into() }
    }

    /// Something wrong with a field of a file that was read as `text`; with its line.
    #[must_use]
    pub fn at(path: &Path, text: &str, field: &str, message: &str) -> Self {
        let line = line_of(text, field);
        let (field, message) = (printable(field), printable(message));
        Self::Parse { path: path.to_owned(), line, field, message }
    }
}

/// Files larger than this are not ours.
const SIZE_MAX: u64 = 1 << 20;

/// Says the first thing in a parsed file that cannot be meant: field path and sentence.
pub type Problem<T> = fn(&T) -> Option<(String, String)>;

/// Reads one of our files as text.
///
/// # Errors
/// When it cannot be read, is larger than 1 MiB, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // Bounded by what is read, not by what the file says of its size: devices and pipes say 0.
    File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes)).map_err(read)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(FileError::invalid(path, "file", "is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count() as u64;
        let (field, message) = ("file".to_owned(), "is not UTF-8 text".to_owned());
        FileError::Parse { path: path.to_owned(), line, field, message }
    })
}

/// Reads, parses and checks one YAML file.
///
/// # Errors
/// When it cannot be read, does not have the shape of `T`, or has a problem; with the line of the field.
pub fn read_yaml<T: DeserializeOwned>(path: &Path, problem: Problem<T>) -> Result<T, FileError> {
    let text = read_text(path)?;
    let parsed = parse_yaml(path, &text)?;
    match problem(&parsed) {
        Some((field, message)) => Err(FileError::at(path, &text, &field, &message)),
        None => Ok(parsed),
    }
}

/// Parses one YAML document; `path` is only for messages.
///
/// # Errors
/// When the text does not have the shape of `T`.
pub fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    let mut field = None;
    let result = serde_saphyr::with_deserializer_from_str(text, |de| {
        serde_path_to_error::deserialize::<_, T>(de).map_err(|error| {
            field = Some(error.path().to_string());
            error.into_inner()
        })
    });
    result.map_err(|error| {
        let said = first_line(&error.without_snippet().to_string());
        let field = field.unwrap_or_default();
        let (field, message) = in_our_words(field.trim_start_matches(['.', '?']), &said);
        let line = match error.location() {
            // What is missing is nowhere: the line is that of what should have it.
            Some(location) if message != MISSING => location.line().max(1),
            _ => line_of(text, &field),
        };
        let field = if field.is_empty() { "document".to_owned() } else { printable(&field) };
        FileError::Parse { path: path.to_owned(), line, field, message: printable(&message) }
    })
}

/// A name out of a file may hold a line break or a terminal's escape; a message is one line of text.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The parser's own text without its position, which we print ourselves.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.find(" at line ") {
        Some(at) => line[..at].trim_end_matches(',').to_owned(),
        None => line.to_owned(),
    }
}

const MISSING: &str = "is missing";

/// Field and message as a user of the file would say them; what is not known here stays as it is.
fn in_our_words(field: &str, message: &str) -> (String, String) {
    let below = |name: &str| match field {
        "" => name.to_owned(),
        parent => format!("{parent}.{name}"),
    };
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return (below(name), MISSING.to_owned());
    }
    if let Some((name, _)) =
        message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split_once(','))
    {
        return (below(name), "is given twice".to_owned());
    }
    let said = match message {
        "unexpected end of input" if field.is_empty() => "is empty",
        "expected string scalar" => "must be text",
        "expected mapping start" => "must be a mapping of fields",
        "expected sequence start" => "must be a list",
        "invalid u16" => "must be a whole number from 0 to 65535",
        "invalid u32" => "must be a whole number from 0 to 4294967295",
        "invalid u64" => "must be a whole number, 0 or more",
        _ if message.starts_with("multiple YAML documents") => "holds more than one document",
        _ if message.starts_with("invalid floating point") => "must be a number",
        other => {
            return (field.to_owned(), other.replacen("unknown variant", "unknown value", 1));
        }
    };
    (field.to_owned(), said.to_owned())
}

/// The line of a field; of the nearest field around it when it is not there; 1 when nothing of it is.
fn line_of(text: &str, field: &str) -> u64 {
    let path: Vec<&str> = field.split(['.', '[']).map(|part| part.trim_end_matches(']')).collect();
    (1..=path.len()).rev().find_map(|depth| locate(text, &path[..depth])).unwrap_or(1)
}

fn locate(text: &str, path: &[&str]) -> Option<u64> {
    let found = serde_saphyr::with_deserializer_from_str(text, |de| Locate { path }.deserialize(de));
    let error = found.err().filter(|error| error.to_string().contains(FOUND))?;
    error.location().map(|location| location.line()).filter(|line| *line > 0)
}

const FOUND: &str = "here it is";

/// Walks a document along a path and fails where it ends: only the parser knows the line, and only tells it then.
struct Locate<'a> {
    path: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() { FOUND } else { "a field" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.path {
                [] => return Err(A::Error::custom(FOUND)),
                [first, rest @ ..] if *first == key => map.next_value_seed(Locate { path: rest })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if self.path.is_empty() { Err(A::Error::custom(FOUND)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else { return Err(A::Error::custom(FOUND)) };
        let wanted: Option<usize> = first.parse().ok();
        let mut at = 0;
        loop {
            let more = if wanted == Some(at) {
                list.next_element_seed(Locate { path: rest })?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_field_or_of_the_nearest_one_around_it() {
        let text = "a: 1\nb:\n  - c: x\n  - c: y\n    d: [1, 2]\n    e: {}\nf: {g: 1}\n";
        for (field, line) in [
            ("a", 1),
            ("b[0].c", 3),
            ("b[1].d[1]", 5),
            ("b[1].e", 6),
            ("b[1].zz", 4),
            ("f.g", 7),
            ("nosuch", 1),
            ("", 1),
        ] {
            assert_eq!(line_of(text, field), line, "{field}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_or_an_escape_is_told_on_one_line() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Known {
            #[allow(dead_code, reason = "only read by serde")]
            a: u32,
        }
        for (text, told) in [
            ("a: 1\n\"b\\nc\": 2\n", "x.yaml:2: b\\nc: "),
            ("a: 1\n\"\\e[2J\": 2\n", "x.yaml:2: \\u{1b}[2J: "),
            ("a: 1\n\"d\\re\": 2\n", "x.yaml:2: d\\re: "),
        ] {
            let error = parse_yaml::<Known>(Path::new("x.yaml"), text).expect_err(text).to_string();
            assert!(error.starts_with(told) && !error.contains(char::is_control), "{error:?}");
        }
    }
}
