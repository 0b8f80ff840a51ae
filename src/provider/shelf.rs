//! Which images the cache holds, how large they are, and what they took to build.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::{ProviderError, Result, io};
use super::local::binaries::cache_dir;

/// More files than any cache holds: what lies beyond is not looked at.
const FILES_MAX: usize = 10_000;

/// Beside an image's archive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Taken {
    /// Without what it stands on; absent when the builder's own store still had it.
    build_seconds: Option<f64>,
    save_seconds: f64,
}

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    pub name: String,
    /// Hash of everything that goes into it.
    pub tag: String,
    /// Of its archive: buildah compresses its layers, Docker does not.
    pub bytes: u64,
    pub build_seconds: Option<f64>,
    pub save_seconds: Option<f64>,
    #[serde(skip)]
    written: SystemTime,
}

/// Writes down what an image took.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn record(archive: &Path, built: Option<Duration>, saved: Duration) -> Result<()> {
    let taken =
        Taken { build_seconds: built.map(|built| built.as_secs_f64()), save_seconds: saved.as_secs_f64() };
    let path = beside(archive);
    let text = serde_json::to_string(&taken)
        .map_err(|error| ProviderError::Unreadable { path: path.clone(), problem: error.to_string() })?;
    fs::write(&path, text).map_err(io("write", &path))
}

/// The newest of every name, by name.
///
/// # Errors
/// When the cache cannot be read. A cache that is not there is empty.
pub fn kept() -> Result<Vec<Kept>> {
    kept_in(&cache_dir().join("images"))
}

fn kept_in(dir: &Path) -> Result<Vec<Kept>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("read", dir)(error)),
    };
    let mut found: Vec<Kept> = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(io("read", dir))?.path();
        let Some((name, tag)) = named(&path) else { continue };
        let about = fs::metadata(&path).map_err(io("read", &path))?;
        let taken: Option<Taken> =
            fs::read_to_string(beside(&path)).ok().and_then(|text| serde_json::from_str(&text).ok());
        found.push(Kept {
            name,
            tag,
            bytes: about.len(),
            build_seconds: taken.and_then(|taken| taken.build_seconds),
            save_seconds: taken.map(|taken| taken.save_seconds),
            written: about.modified().map_err(io("read", &path))?,
        });
    }
    found.sort_by(|a, b| (&a.name, b.written).cmp(&(&b.name, a.written)));
    found.dedup_by(|later, first| later.name == first.name);
    Ok(found)
}

fn beside(archive: &Path) -> PathBuf {
    archive.with_extension("json")
}

/// `metrics-adapter-72bcd5c334a7.tar` → its name and its tag.
fn named(path: &Path) -> Option<(String, String)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".tar")?;
    let (name, tag) = stem.rsplit_once('-')?;
    Some((name.to_owned(), tag.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_name_with_what_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64, bytes: usize| {
            let path = dir.path().join(name);
            fs::write(&path, vec![0; bytes]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        put("metrics-adapter-aa.tar", 100, 1);
        let newer = put("metrics-adapter-bb.tar", 10, 2);
        put("redis-cc.tar", 5, 3);
        put("redis-dd.new", 1, 9);
        record(&newer, Some(Duration::from_millis(2500)), Duration::from_millis(500)).unwrap();
        let found = kept_in(dir.path()).unwrap();
        let short: Vec<_> = found
            .iter()
            .map(|kept| (kept.name.as_str(), kept.tag.as_str(), kept.bytes, kept.build_seconds))
            .collect();
        assert_eq!(short, [("metrics-adapter", "bb", 2, Some(2.5)), ("redis", "cc", 3, None)]);
    }

    #[test]
    fn no_cache_is_an_empty_one() {
        assert_eq!(kept_in(Path::new("/does/not/exist")).unwrap(), []);
    }
}
