//! The write-ahead undo log: before anything is changed, its undo is on disk.
//!
//! # Guarantees
//! - `intended` is synced before the API is called; a change without an entry never happened.
//! - A cut last line (the machine died while writing) is read as "never written".

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Change, RunId, Seed, Undo};

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("failed to write journal {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read journal {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("journal {}:{line} is not one of ours", path.display())]
    Malformed {
        path: PathBuf,
        line: usize,
        #[source]
        source: serde_json::Error,
    },
}

/// One line. There is one at a time, so the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    Opened {
        run: RunId,
        cluster: String,
        experiment: String,
        seed: Seed,
    },
    /// `before`: what the target was, for a person who must put it right by hand.
    Intended {
        sequence: u64,
        change: Change,
        undo: Undo,
        before: serde_json::Value,
    },
    Applied {
        sequence: u64,
    },
    /// The call failed or timed out: it may still have happened, so it stays open.
    ApplyFailed {
        sequence: u64,
        reason: String,
    },
    Reverted {
        sequence: u64,
        how: String,
    },
    Closed,
}

/// A change that may have happened and was not reverted.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenChange {
    pub sequence: u64,
    pub change: Change,
    pub undo: Undo,
}

/// Called after each append; tests stop the world here.
pub type Hook = Arc<dyn Fn(&Entry) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub struct Journal {
    path: PathBuf,
    file: File,
    /// Of the whole lines in it.
    length: u64,
    next: u64,
    hook: Option<Hook>,
}

impl Journal {
    /// Opens for appending; continues the numbering of what is there. A cut last line is removed, so that the
    /// next entry does not continue it.
    ///
    /// # Errors
    /// When the file cannot be created or read.
    pub fn open(path: &Path, hook: Option<Hook>) -> Result<Self, JournalError> {
        let write = |source| JournalError::Write { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(write)?;
        }
        let (known, length) = if path.exists() { read(path)? } else { (Vec::new(), 0) };
        let next = known.iter().filter_map(Entry::sequence).max().map_or(1, |last| last + 1);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(write)?;
        if file.metadata().map_err(write)?.len() > length {
            file.set_len(length).map_err(write)?;
        }
        Ok(Self { path: path.to_owned(), file, length, next, hook })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Appends and syncs.
    ///
    /// # Errors
    /// When the disk does not take it: then the change must not be made.
    pub async fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let write = |source| JournalError::Write { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(entry).map_err(|error| write(error.into()))?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would swallow the next one. If this fails too, it is read as cut, or as not ours.
            let _ = self.file.set_len(self.length);
            return Err(write(error));
        }
        self.length += line.len() as u64;
        if let Some(hook) = &self.hook {
            hook(entry).await;
        }
        Ok(())
    }
}

impl Entry {
    fn sequence(&self) -> Option<u64> {
        match self {
            Self::Opened { .. } | Self::Closed => None,
            Self::Intended { sequence, .. }
            | Self::Applied { sequence }
            | Self::ApplyFailed { sequence, .. }
            | Self::Reverted { sequence, .. } => Some(*sequence),
        }
    }
}

/// The entries, and the length of the whole lines that hold them.
fn read(path: &Path) -> Result<(Vec<Entry>, u64), JournalError> {
    // Bytes, not text: a line can be cut within a character.
    let bytes = std::fs::read(path).map_err(|source| JournalError::Read { path: path.to_owned(), source })?;
    let length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut entries = Vec::new();
    for (i, line) in bytes[..length].split_inclusive(|byte| *byte == b'\n').enumerate() {
        entries.push(serde_json::from_slice(line).map_err(|source| JournalError::Malformed {
            path: path.to_owned(),
            line: i + 1,
            source,
        })?);
    }
    Ok((entries, length as u64))
}

/// What is still to be undone, in the order in which it must be: last change first.
///
/// # Errors
/// When the journal cannot be read.
pub fn open_changes(path: &Path) -> Result<Vec<OpenChange>, JournalError> {
    let mut open = BTreeMap::new();
    for entry in read(path)?.0 {
        match entry {
            Entry::Intended { sequence, change, undo, .. } => {
                open.insert(sequence, OpenChange { sequence, change, undo });
            }
            Entry::Reverted { sequence, .. } => {
                open.remove(&sequence);
            }
            Entry::Opened { .. } | Entry::Applied { .. } | Entry::ApplyFailed { .. } | Entry::Closed => {}
        }
    }
    Ok(open.into_values().rev().collect())
}

/// The journals in `directory` that still hold open changes, by name.
///
/// # Errors
/// When the directory or a journal cannot be read.
pub fn find_unreverted(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let read = |source| JournalError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") && !open_changes(&path)?.is_empty()
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodRef;

    fn intended(sequence: u64) -> Entry {
        let pod = PodRef { namespace: "a".into(), name: format!("p{sequence}"), uid: "u".into() };
        Entry::Intended {
            sequence,
            change: Change::DeletePod { pod: pod.clone(), grace_seconds: 0 },
            undo: Undo::AwaitReplaced { pod, controller: "Deployment/d".into() },
            before: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn what_is_open_comes_last_first_and_a_cut_line_never_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j.jsonl");
        let mut journal = Journal::open(&path, None).unwrap();
        for entry in [
            intended(1),
            Entry::Applied { sequence: 1 },
            intended(2),
            Entry::ApplyFailed { sequence: 2, reason: "timeout".into() },
            intended(3),
            Entry::Reverted { sequence: 1, how: "replaced".into() },
        ] {
            journal.append(&entry).await.unwrap();
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"entry\":\"inten")
            .unwrap();
        let open: Vec<u64> = open_changes(&path).unwrap().iter().map(|change| change.sequence).collect();
        assert_eq!(open, [3, 2]);
        assert_eq!(find_unreverted(directory.path()).unwrap(), [path]);
        assert_eq!(find_unreverted(&directory.path().join("none")).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_foreign_line_is_an_error_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j.jsonl");
        std::fs::write(&path, "{\"entry\":\"closed\"}\nhello\n").unwrap();
        let error = open_changes(&path).unwrap_err().to_string();
        assert!(error.ends_with("j.jsonl:2 is not one of ours"), "{error}");
    }
}
