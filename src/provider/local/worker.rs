//! A node's processes, their command lines and the files that they read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::error::{ProviderError, Result};
use super::config::{self, KubeletConfig};
use super::layout::{Layout, node_name};
use super::net::Networks;
use super::pki::Pki;
use super::record::{write_file, write_json};
use super::tree::{ProcessSpec, StartWhen, TreeSpec};

/// Sysctls that the kubelet wants, and the values that let it leave the machine's alone.
const KUBELET_SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

const CNI_DIRS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
pub const CNI_PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];

/// The directory with the CNI plugins that nodes use.
pub fn cni_bin() -> Result<PathBuf> {
    let complete = |dir: &str| CNI_PLUGINS.iter().all(|plugin| Path::new(dir).join(plugin).exists());
    CNI_DIRS.iter().find(|dir| complete(dir)).map(PathBuf::from).ok_or_else(|| ProviderError::NotFound {
        what: format!("CNI plugins {}", CNI_PLUGINS.join(", ")),
        tried: CNI_DIRS.join(", "),
    })
}

pub struct Worker<'a> {
    pub layout: &'a Layout,
    pub nets: Networks,
    /// Counted from 1.
    pub index: u8,
}

impl Worker<'_> {
    pub fn name(&self) -> String {
        node_name(self.index)
    }

    pub fn dir(&self) -> PathBuf {
        self.layout.member(&self.name())
    }

    pub fn zone(&self) -> String {
        format!("z{}", self.index)
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir().join(format!("{user}.kubeconfig"))
    }

    /// Writes the files that its processes read, apart from kubeconfigs.
    pub fn write_configs(&self, pause_image: &str) -> Result<()> {
        let (dir, pki, name) = (self.dir(), Pki::new(self.layout.pki()), self.name());
        let containerd = config::containerd(&dir, pause_image, &cni_bin()?);
        write_file(&dir.join("containerd.toml"), containerd.as_bytes())?;
        write_json(&dir.join("cni/10-mettle.conflist"), &config::cni(&dir, self.nets.node_pods(self.index)))?;
        let kubelet = config::kubelet(&KubeletConfig {
            node: &name,
            address: self.nets.node(self.index),
            node_dir: &dir,
            cgroup: &self.layout.node_cgroup(&name),
            pki: &pki,
            nets: self.nets,
        });
        write_json(&dir.join("kubelet.json"), &kubelet)?;
        let proxy = config::kube_proxy(&self.kubeconfig("kube-proxy"), &name, self.nets, false);
        write_json(&dir.join("kube-proxy.json"), &proxy)?;
        let resolv = format!("nameserver {}\n", self.nets.dns_service());
        write_file(&dir.join("resolv.conf"), resolv.as_bytes())
    }

    /// `boot_id` is new at every start, so that the kubelet sees a reboot.
    pub fn spec(&self, cgroup_procs: Vec<PathBuf>, boot_id: &str) -> TreeSpec {
        let (name, dir) = (self.name(), self.dir());
        let proc = Path::new("/proc/sys");
        let mut fixed: BTreeMap<PathBuf, String> =
            KUBELET_SYSCTLS.iter().map(|(file, value)| (proc.join(file), format!("{value}\n"))).collect();
        fixed.insert(proc.join("kernel/random/boot_id"), format!("{boot_id}\n"));
        TreeSpec {
            hostname: name.clone(),
            member: name.clone(),
            cgroup_procs,
            state_dir: self.layout.root(),
            var: dir.join("var"),
            fixed,
            stale: vec![self.layout.containerd_socket(&name)],
            state: dir.join("state.json"),
            processes: vec![self.containerd(), self.kubelet(), self.kube_proxy(), self.netpol()],
            weights: Vec::new(),
        }
    }

    fn process(&self, name: &str, program: PathBuf) -> ProcessSpec {
        let log = self.layout.logs().join(format!("{}-{name}.log", self.name()));
        ProcessSpec::new(name, program, log)
    }

    fn api(&self) -> StartWhen {
        StartWhen::FileExists(self.layout.api_ready())
    }

    fn containerd(&self) -> ProcessSpec {
        let config = self.dir().join("containerd.toml").display().to_string();
        self.process("containerd", "containerd".into()).args(["--config".to_owned(), config])
    }

    fn kubelet(&self) -> ProcessSpec {
        let flags = [
            format!("--config={}", self.dir().join("kubelet.json").display()),
            format!("--kubeconfig={}", self.kubeconfig("kubelet").display()),
            format!("--hostname-override={}", self.name()),
            format!("--node-ip={}", self.nets.node(self.index)),
            format!("--node-labels=topology.kubernetes.io/zone={}", self.zone()),
            "--root-dir=/var/lib/kubelet".to_owned(),
        ];
        self.process("kubelet", self.layout.bin().join("kubelet")).args(flags).start(self.api())
    }

    fn kube_proxy(&self) -> ProcessSpec {
        let config = self.dir().join("kube-proxy.json");
        self.process("kube-proxy", self.layout.bin().join("kube-proxy"))
            .args([format!("--config={}", config.display())])
            .start(self.api())
    }

    fn netpol(&self) -> ProcessSpec {
        let kubeconfig = self.kubeconfig("netpol").display().to_string();
        self.process("netpol", self.layout.bin().join("mettle"))
            .args(["internal", "netpol", "--kubeconfig", &kubeconfig, "--node", &self.name()])
            .start(self.api())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let layout = Layout::new("dev").unwrap();
        let worker = Worker { layout: &layout, nets: Networks::of_slot(0), index: 2 };
        let procs = vec!["/sys/fs/cgroup/memory/mettle-dev/n2-system/cgroup.procs".into()];
        insta::assert_json_snapshot!(worker.spec(procs, "00000000-0000-4000-8000-000000000000"));
    }
}
