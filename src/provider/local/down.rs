//! Takes a cluster down and leaves nothing of it, whatever state it is in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use super::super::error::{ProviderError, Result, io};
use super::cgroup;
use super::layout::{CONTROL_PLANE, Layout, STATE_ROOT, node_name};
use super::lock::Lock;
use super::net::{NODES, Networks, SLOTS};
use super::network::{self, Network};
use super::processes;
use super::record::{self, Record};

const LOCK_PATIENCE: Duration = Duration::from_secs(60);
const KILL_PATIENCE: Duration = Duration::from_secs(30);
const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

/// Takes one cluster down. Answers whether there was anything of it.
pub fn down(layout: &Layout) -> Result<bool> {
    let stood = layout.root().exists() || members().iter().any(|member| layout.netns_file(member).exists());
    if !stood && cgroup::left(&layout.cgroup())?.is_empty() {
        return Ok(false);
    }
    let lock = Lock::acquire(&layout.lock(), layout.name(), LOCK_PATIENCE)?;
    // A record that cannot be read must not keep anything alive: everything is found by its name.
    let slot = Record::load(layout).ok().flatten().map(|record| record.slot);
    kill_everything(layout)?;
    unmount_below(&layout.root())?;
    match slot.or_else(|| slot_by_route(layout)) {
        Some(slot) => Network::new(layout, Networks::of_slot(slot)).remove_all()?,
        // Without a slot there was never a link; namespaces alone may be left.
        None => Network::new(layout, Networks::of_slot(SLOTS)).remove_all()?,
    }
    cgroup::remove(&layout.cgroup(), CGROUP_PATIENCE)?;
    remove_state(layout)?;
    lock.remove()?;
    remove_root_when_last()?;
    match cgroup::left(&layout.cgroup())? {
        left if left.is_empty() => Ok(true),
        left => Err(cgroup::residue(layout.name(), &left)),
    }
}

/// Names of every cluster of this machine, readable or not.
pub fn names() -> Result<Vec<String>> {
    let root = Path::new(STATE_ROOT);
    let mut names = BTreeSet::new();
    if root.exists() {
        for entry in fs::read_dir(root).map_err(io("read", root))? {
            let entry = entry.map_err(io("read", root))?;
            if entry.path().is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
    }
    Ok(names.into_iter().collect())
}

fn members() -> Vec<String> {
    (1..=NODES).map(node_name).chain([CONTROL_PLANE.to_owned()]).collect()
}

/// Kills by network namespace and by cgroup.
pub fn kill_everything(layout: &Layout) -> Result<()> {
    let files: Vec<PathBuf> = members().iter().map(|member| layout.netns_file(member)).collect();
    // Process 1 of each tree takes its tree along.
    let roots = || files.iter().filter_map(|file| processes::tree_root(file)).collect();
    processes::kill_all(layout.name(), KILL_PATIENCE, roots)?;
    processes::kill_all(layout.name(), KILL_PATIENCE, || {
        let mut found: BTreeSet<i32> = files.iter().flat_map(|file| processes::in_netns(file)).collect();
        found.extend(processes::in_cgroup(&layout.cgroup()));
        found.remove(&i32::try_from(std::process::id()).unwrap_or(0));
        found
    })
}

/// The slot whose link's other end is in our control plane's namespace, for a cluster that lost its record.
fn slot_by_route(layout: &Layout) -> Option<u8> {
    let taken: Vec<u8> = record::all().ok()?.iter().map(|record| record.slot).collect();
    let netns = layout.netns(CONTROL_PLANE);
    let text = super::super::exec::Exec::line(&format!("ip -n {netns} -4 addr show dev br0")).run().ok()?;
    (0..SLOTS).filter(|slot| !taken.contains(slot)).find(|slot| {
        let address = Networks::of_slot(*slot).control_plane().to_string();
        text.contains(&format!("inet {address}/"))
    })
}

/// Mount points below a directory in the text of `/proc/self/mountinfo`, the innermost first.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split_whitespace().nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    below
}

fn unmount_below(dir: &Path) -> Result<()> {
    let file = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(file).map_err(io("read", file))?;
    for point in mounts_below(&text, dir) {
        umount2(&point, MntFlags::MNT_DETACH).map_err(|error| io("unmount", &point)(error.into()))?;
    }
    Ok(())
}

fn remove_state(layout: &Layout) -> Result<()> {
    let root = layout.root();
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &root)(error)),
        _ => Ok(()),
    }
}

/// With the last cluster, mettle's own directory goes too.
fn remove_root_when_last() -> Result<()> {
    if !names()?.is_empty() {
        return Ok(());
    }
    network::remove_netns_dir()?;
    let root = Path::new(STATE_ROOT);
    match fs::remove_dir(root) {
        // Another `up` may be starting: its files keep the directory.
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(ProviderError::Io { action: "remove", path: root.to_owned(), source: error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_comes_first() {
        let text = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /S/dev rw - tmpfs b rw\n3 2 0:3 / /S/dev/x rw - tmpfs c rw\n\
                    4 1 0:4 / /S/device rw - tmpfs d rw";
        let below = mounts_below(text, Path::new("/S/dev"));
        assert_eq!(below, [PathBuf::from("/S/dev/x"), PathBuf::from("/S/dev")]);
    }
}
