//! The files of an experiment's directory that its judgement stands on. Their digests are in the report, so what was
//! changed, cut or lost since is told, and never judged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::cluster::chain;
use crate::ledger::{Found, FoundError};
use crate::load::{LoadError, read_operations};
use crate::model::{Event, EvidenceFiles, ExperimentRecord, ExperimentReport, Operation, Store};

const TIMELINE: &str = "timeline.jsonl";
const OPERATIONS: &str = "operations.jsonl";

/// What a judgement needs besides the timeline, the operations and what the stores held.
pub trait Recorded: Serialize + DeserializeOwned {
    /// Its name among the files of the directory.
    const FILE: &'static str;

    /// How many operations were read when it was judged.
    fn operations(&self) -> usize;
}

impl Recorded for ExperimentRecord {
    const FILE: &'static str = "record.json";

    fn operations(&self) -> usize {
        self.operations
    }
}

/// All that one experiment, or one drill, is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence<R = ExperimentRecord> {
    pub record: R,
    pub events: Vec<Event>,
    pub operations: Vec<Operation>,
    /// Absent store: it was not read back.
    pub found: BTreeMap<Store, Found>,
}

#[derive(Debug, Error)]
pub enum EvidenceError {
    #[error("{name} is not among the files that {} was judged by", directory.display())]
    Unlisted { directory: PathBuf, name: String },
    #[error("{} is missing: it was judged by it", .0.display())]
    Missing(PathBuf),
    #[error("{} is not what was judged: it was changed or cut since", .0.display())]
    Altered(PathBuf),
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}:{line}: {message}", path.display())]
    Parse { path: PathBuf, line: usize, message: String },
    #[error("{} is not what a store held", path.display())]
    Found {
        path: PathBuf,
        #[source]
        source: FoundError,
    },
    #[error("failed to read the operations")]
    Operations(#[source] LoadError),
}

fn found_name(store: Store) -> String {
    format!("found-{}.jsonl", store.as_str())
}

/// Puts what is not there yet beside the timeline and the operations, and answers with every file's digest.
fn store<R: Recorded>(
    directory: &Path,
    record: &R,
    found: &BTreeMap<Store, Found>,
) -> Result<EvidenceFiles, EvidenceError> {
    write(&directory.join(R::FILE), record)?;
    let mut names = vec![R::FILE.to_owned()];
    for (store, found) in found {
        let name = found_name(*store);
        write_found(&directory.join(&name), found)?;
        names.push(name);
    }
    // A load that never started wrote no operations; who records in memory only has no timeline.
    let there = [TIMELINE, OPERATIONS].into_iter().filter(|name| directory.join(name).exists());
    names.extend(there.map(str::to_owned));
    let mut files = BTreeMap::new();
    for name in names {
        let digest = digest(&directory.join(&name))?;
        files.insert(name, digest);
    }
    let directory = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(EvidenceFiles { directory: directory.unwrap_or_default(), files })
}

/// Puts everything on disk, then judges; what could not be stored is no pass.
pub(super) fn stored_and_judged<R: Recorded>(
    directory: &Path,
    evidence: Evidence<R>,
    judge: impl FnOnce(Evidence<R>) -> ExperimentReport,
) -> ExperimentReport {
    let stored = store(directory, &evidence.record, &evidence.found);
    let mut report = judge(evidence);
    match stored {
        Ok(files) => report.judged_by = Some(files),
        Err(error) => report.doubt(format!("what it was judged by could not be stored: {}", chain(&error))),
    }
    report
}

/// Whether these files are of what `R` records.
#[must_use]
pub fn is_of<R: Recorded>(files: &EvidenceFiles) -> bool {
    files.files.contains_key(R::FILE)
}

/// Reads the evidence of an experiment, or of a drill, back, each file only if it is still what was judged.
///
/// # Errors
/// When a file is missing, was changed since, or is not what its name says.
pub fn read_evidence<R: Recorded>(
    directory: &Path,
    files: &EvidenceFiles,
) -> Result<Evidence<R>, EvidenceError> {
    for (name, known) in &files.files {
        if digest(&directory.join(name))? != *known {
            return Err(EvidenceError::Altered(directory.join(name)));
        }
    }
    let listed = |name: &str| match files.files.contains_key(name) {
        true => Ok(directory.join(name)),
        false => Err(EvidenceError::Unlisted { directory: directory.to_owned(), name: name.to_owned() }),
    };
    let record: R = read_json(&listed(R::FILE)?)?;
    let events = events(&listed(TIMELINE)?)?;
    let mut operations = match listed(OPERATIONS) {
        Ok(path) => read_operations(&path).map_err(EvidenceError::Operations)?,
        Err(_) if record.operations() == 0 => Vec::new(),
        Err(error) => return Err(error),
    };
    // What a load wrote that could not be stopped was never judged.
    operations.truncate(record.operations());
    let mut found = BTreeMap::new();
    for name in files.files.keys() {
        let store = name.strip_prefix("found-").and_then(|rest| rest.strip_suffix(".jsonl"));
        let Some(store) = store else { continue };
        let path = directory.join(name);
        let store = serde_json::from_value(store.into()).map_err(|error| EvidenceError::Parse {
            path: path.clone(),
            line: 1,
            message: error.to_string(),
        })?;
        found.insert(store, read_found(&path)?);
    }
    Ok(Evidence { record, events, operations, found })
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), EvidenceError> {
    let written = serde_json::to_vec(value).map_err(io::Error::from).and_then(|mut bytes| {
        bytes.push(b'\n');
        let mut file = File::create(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.map_err(|source| EvidenceError::Write { path: path.to_owned(), source })
}

fn write_found(path: &Path, found: &Found) -> Result<(), EvidenceError> {
    let written = File::create(path).and_then(|file| {
        found.write(BufWriter::new(&file))?;
        file.sync_all()
    });
    written.map_err(|source| EvidenceError::Write { path: path.to_owned(), source })
}

fn read_found(path: &Path) -> Result<Found, EvidenceError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    Found::read(BufReader::new(file)).map_err(|source| EvidenceError::Found { path: path.to_owned(), source })
}

fn failed(path: &Path, source: io::Error) -> EvidenceError {
    match source.kind() {
        io::ErrorKind::NotFound => EvidenceError::Missing(path.to_owned()),
        _ => EvidenceError::Read { path: path.to_owned(), source },
    }
}

fn digest(path: &Path) -> Result<String, EvidenceError> {
    let hash = || -> io::Result<String> {
        let (mut file, mut hash, mut chunk) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    hash().map_err(|source| failed(path, source))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, EvidenceError> {
    let text = fs::read(path).map_err(|source| failed(path, source))?;
    serde_json::from_slice(&text).map_err(|error| EvidenceError::Parse {
        path: path.to_owned(),
        line: error.line(),
        message: error.to_string(),
    })
}

fn events(path: &Path) -> Result<Vec<Event>, EvidenceError> {
    let text = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    let lines = text.lines().enumerate();
    let parsed = lines.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| EvidenceError::Parse {
            path: path.to_owned(),
            line: index + 1,
            message: format!("not an event: {error}"),
        })
    });
    parsed.collect()
}
