//! A file lock a cluster, so that two commands never work on the same one.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::super::error::{ProviderError, Result, io};

const POLL: Duration = Duration::from_millis(50);

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Waits up to `patience` for the lock.
    pub fn acquire(path: &Path, name: &str, patience: Duration) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        let deadline = Instant::now() + patience;
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .map_err(io("open", path))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) if still_there(&file, path) => {
                    return Ok(Self { path: path.to_owned(), _file: file });
                }
                // The holder removed the file when it was done: lock the new one.
                Ok(_) => {}
                Err(_) if Instant::now() >= deadline => {
                    return Err(ProviderError::Locked { name: name.to_owned(), path: path.to_owned() });
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Gives the lock back and leaves no file behind.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(io("remove", &self.path))
    }
}

fn still_there(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = Lock::acquire(&path, "a", Duration::ZERO).unwrap();
        let error = Lock::acquire(&path, "a", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, ProviderError::Locked { .. }));
        first.remove().unwrap();
        assert!(!path.exists());
        drop(Lock::acquire(&path, "a", Duration::ZERO).unwrap());
    }
}
