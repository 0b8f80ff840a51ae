//! What `up` decided about a cluster, kept in its `cluster.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::error::{ProviderError, Result, io};
use super::layout::{Layout, STATE_ROOT, node_name};
use super::net::{NODES, Networks};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub name: String,
    pub slot: u8,
    pub kubernetes: String,
    pub created: String,
    pub pause_image: String,
    /// Where each program came from.
    pub programs: BTreeMap<String, Program>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub path: PathBuf,
    pub source: String,
}

impl Record {
    pub fn networks(&self) -> Networks {
        Networks::of_slot(self.slot)
    }

    pub fn nodes(&self) -> Vec<String> {
        (1..=NODES).map(node_name).collect()
    }

    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        read_json(&layout.record())
    }

    pub fn save(&self, layout: &Layout) -> Result<()> {
        write_json(&layout.record(), self)
    }
}

/// Every cluster of this machine that has a record.
pub fn all() -> Result<Vec<Record>> {
    let root = Path::new(STATE_ROOT);
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    for entry in fs::read_dir(root).map_err(io("read", root))? {
        let path = entry.map_err(io("read", root))?.path().join("cluster.json");
        records.extend(read_json::<Record>(&path)?);
    }
    records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(records)
}

pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ProviderError::Parse { path: path.to_owned(), source }),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(io("read", path)(error)),
    }
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| ProviderError::Parse { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    write_file(path, &bytes)
}

/// Replaces a file as a whole, so that a reader or a crash never sees half of it.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    let new = path.with_extension("new");
    fs::write(&new, bytes).map_err(io("write", &new))?;
    fs::rename(&new, path).map_err(io("write", path))
}
