//! What goes into an image: its build context, and the hash that is its tag.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{Result, io};

/// A build context: the image's directory and the files that are added to it.
pub(super) fn stage(dir: &Path, files: &[PathBuf], cache: &Path) -> Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let context = cache.join(format!(".context-{name}"));
    let _ = fs::remove_dir_all(&context);
    fs::create_dir_all(&context).map_err(io("create", &context))?;
    for file in files_below(dir)? {
        let relative = file.strip_prefix(dir).unwrap_or(&file);
        copy(&file, &context.join(relative))?;
    }
    for file in files {
        copy(file, &context.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(context)
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    fs::copy(from, to).map(drop).map_err(io("copy", from))
}

/// Every file below a path, in order; the path itself when it is a file.
fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io("read", path))? {
        found.extend(files_below(&entry.map_err(io("read", path))?.path())?);
    }
    found.sort();
    Ok(found)
}

/// Hash over the names and bytes of files, and over what they stand on.
pub(super) fn content_hash(inputs: &[PathBuf], salt: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    for input in inputs {
        for file in files_below(input)? {
            let relative = file.strip_prefix(input).unwrap_or(&file);
            let bytes = fs::read(&file).map_err(io("read", &file))?;
            hash.update(relative.as_os_str().as_encoded_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_the_directory_and_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("web");
        fs::create_dir_all(source.join("etc")).unwrap();
        fs::write(source.join("etc/a"), "a").unwrap();
        fs::write(dir.path().join("program"), "p").unwrap();
        let context = stage(&source, &[dir.path().join("program")], dir.path()).unwrap();
        let names: Vec<PathBuf> = files_below(&context).unwrap();
        assert_eq!(names, [context.join("etc/a"), context.join("program")]);
    }
}
