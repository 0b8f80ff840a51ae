//! A directory as the target sees it, and the file with which it is filled up.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statvfs::fstatvfs;

pub const PREFIX: &str = ".mettle-fill-";

/// Held open: the process that it was reached through may be gone when the file is removed.
pub struct Directory(OwnedFd);

impl Directory {
    /// `path` in the file system of process `pid`. A link in it leads where it leads the target, never to our own files.
    pub fn of_process(pid: i32, path: &Path) -> Result<Self, String> {
        let root = format!("/proc/{pid}/root");
        let root_fd = File::open(&root).map_err(|error| format!("failed to open {root}: {error}"))?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let opened = openat2(root_fd.as_fd(), path, how);
        opened
            .map(Self)
            .map_err(|error| format!("failed to open {} of process {pid}: {error}", path.display()))
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Bytes that an ordinary user may still write.
    pub fn free_bytes(&self) -> Result<u64, String> {
        let stat =
            fstatvfs(self.0.as_fd()).map_err(|error| format!("failed to read the free space: {error}"))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    /// A new file of ours, without a name: it goes with whoever holds it open, however they end, and whatever becomes of
    /// their pod. Locked for the moment in which it has one: as long as the lock is held, its agent lives. A number would
    /// not say so: agents in other process namespaces may have the same one.
    pub fn create(&self) -> Result<File, String> {
        for attempt in 0..10 {
            let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let path = self.path().join(format!("{PREFIX}{}{suffix}", std::process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(format!("failed to create a file: {error}")),
            };
            let locked = file.try_lock();
            fs::remove_file(&path)
                .map_err(|error| format!("failed to take the file's name away: {error}"))?;
            return match locked {
                Ok(()) => Ok(file),
                Err(error) => Err(format!("failed to lock the file: {error}")),
            };
        }
        Err("ten agents were making a file here at the same time".to_owned())
    }

    /// Removes what agents left that died before their file had lost its name; names and sizes (bytes).
    pub fn clean(&self) -> Result<Vec<(String, u64)>, String> {
        let mut removed = Vec::new();
        let entries =
            fs::read_dir(self.path()).map_err(|error| format!("failed to list the directory: {error}"))?;
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_ours(&name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let file = OpenOptions::new().write(true).open(entry.path());
            let Ok(file) = file else { return Err(format!("failed to open the left {name}")) };
            if file.try_lock().is_err() {
                continue;
            }
            let bytes = size(&file);
            fs::remove_file(entry.path())
                .map_err(|error| format!("failed to remove the left {name}: {error}"))?;
            removed.push((name, bytes));
        }
        Ok(removed)
    }
}

/// What the file really takes, in bytes.
pub fn size(file: &File) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // The unit of st_blocks is 512 bytes whatever the file system's is.
    file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_our_own_names_are_ever_removed() {
        for (name, ours) in [
            (".mettle-fill-42", true),
            (".mettle-fill-42-1", true),
            (".mettle-fill-", false),
            (".mettle-fill-mine", false),
            ("data", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
