//! The projects' own downloads, checked against the checksums that they publish.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::error::{ProviderError, Result, exec, io};
use super::super::exec::{Exec, ExecError};
use super::super::progress::Step;
use super::binaries::Tool;

/// A machine without a way out must not lose more than this.
const CONNECT_SECONDS: &str = "3";
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(600);
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Where a program can be had, and how it comes out of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    url: String,
    sums_url: String,
    /// Path inside the archive; the file is the program itself without one.
    inside: Option<String>,
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// metrics-server's project publishes images only.
fn release(tool: Tool) -> Option<Release> {
    let (version, arch) = (tool.version(), architecture());
    let github = "https://github.com";
    match tool {
        Tool::MetricsServer => None,
        Tool::Etcd => {
            let base = format!("{github}/etcd-io/etcd/releases/download/{version}");
            let stem = format!("etcd-{version}-linux-{arch}");
            Some(Release {
                url: format!("{base}/{stem}.tar.gz"),
                sums_url: format!("{base}/SHA256SUMS"),
                inside: Some(format!("{stem}/etcd")),
            })
        }
        Tool::Coredns => {
            let number = version.trim_start_matches('v');
            let base = format!("{github}/coredns/coredns/releases/download/{version}");
            let url = format!("{base}/coredns_{number}_linux_{arch}.tgz");
            Some(Release { sums_url: format!("{url}.sha256"), url, inside: Some("coredns".to_owned()) })
        }
        _ => {
            let url = format!("https://dl.k8s.io/release/{version}/bin/linux/{arch}/{}", tool.name());
            Some(Release { sums_url: format!("{url}.sha256"), url, inside: None })
        }
    }
}

/// The checksum of `file` in a list of them; a list may be one bare checksum.
fn checksum(list: &str, file: &str) -> Option<String> {
    let is_sum = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let sum = words.next().filter(|word| is_sum(word))?;
        let named = words.next().map(|name| name.trim_start_matches('*'));
        let ours = named.is_none_or(|name| name == file || name.ends_with(&format!("/{file}")));
        ours.then(|| sum.to_ascii_lowercase())
    })
}

fn curl(args: &[&str], deadline: Duration) -> Result<String, ExecError> {
    let fixed = ["--silent", "--show-error", "--fail", "--location", "--connect-timeout", CONNECT_SECONDS];
    Exec::new("curl").args(fixed).args(args).deadline(deadline).run()
}

/// Downloads what can be reached. What cannot is left to the next source, without an error.
pub fn fetch(tools: &[Tool], into: &Path) -> Result<BTreeMap<String, String>> {
    let mut fetched = BTreeMap::new();
    let mut reachable: BTreeMap<String, bool> = BTreeMap::new();
    for tool in tools {
        let Some(release) = release(*tool) else { continue };
        let site = release.url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let open = *reachable
            .entry(site.clone())
            .or_insert_with(|| curl(&["--head", "--output", "/dev/null", &site], PROBE_DEADLINE).is_ok());
        if open && fetch_one(*tool, &release, into)? {
            fetched.insert(tool.name().to_owned(), format!("downloaded from {}", release.url));
        }
    }
    Ok(fetched)
}

/// Answers with false when it cannot be had; a checksum that does not fit is an error.
fn fetch_one(tool: Tool, release: &Release, into: &Path) -> Result<bool> {
    let step = Step::spinner(format!("downloading {} {}", tool.name(), tool.version()));
    fs::create_dir_all(into).map_err(io("create", into))?;
    let file = into.join(format!(".{}.download", tool.name()));
    let path = file.display().to_string();
    let got = curl(&["--output", &path, &release.url], DOWNLOAD_DEADLINE)
        .and_then(|_| curl(&[&release.sums_url], DOWNLOAD_DEADLINE));
    let sums = match got {
        Ok(sums) => sums,
        Err(error) => {
            let _ = fs::remove_file(&file);
            step.done(&format!("not to be had ({error})"));
            return Ok(false);
        }
    };
    verify(release, &file, &sums)?;
    unpack(tool, release, &file, into)?;
    step.done("");
    Ok(true)
}

fn verify(release: &Release, file: &Path, sums: &str) -> Result<()> {
    let name = release.url.rsplit('/').next().unwrap_or_default();
    let bytes = fs::read(file).map_err(io("read", file))?;
    let actual: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if checksum(sums, name).as_deref() == Some(actual.as_str()) {
        return Ok(());
    }
    let _ = fs::remove_file(file);
    let what = format!("{} does not have the checksum that its project publishes: not used", release.url);
    Err(ProviderError::Toolchain(what))
}

fn unpack(tool: Tool, release: &Release, file: &Path, into: &Path) -> Result<()> {
    let program = into.join(format!(".{}.unpacked", tool.name()));
    match &release.inside {
        None => fs::rename(file, &program).map_err(io("keep", file))?,
        Some(inside) => {
            let scratch = into.join(format!(".{}.archive", tool.name()));
            fs::create_dir_all(&scratch).map_err(io("create", &scratch))?;
            Exec::new("tar")
                .args(["--extract", "--gzip", "--file"])
                .arg(file)
                .arg("--directory")
                .arg(&scratch)
                .arg(inside)
                .deadline(Duration::from_secs(60))
                .run()
                .map_err(exec(format!("unpack {}", file.display())))?;
            let inner = scratch.join(inside);
            fs::rename(&inner, &program).map_err(io("keep", &inner))?;
            fs::remove_dir_all(&scratch).map_err(io("remove", &scratch))?;
            fs::remove_file(file).map_err(io("remove", file))?;
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).map_err(io("mark as a program", &program))?;
    let target = into.join(tool.name());
    fs::rename(&program, &target).map_err(io("keep", &target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_in_every_form() {
        let sum = "a".repeat(64);
        let list = format!("{}  other.tgz\n{sum}  dir/etcd.tar.gz\n", "b".repeat(64));
        let cases = [
            (list.as_str(), "etcd.tar.gz", Some(sum.clone())),
            (list.as_str(), "none", None),
            (sum.as_str(), "kubelet", Some(sum.clone())),
            ("not a sum", "kubelet", None),
        ];
        for (list, file, expected) in cases {
            assert_eq!(checksum(list, file), expected, "{file}");
        }
    }

    fn released(dir: &Path, sums: &str) -> Release {
        fs::write(dir.join("kubelet"), "program").unwrap();
        fs::write(dir.join("kubelet.sha256"), sums).unwrap();
        let url = format!("file://{}/kubelet", dir.display());
        Release { sums_url: format!("{url}.sha256"), url, inside: None }
    }

    #[test]
    fn only_what_has_its_checksum_is_kept() {
        let (site, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let good: String = Sha256::digest("program").iter().map(|byte| format!("{byte:02x}")).collect();
        let release = released(site.path(), &"0".repeat(64));
        assert!(fetch_one(Tool::Kubelet, &release, into.path()).is_err());
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "nothing is left of it");
        let release = released(site.path(), &good);
        assert!(fetch_one(Tool::Kubelet, &release, into.path()).unwrap());
        assert_eq!(fs::read(into.path().join("kubelet")).unwrap(), b"program");
    }

    #[test]
    fn what_is_not_there_is_left_to_the_next_source() {
        let (site, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let release =
            Release { url: format!("file://{}/x", site.path().display()), ..released(site.path(), "") };
        assert!(!fetch_one(Tool::Kubelet, &release, into.path()).unwrap());
    }
}
