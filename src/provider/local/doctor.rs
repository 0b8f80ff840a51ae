//! Whether this machine can run a local cluster, and what to do if it cannot. Changes nothing but a network
//! namespace that it makes and removes to try the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::super::error::{ProviderError, Result};
use super::super::exec::Exec;
use super::binaries;
use super::cgroup;
use super::layout::STATE_ROOT;
use super::worker;

pub const MEMORY_BYTES_MIN: u64 = 4 << 30;
pub const DISK_BYTES_MIN: u64 = 15 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Good,
    /// Something works without it, but not everything.
    Warning,
    Bad,
}

/// What was looked at, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub what: &'static str,
    pub health: Health,
    pub detail: String,
    pub next_step: Option<String>,
}

/// A command of the system, the package that has it in Debian and Ubuntu, and what it is for.
struct Command {
    program: &'static str,
    package: &'static str,
}

const COMMANDS: [Command; 13] = [
    Command { program: "containerd", package: "containerd" },
    Command { program: "ctr", package: "containerd" },
    Command { program: "runc", package: "runc" },
    Command { program: "ip", package: "iproute2" },
    Command { program: "nft", package: "nftables" },
    Command { program: "sysctl", package: "procps" },
    Command { program: "mount", package: "mount" },
    Command { program: "nsenter", package: "util-linux" },
    Command { program: "unshare", package: "util-linux" },
    Command { program: "setsid", package: "util-linux" },
    Command { program: "curl", package: "curl" },
    Command { program: "tar", package: "tar" },
    Command { program: "gzip", package: "gzip" },
];

/// Without Docker, images are built with these.
const IMAGE_COMMANDS: [Command; 2] = [
    Command { program: "buildah", package: "buildah" },
    Command { program: "mmdebstrap", package: "mmdebstrap" },
];

/// What is seen of the machine; the judgement over it is pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub root: bool,
    pub missing_controllers: Vec<String>,
    /// Packages of which a program is missing.
    pub missing_packages: Vec<String>,
    /// What the kernel refused when it was tried.
    pub missing_features: Vec<String>,
    pub memory_bytes: u64,
    /// Free space where the state and the cache will be.
    pub disks: Vec<(PathBuf, u64)>,
}

fn good(what: &'static str, detail: impl Into<String>) -> Item {
    Item { what, health: Health::Good, detail: detail.into(), next_step: None }
}

