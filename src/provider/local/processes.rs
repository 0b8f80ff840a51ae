//! Finds the processes of a cluster by what the kernel says of them, so that they are found after the loss
//! of every file and every parent.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::error::{ProviderError, Result};

const POLL: Duration = Duration::from_millis(20);

/// The ids of every process of the machine.
fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Inode of a named network namespace.
fn netns_inode(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|meta| meta.ino())
}

fn netns_of(pid: i32) -> Option<u64> {
    netns_inode(&Path::new("/proc").join(pid.to_string()).join("ns/net"))
}

/// Ids of a process, from our PID namespace down to its own.
fn namespace_pids(pid: i32) -> Vec<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Processes in the network namespace with that name.
pub fn in_netns(file: &Path) -> Vec<i32> {
    let Some(inode) = netns_inode(file) else { return Vec::new() };
    all().into_iter().filter(|pid| netns_of(*pid) == Some(inode)).collect()
}

/// Process 1 of the tree in that network namespace, as our id of it.
pub fn tree_root(netns: &Path) -> Option<i32> {
    in_netns(netns).into_iter().find(|pid| matches!(namespace_pids(*pid)[..], [_, 1]))
}

/// Our id of the process that the tree knows as `inner`.
pub fn outer_pid(netns: &Path, inner: i32) -> Option<i32> {
    in_netns(netns).into_iter().find(|pid| matches!(namespace_pids(*pid)[..], [_, id] if id == inner))
}

/// Processes in a cgroup of that name or below it, in any hierarchy.
pub fn in_cgroup(cgroup: &str) -> Vec<i32> {
    let exact = format!(":/{cgroup}");
    let below = format!(":/{cgroup}/");
    all()
        .into_iter()
        .filter(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            text.lines().any(|line| line.ends_with(&exact) || line.contains(&below))
        })
        .collect()
}

/// Kills until `find` finds nothing.
pub fn kill_all(what: &str, patience: Duration, find: impl Fn() -> BTreeSet<i32>) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let detail = format!(" (left: {found:?})");
            let what = format!("the processes of {what} were killed, but are not gone");
            return Err(ProviderError::Deadline { what, seconds: patience.as_secs(), detail });
        }
        for pid in found {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => tracing::warn!(pid, %error, "failed to kill a process"),
            }
        }
        thread::sleep(POLL);
    }
}

/// Resident memory in bytes and processor time used in seconds.
pub fn usage(pid: i32) -> Option<(u64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold blanks: fields are counted after its closing parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Some((kilobytes * 1024, ticks / f64::from(i32::try_from(per_second).unwrap_or(100))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_itself() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(in_netns(Path::new("/proc/self/ns/net")).contains(&me));
        assert_eq!(namespace_pids(me).first(), Some(&me));
        assert!(usage(me).is_some_and(|(bytes, _)| bytes > 0));
    }

    #[test]
    fn killing_has_a_deadline() {
        let error = kill_all("nobody", Duration::ZERO, || BTreeSet::from([i32::MAX])).unwrap_err();
        assert!(error.to_string().contains("are not gone"), "{error}");
    }
}
