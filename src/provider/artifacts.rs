//! Files that an image needs and Debian does not package: named by address and checksum in the image's
//! `artifacts.txt`, downloaded once, kept by checksum, and put into the build context.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::{ProviderError, Result, exec, io};
use super::exec::Exec;
use super::progress::Step;

pub const LIST: &str = "artifacts.txt";

const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(15 * 60);
const ARTIFACTS_MAX: usize = 200;

/// One line of a list: `<sha256> <address> <file name>`; `#` begins a comment line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub sha256: String,
    pub url: String,
    /// Path in the build context.
    pub name: PathBuf,
}

/// What an image's directory lists; nothing when it has no list.
///
/// # Errors
/// When a line is not what it should be, with its number.
pub fn listed(image: &Path) -> Result<Vec<Artifact>> {
    let path = image.join(LIST);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(io("read", &path))?;
    parse(&text).map_err(|problem| ProviderError::Unreadable { path, problem })
}

fn parse(text: &str) -> std::result::Result<Vec<Artifact>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let artifacts: Vec<Artifact> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| {
            artifact(line).ok_or_else(|| format!("line {at} is not <sha256> <https address> <file name>"))
        })
        .collect::<std::result::Result<_, _>>()?;
    if artifacts.len() > ARTIFACTS_MAX {
        return Err(format!("{} files are more than {ARTIFACTS_MAX}", artifacts.len()));
    }
    Ok(artifacts)
}

fn artifact(line: &str) -> Option<Artifact> {
    let [sha256, url, name] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    let name = PathBuf::from(name);
    let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
    let is_sum = sha256.len() == 64 && sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let right = is_sum && url.starts_with("https://") && inside;
    right.then(|| Artifact { sha256: sha256.to_owned(), url: url.to_owned(), name })
}

/// Has every artifact in the cache, checked; answers with where each is.
///
/// # Errors
/// When one cannot be downloaded, or is not what its checksum says.
pub fn ensure(artifacts: &[Artifact], cache: &Path, image: &str) -> Result<Vec<PathBuf>> {
    let kept = |artifact: &Artifact| cache.join(&artifact.sha256);
    let missing: Vec<&Artifact> = artifacts.iter().filter(|artifact| !kept(artifact).exists()).collect();
    if !missing.is_empty() {
        fs::create_dir_all(cache).map_err(io("create", cache))?;
        let label = format!("downloading what image {image} needs, once");
        let step = Step::counted(label, missing.len() as u64);
        for (done, artifact) in (1..).zip(&missing) {
            step.message(&artifact.name.display().to_string());
            download(artifact, &kept(artifact))?;
            step.position(done);
        }
        step.done(&format!("{} files", missing.len()));
    }
    Ok(artifacts.iter().map(kept).collect())
}

fn download(artifact: &Artifact, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    Exec::line("curl --silent --show-error --fail --location --proto =https --connect-timeout 10 --retry 3")
        .arg("--output")
        .arg(&new)
        .arg(&artifact.url)
        .deadline(DOWNLOAD_DEADLINE)
        .run()
        .map_err(exec(format!("download {}", artifact.url)))?;
    let found = checksum(&new)?;
    if found != artifact.sha256 {
        fs::remove_file(&new).map_err(io("remove", &new))?;
        let problem = format!("its SHA-256 is {found}, not {}: it is not what was pinned", artifact.sha256);
        return Err(ProviderError::Unreadable { path: PathBuf::from(&artifact.url), problem });
    }
    fs::rename(&new, to).map_err(io("keep", to))
}

fn checksum(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io("read", path))? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_list_names_sum_address_and_file() {
        let text = format!("# jars\n\n{SUM} https://example.org/a-1.jar lib/a.jar\n");
        let [one] = parse(&text).unwrap().try_into().unwrap();
        assert_eq!(
            (one.url.as_str(), one.name.as_path()),
            ("https://example.org/a-1.jar", Path::new("lib/a.jar"))
        );
    }

    #[test]
    fn what_is_not_pinned_or_leaves_the_context_is_refused() {
        for line in [
            "https://example.org/a.jar a.jar".to_owned(),
            format!("{SUM} http://example.org/a.jar a.jar"),
            format!("{SUM} https://example.org/a.jar ../a.jar"),
            format!("{SUM} https://example.org/a.jar /etc/a.jar"),
            format!("{} https://example.org/a.jar a.jar", &SUM[1..]),
            format!("{SUM} https://example.org/a.jar a.jar more"),
        ] {
            assert_eq!(
                parse(&line).unwrap_err(),
                "line 1 is not <sha256> <https address> <file name>",
                "{line}"
            );
        }
    }

    #[test]
    fn a_file_in_the_cache_is_not_downloaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = parse(&format!("{SUM} https://localhost:1/a a")).unwrap();
        fs::write(dir.path().join(SUM), "test").unwrap();
        assert_eq!(ensure(&artifacts, dir.path(), "i").unwrap(), [dir.path().join(SUM)]);
        assert_eq!(checksum(&dir.path().join(SUM)).unwrap(), SUM);
    }
}
