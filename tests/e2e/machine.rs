//! What a machine has of the things that a cluster makes, so that before and after can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Lines, sorted, each with the kind of thing in front.
pub fn snapshot(cluster: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    add(&mut seen, "mount", lines("cat", &["/proc/self/mountinfo"]).iter().map(|line| mount_of(line)));
    add(&mut seen, "netns", lines("ip", &["netns", "list"]));
    add(&mut seen, "link", lines("ip", &["-o", "link"]).iter().map(|line| link_of(line)));
    add(&mut seen, "route", lines("ip", &["-4", "route", "show", "table", "all"]));
    add(&mut seen, "rule", lines("ip", &["rule"]));
    add(&mut seen, "nft", lines("nft", &["-s", "list", "ruleset"]));
    add(&mut seen, "sysctl", sysctls());
    add(&mut seen, "process", processes(cluster));
    for root in ["/run", "/var/lib", "/var/log", "/etc", "/opt", "/usr/libexec"] {
        add(&mut seen, "file", files(Path::new(root), cluster));
    }
    add(&mut seen, "cgroup", cgroups(cluster));
    seen
}

fn add<S: AsRef<str>>(seen: &mut BTreeSet<String>, kind: &str, items: impl IntoIterator<Item = S>) {
    seen.extend(items.into_iter().map(|item| format!("{kind} {}", item.as_ref())));
}

fn lines(program: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(args).output().expect("a system command");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The mount point and the type: ids change.
fn mount_of(line: &str) -> String {
    let point = line.split_whitespace().nth(4).unwrap_or_default();
    let kind = line.split(" - ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    format!("{point} {kind}")
}

fn link_of(line: &str) -> String {
    line.split(": ").nth(1).unwrap_or_default().to_owned()
}

/// Those that a kubelet, kube-proxy or containerd would set, and some besides.
fn sysctls() -> Vec<String> {
    let names = [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
        "net/ipv4/ip_forward",
        "net/ipv4/conf/all/rp_filter",
        "net/ipv4/conf/all/route_localnet",
        "net/ipv4/ping_group_range",
        "net/netfilter/nf_conntrack_max",
        "net/netfilter/nf_conntrack_tcp_timeout_established",
        "kernel/hostname",
        "net/ipv4/vs/conntrack",
    ];
    let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    names.iter().map(|name| format!("{name}={}", read(name).trim())).collect()
}

/// Processes whose command line, cgroup or network namespace says that they are the cluster's. Those of other
/// clusters, and of other people, come and go.
fn processes(cluster: &str) -> Vec<String> {
    let mark = format!("/mettle/{cluster}/");
    let group = format!("/mettle-{cluster}");
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        (line.contains(&mark) || groups.contains(&group)).then(|| format!("{pid} {line}"))
    })
    .collect()
}

/// Names two levels deep; another cluster's own directories are its own business.
fn files(root: &Path, cluster: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if path.is_dir() && !path.starts_with("/var/lib/postgresql") {
            found.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|inner| inner.path().display().to_string()),
            );
        }
    }
    let ours = format!("mettle-{cluster}");
    let others = |path: &String| {
        (path.contains("/mettle/") && !path.contains(&format!("/mettle/{cluster}")))
            || (path.contains("/netns/mettle-") && !path.contains(&ours))
            // Package managers and loggers of the machine at work.
            || path.starts_with("/var/lib/apt") || path.starts_with("/var/log/apt") || path.starts_with("/run/containers")
            || path.starts_with("/var/lib/containers") || path.starts_with("/run/lock")
    };
    found.retain(|path| !others(path));
    found
}

fn cgroups(cluster: &str) -> Vec<String> {
    let mut found = Vec::new();
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for root in roots.chain([Path::new("/sys/fs/cgroup").to_owned()]) {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == format!("mettle-{cluster}") || name == "kubepods" {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

/// What came and what went, without what belongs to other clusters.
pub fn difference(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let came = after.difference(before).map(|line| format!("+ {line}"));
    let went = before.difference(after).map(|line| format!("- {line}"));
    came.chain(went).collect()
}
