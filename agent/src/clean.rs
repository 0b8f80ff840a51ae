//! Removes what dead agents left: tables in this network namespace, and files with which volumes were filled.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::nft;
use crate::process;
use crate::say::say;
use crate::volume::Directory;

/// Nothing that takes a file of ours, or that listing would disturb.
const NOT_VOLUMES: [&str; 14] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "devtmpfs",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "autofs",
    "fusectl",
    "nsfs",
];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Command name of a process that sees the filled volume; every process' mount points when absent
    #[arg(long, requires = "path")]
    pub process: Option<String>,
    /// The filled directory, as that process sees it
    #[arg(long, requires = "process")]
    pub path: Option<PathBuf>,
    /// Continue the stopped processes of this name
    #[arg(long)]
    pub resume: Option<String>,
    /// Leave the network alone: without the right to see its tables none can be looked for
    #[arg(long)]
    pub no_tables: bool,
}

pub fn run(options: &Options) -> ExitCode {
    let mut errors = Vec::new();
    let files = files(options, &mut errors);
    let tables = if options.no_tables { Ok(Vec::new()) } else { nft::clean() };
    let tables = tables.unwrap_or_else(|error| {
        errors.push(format!("tables were not looked for: {error}"));
        Vec::new()
    });
    let resumed = options.resume.as_deref().map_or(0, resume);
    if resumed > 0 {
        say("note", &format!("continued {resumed} processes"));
    }
    for table in &tables {
        say("note", &format!("removed table {table}"));
    }
    for error in &errors {
        say("failed", error);
    }
    let what = format!("{} tables and {files} files of dead agents removed", tables.len());
    if errors.is_empty() {
        say("undone", &what);
        return ExitCode::SUCCESS;
    }
    say("failed", &format!("{what}, and not everything was looked at"));
    ExitCode::FAILURE
}

/// Continues what a dead agent stopped; how many.
fn resume(name: &str) -> usize {
    let stopped = process::named(name).into_iter().filter(|process| process.state == 'T');
    stopped.filter(|process| kill(Pid::from_raw(process.pid), Signal::SIGCONT).is_ok()).count()
}

fn files(options: &Options, errors: &mut Vec<String>) -> usize {
    let mut removed = 0;
    for (pid, path) in places(options, errors) {
        let name = path.display();
        let directory = match Directory::of_process(pid, &path) {
            Ok(directory) => directory,
            // A place that was asked for by name has to be looked at.
            Err(error) if options.path.is_some() => {
                errors.push(error);
                continue;
            }
            Err(_) => continue,
        };
        match directory.clean() {
            Ok(files) => {
                for (file, bytes) in &files {
                    say("note", &format!("removed {name}/{file}: {bytes} bytes"));
                }
                removed += files.len();
            }
            Err(error) if options.path.is_some() => errors.push(format!("{name}: {error}")),
            Err(_) => {}
        }
    }
    removed
}

fn places(options: &Options, errors: &mut Vec<String>) -> BTreeSet<(i32, PathBuf)> {
    if let (Some(name), Some(path)) = (&options.process, &options.path) {
        let process = process::named(name).into_iter().find(|process| !process.is_dead());
        if process.is_none() {
            errors.push(format!("no process is named {name}"));
        }
        return process.map(|process| (process.pid, path.clone())).into_iter().collect();
    }
    let mut namespaces = BTreeSet::new();
    let mut places = BTreeSet::new();
    for process in process::matching(|_| true) {
        let Ok(namespace) = fs::read_link(format!("/proc/{}/ns/mnt", process.pid)) else { continue };
        if namespaces.insert(namespace) {
            let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.pid)).unwrap_or_default();
            places.extend(mounts.lines().filter_map(mount_point).map(|path| (process.pid, path)));
        }
    }
    places
}

/// The directory of a line of mountinfo, when it can be a volume.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (mount, rest) = line.split_once(" - ")?;
    let kind = rest.split(' ').next()?;
    let path = mount.split(' ').nth(4)?;
    // Blanks in names are written in octal.
    let path = path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    (!NOT_VOLUMES.contains(&kind)).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::mount_point;

    #[test]
    fn volumes_are_told_from_the_kernels_own_mounts() {
        let line =
            "36 35 98:0 /vol /var/lib/my\\040data rw,noatime master:1 - ext4 /dev/root rw,errors=continue";
        assert_eq!(mount_point(line), Some(PathBuf::from("/var/lib/my data")));
        assert_eq!(mount_point("20 1 0:19 / /proc rw - proc proc rw"), None);
        assert_eq!(mount_point("nonsense"), None);
    }
}
