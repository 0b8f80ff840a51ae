//! The control plane's processes and their command lines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::config::{API_PORT, METRICS_PORT, NODE_GRACE_SECONDS, NODE_HEARTBEAT_SECONDS};
use super::layout::{CONTROL_PLANE, Layout};
use super::net::Networks;
use super::pki::{Authority, Pki};
use super::tree::{ProcessSpec, StartWhen, TreeSpec};

/// What kube-proxy on the control plane calls itself: no node, so that it takes no node's endpoints for its own.
pub const PROXY_NAME: &str = "mettle-cp";

pub struct ControlPlane<'a> {
    pub layout: &'a Layout,
    pub nets: Networks,
}

impl ControlPlane<'_> {
    pub fn api(&self) -> SocketAddr {
        SocketAddr::from((self.nets.control_plane(), API_PORT))
    }

    pub fn dir(&self) -> PathBuf {
        self.layout.member(CONTROL_PLANE)
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir().join(format!("{user}.kubeconfig"))
    }

    fn pki(&self) -> Pki {
        Pki::new(self.layout.pki())
    }

    fn process(&self, name: &str) -> ProcessSpec {
        let log = self.layout.logs().join(format!("{CONTROL_PLANE}-{name}.log"));
        ProcessSpec::new(name, self.layout.bin().join(name), log)
    }

    pub fn spec(&self, cgroup_procs: Vec<PathBuf>) -> TreeSpec {
        TreeSpec {
            member: CONTROL_PLANE.to_owned(),
            hostname: self.layout.netns(CONTROL_PLANE),
            cgroup_procs,
            state_dir: self.layout.root(),
            var: self.dir().join("var"),
            fixed: BTreeMap::new(),
            stale: vec![self.layout.api_ready()],
            state: self.dir().join("state.json"),
            processes: vec![
                self.etcd(),
                self.apiserver(),
                self.controller_manager(),
                self.scheduler(),
                self.kube_proxy(),
                self.coredns(),
                self.metrics_server(),
            ],
            weights: Vec::new(),
        }
    }

    /// `--unsafe-no-fsync`: the disk is not waited for. What is written survives the death of every process, not
    /// that of the machine, and a machine that restarts makes its cluster anew anyway.
    fn etcd(&self) -> ProcessSpec {
        let (pki, data) = (self.pki(), self.layout.root().join("etcd"));
        self.process("etcd").args([
            "--name=mettle".to_owned(),
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=https://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=https://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", pki.ca(Authority::Etcd).display()),
            format!("--cert-file={}", pki.cert("etcd").display()),
            format!("--key-file={}", pki.key("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--auto-compaction-mode=periodic".to_owned(),
            "--auto-compaction-retention=10m".to_owned(),
            "--quota-backend-bytes=2147483648".to_owned(),
            "--log-level=warn".to_owned(),
        ])
    }

    fn apiserver(&self) -> ProcessSpec {
        let (pki, nets) = (self.pki(), self.nets);
        let ca = |authority| pki.ca(authority).display().to_string();
        let cert = |file| pki.cert(file).display().to_string();
        let key = |file| pki.key(file).display().to_string();
        let flags = [
            ("advertise-address", nets.control_plane().to_string()),
            ("bind-address", "0.0.0.0".to_owned()),
            ("secure-port", API_PORT.to_string()),
            ("anonymous-auth", "false".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("profiling", "false".to_owned()),
            ("client-ca-file", ca(Authority::Cluster)),
            ("tls-cert-file", cert("apiserver")),
            ("tls-private-key-file", key("apiserver")),
            ("etcd-servers", "https://127.0.0.1:2379".to_owned()),
            ("etcd-cafile", ca(Authority::Etcd)),
            ("etcd-certfile", cert("apiserver-etcd-client")),
            ("etcd-keyfile", key("apiserver-etcd-client")),
            ("kubelet-certificate-authority", ca(Authority::Cluster)),
            ("kubelet-client-certificate", cert("apiserver-kubelet-client")),
            ("kubelet-client-key", key("apiserver-kubelet-client")),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("service-cluster-ip-range", nets.services().to_string()),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", self.layout.pki().join("service-account.pub").display().to_string()),
            ("service-account-signing-key-file", key("service-account")),
            ("enable-aggregator-routing", "true".to_owned()),
            ("requestheader-client-ca-file", ca(Authority::FrontProxy)),
            ("requestheader-allowed-names", "front-proxy-client".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("proxy-client-cert-file", cert("front-proxy-client")),
            ("proxy-client-key-file", key("front-proxy-client")),
        ];
        let etcd = SocketAddr::from(([127, 0, 0, 1], 2379));
        self.process("kube-apiserver").args(flagged(flags)).start(StartWhen::PortOpen(etcd))
    }

    fn controller_manager(&self) -> ProcessSpec {
        let pki = self.pki();
        let kubeconfig = self.kubeconfig("controller-manager").display().to_string();
        let ca = pki.ca(Authority::Cluster).display().to_string();
        let flags = [
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".to_owned()),
            ("tls-cert-file", pki.cert("controller-manager-serving").display().to_string()),
            ("tls-private-key-file", pki.key("controller-manager-serving").display().to_string()),
            ("cluster-signing-cert-file", ca.clone()),
            ("cluster-signing-key-file", pki.ca_key(Authority::Cluster).display().to_string()),
            ("root-ca-file", ca),
            ("service-account-private-key-file", pki.key("service-account").display().to_string()),
            ("use-service-account-credentials", "true".to_owned()),
            ("leader-elect", "false".to_owned()),
            ("profiling", "false".to_owned()),
            ("node-monitor-period", format!("{NODE_HEARTBEAT_SECONDS}s")),
            ("node-monitor-grace-period", format!("{NODE_GRACE_SECONDS}s")),
        ];
        let start = StartWhen::FileExists(self.layout.api_ready());
        self.process("kube-controller-manager").args(flagged(flags)).start(start)
    }

    fn scheduler(&self) -> ProcessSpec {
        let pki = self.pki();
        let kubeconfig = self.kubeconfig("scheduler").display().to_string();
        let flags = [
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", "127.0.0.1".to_owned()),
            ("tls-cert-file", pki.cert("scheduler-serving").display().to_string()),
            ("tls-private-key-file", pki.key("scheduler-serving").display().to_string()),
            ("leader-elect", "false".to_owned()),
            ("profiling", "false".to_owned()),
        ];
        self.process("kube-scheduler")
            .args(flagged(flags))
            .start(StartWhen::FileExists(self.layout.api_ready()))
    }

    fn kube_proxy(&self) -> ProcessSpec {
        let config = self.dir().join("kube-proxy.json");
        self.process("kube-proxy")
            .args([format!("--config={}", config.display())])
            .start(StartWhen::FileExists(self.layout.api_ready()))
    }

    fn coredns(&self) -> ProcessSpec {
        let corefile = self.dir().join("Corefile");
        self.process("coredns")
            .args(["-conf".to_owned(), corefile.display().to_string()])
            .start(StartWhen::FileExists(self.layout.api_ready()))
    }

    fn metrics_server(&self) -> ProcessSpec {
        let pki = self.pki();
        let kubeconfig = self.kubeconfig("metrics-server").display().to_string();
        let flags = [
            ("kubeconfig", kubeconfig.clone()),
            ("authentication-kubeconfig", kubeconfig.clone()),
            ("authorization-kubeconfig", kubeconfig),
            ("bind-address", self.nets.control_plane().to_string()),
            ("secure-port", METRICS_PORT.to_string()),
            ("tls-cert-file", pki.cert("metrics-server-serving").display().to_string()),
            ("tls-private-key-file", pki.key("metrics-server-serving").display().to_string()),
            ("kubelet-certificate-authority", pki.ca(Authority::Cluster).display().to_string()),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("metric-resolution", "15s".to_owned()),
        ];
        self.process("metrics-server")
            .args(flagged(flags))
            .start(StartWhen::FileExists(self.layout.api_ready()))
    }
}

fn flagged<const N: usize>(flags: [(&str, String); N]) -> Vec<String> {
    flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let layout = Layout::new("dev").unwrap();
        let plane = ControlPlane { layout: &layout, nets: Networks::of_slot(0) };
        insta::assert_json_snapshot!(
            plane.spec(vec!["/sys/fs/cgroup/memory/mettle-dev/cp-system/cgroup.procs".into()])
        );
    }
}