fn bad(what: &'static str, detail: impl Into<String>, next_step: impl Into<String>) -> Item {
    Item { what, health: Health::Bad, detail: detail.into(), next_step: Some(next_step.into()) }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// The judgement.
pub fn judge(machine: &Machine) -> Vec<Item> {
    let mut items = Vec::new();
    items.push(if machine.root {
        good("rights", "root")
    } else {
        bad("rights", "not root: network namespaces, mounts and cgroups need it", "run it with sudo")
    });
    items.push(if machine.missing_packages.is_empty() {
        good("packages", "all there")
    } else {
        let list = machine.missing_packages.join(" ");
        bad("packages", format!("missing: {list}"), format!("apt-get install --no-install-recommends {list}"))
    });
    items.push(if machine.missing_controllers.is_empty() {
        good("cgroups", "cpu, cpuset, memory and pids")
    } else {
        let list = machine.missing_controllers.join(", ");
        bad(
            "cgroups",
            format!("no controller for {list}"),
            "mount them, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    });
    items.push(if machine.missing_features.is_empty() {
        good("kernel", "network namespaces, veth, bridge, nftables, overlayfs")
    } else {
        let list = machine.missing_features.join(", ");
        bad(
            "kernel",
            format!("it has no {list}"),
            "load their modules with modprobe, or boot a kernel that has them",
        )
    });
    let memory = format!("{} free", gib(machine.memory_bytes));
    items.push(if machine.memory_bytes >= MEMORY_BYTES_MIN {
        good("memory", memory)
    } else {
        let need = format!("{memory}, and {} are needed", gib(MEMORY_BYTES_MIN));
        bad("memory", need, "stop other programs, or use a larger machine")
    });
    items.extend(machine.disks.iter().map(|(dir, bytes)| {
        let free = format!("{} free for {}", gib(*bytes), dir.display());
        if *bytes >= DISK_BYTES_MIN {
            good("disk", free)
        } else {
            let need = format!("{free}, and {} are needed", gib(DISK_BYTES_MIN));
            bad("disk", need, "make room there; METTLE_CACHE moves the cache")
        }
    }));
    items
}

/// Everything that was looked at.
pub fn examine() -> Vec<Item> {
    judge(&look())
}

/// An error in one sentence, with the next step, when a local cluster cannot run here.
pub fn require() -> Result<()> {
    let bad: Vec<String> = examine()
        .into_iter()
        .filter(|item| item.health == Health::Bad)
        .map(|item| format!("{} ({})", item.detail, item.next_step.unwrap_or_default()))
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(ProviderError::Unfit(bad.join("; "))) }
}

/// Packages to install, by their names in Debian and Ubuntu.
pub fn missing_packages() -> Vec<String> {
    let docker = on_path("docker");
    let images = IMAGE_COMMANDS.iter().filter(|_| !docker);
    let mut packages: Vec<String> = COMMANDS
        .iter()
        .chain(images)
        .filter(|command| !on_path(command.program))
        .map(|command| command.package.to_owned())
        .collect();
    if worker::cni_bin().is_err() {
        packages.push("containernetworking-plugins".to_owned());
    }
    packages.sort();
    packages.dedup();
    packages
}

fn look() -> Machine {
    let root = nix::unistd::geteuid().is_root();
    let missing_packages = missing_packages();
    // Only root can try the kernel, and only with the tools for it.
    let can_try = root && on_path("ip") && on_path("nft") && on_path("nsenter");
    let controllers = cgroup::missing_controllers().unwrap_or_default();
    Machine {
        root,
        missing_controllers: controllers.into_iter().map(str::to_owned).collect(),
        missing_packages,
        missing_features: if can_try { missing_features() } else { Vec::new() },
        memory_bytes: memory_available(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        disks: disks(),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

/// Tried in a network namespace that is removed at once, since a module may be loaded only when it is asked for.
fn missing_features() -> Vec<String> {
    let ns = format!("mettle-doctor-{}", std::process::id());
    let run = |line: &str| Exec::line(line).deadline(Duration::from_secs(5)).run().is_ok();
    if !run(&format!("ip netns add {ns}")) {
        return vec!["network namespaces".to_owned()];
    }
    let inside = format!("nsenter --net=/run/netns/{ns}");
    let tries = [
        ("veth links", format!("ip -n {ns} link add doctor0 type veth peer name doctor1")),
        ("bridges", format!("ip -n {ns} link add doctor2 type bridge")),
        ("nftables", format!("{inside} nft add table ip mettle-doctor")),
        (
            "address translation in nftables",
            format!("{inside} nft add chain ip mettle-doctor c {{type nat hook output priority 0;}}"),
        ),
    ];
    let mut missing: Vec<String> =
        tries.iter().filter(|(_, line)| !run(line)).map(|(what, _)| (*what).to_owned()).collect();
    run(&format!("ip netns del {ns}"));
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.ends_with("\toverlay")) && !run("modprobe overlay") {
        missing.push("overlayfs".to_owned());
    }
    missing
}

fn memory_available(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn disks() -> Vec<(PathBuf, u64)> {
    let mut dirs = vec![PathBuf::from(STATE_ROOT), binaries::cache_dir()];
    dirs.dedup();
    dirs.into_iter().map(|dir| (dir.clone(), free_bytes(&dir))).collect()
}

/// Free space where a directory is, or will be.
fn free_bytes(dir: &Path) -> u64 {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    nix::sys::statvfs::statvfs(there).map(|stat| stat.blocks_available() * stat.fragment_size()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Machine {
        Machine {
            root: true,
            missing_controllers: vec![],
            missing_packages: vec![],
            missing_features: vec![],
            memory_bytes: 8 << 30,
            disks: vec![("/var/lib/mettle".into(), 100 << 30)],
        }
    }

    #[test]
    fn a_fit_machine_has_nothing_bad() {
        assert!(judge(&fit()).iter().all(|item| item.health == Health::Good));
    }

    #[test]
    fn each_lack_is_one_sentence_with_a_next_step() {
        let lacks = [
            Machine { root: false, ..fit() },
            Machine { missing_packages: vec!["runc".into(), "nftables".into()], ..fit() },
            Machine { missing_controllers: vec!["memory".into()], ..fit() },
            Machine { missing_features: vec!["veth links".into()], ..fit() },
            Machine { memory_bytes: 3 << 30, ..fit() },
            Machine { disks: vec![("/c".into(), 1 << 30)], ..fit() },
        ];
        let lines = lacks.iter().flat_map(|machine| {
            let bad: Vec<Item> =
                judge(machine).into_iter().filter(|item| item.health == Health::Bad).collect();
            assert_eq!(bad.len(), 1, "{machine:?}");
            bad.into_iter()
                .map(|item| format!("{}: {} -> {}", item.what, item.detail, item.next_step.unwrap()))
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn reads_meminfo() {
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:   42 kB\n"), 42 * 1024);
        assert_eq!(memory_available(""), 0);
    }
}
