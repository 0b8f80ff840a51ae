//! The cgroups of a cluster: one directory in every hierarchy of the machine, v1 or v2.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::super::error::{ProviderError, Result, io};

const POLL: Duration = Duration::from_millis(50);

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    pub v2: bool,
    /// Controllers of a v1 hierarchy.
    pub controllers: Vec<String>,
}

/// The hierarchies in the text of `/proc/self/mountinfo`.
pub fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mount = PathBuf::from(left.split_whitespace().nth(4)?);
            let mut right = right.split_whitespace();
            let v2 = match right.next()? {
                "cgroup" => false,
                "cgroup2" => true,
                _ => return None,
            };
            let flags = ["rw", "ro", "xattr"];
            let options = right.nth(1).unwrap_or_default().split(',').filter(|word| !flags.contains(word));
            let controllers = if v2 { Vec::new() } else { options.map(str::to_owned).collect() };
            Some(Hierarchy { mount, v2, controllers })
        })
        .collect()
}

pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let file = Path::new("/proc/self/mountinfo");
    Ok(parse_hierarchies(&fs::read_to_string(file).map_err(io("read", file))?))
}

/// Makes a cgroup and its parents in every hierarchy; answers with their `cgroup.procs` files.
pub fn create(cgroup: &str) -> Result<Vec<PathBuf>> {
    let mut procs = Vec::new();
    for hierarchy in hierarchies()? {
        let mut dir = hierarchy.mount.clone();
        for part in Path::new(cgroup) {
            if hierarchy.v2 {
                enable_controllers(&dir);
            }
            let parent = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(io("create", &dir)(error));
                }
                _ => {}
            }
            if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                inherit(&parent, &dir, "cpuset.cpus")?;
                inherit(&parent, &dir, "cpuset.mems")?;
            }
        }
        procs.push(dir.join("cgroup.procs"));
    }
    Ok(procs)
}

/// A v1 cpuset that is empty takes no process.
fn inherit(parent: &Path, child: &Path, file: &str) -> Result<()> {
    let target = child.join(file);
    let now = fs::read_to_string(&target).map_err(io("read", &target))?;
    if now.trim().is_empty() {
        let source = parent.join(file);
        let value = fs::read_to_string(&source).map_err(io("read", &source))?;
        fs::write(&target, value.trim()).map_err(io("write", &target))?;
    }
    Ok(())
}

/// Passes the controllers of a v2 cgroup on to its children, each for itself: one that cannot be is left out.
fn enable_controllers(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes a cgroup with everything below it, in every hierarchy. Its processes must be gone.
pub fn remove(cgroup: &str, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    for hierarchy in hierarchies()? {
        let dir = hierarchy.mount.join(cgroup);
        loop {
            match remove_tree(&dir) {
                Ok(()) => break,
                // The kernel lets go of a dead process' cgroup a little later.
                Err(_) if Instant::now() < deadline => thread::sleep(POLL),
                Err(error) => return Err(io("remove cgroup", &dir)(error)),
            }
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// The controllers that the kubelet needs and that no hierarchy has.
pub fn missing_controllers() -> Result<Vec<&'static str>> {
    let hierarchies = hierarchies()?;
    let mut have: Vec<String> = hierarchies.iter().flat_map(|one| one.controllers.clone()).collect();
    for hierarchy in hierarchies.iter().filter(|one| one.v2) {
        let text = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
        have.extend(text.split_whitespace().map(str::to_owned));
    }
    // v2 has no cpuacct: cpu does its work.
    let wanted = ["cpu", "cpuset", "memory", "pids"];
    Ok(wanted.into_iter().filter(|name| !have.iter().any(|have| have == name)).collect())
}

/// Whether something of the cgroup is left.
pub fn left(cgroup: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?.into_iter().map(|one| one.mount.join(cgroup)).filter(|dir| dir.exists()).collect())
}

/// The error for cgroups that `down` could not remove.
pub fn residue(name: &str, left: &[PathBuf]) -> ProviderError {
    let left: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
    ProviderError::Residue { name: name.to_owned(), left: left.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_versions() {
        let text = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct";
        let read = parse_hierarchies(text);
        let shown: Vec<(bool, String)> = read.iter().map(|one| (one.v2, one.controllers.join("+"))).collect();
        let expected = [(true, ""), (false, "name=systemd"), (false, "cpu+cpuacct")];
        assert_eq!(shown, expected.map(|(v2, text)| (v2, text.to_owned())));
        assert_eq!(read[2].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }
}
