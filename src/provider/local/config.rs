//! What the servers read, as text: kubeconfigs, containerd, CNI, kubelet, kube-proxy, CoreDNS.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use super::net::{Cidr, Networks};

/// How often a node says that it lives, and after how long without that it is taken for dead.
pub const NODE_HEARTBEAT_SECONDS: u32 = 2;
pub const NODE_GRACE_SECONDS: u32 = 10;
/// The port of the API on the control plane's address.
pub const API_PORT: u16 = 6443;
pub const METRICS_PORT: u16 = 4443;
pub const PODS_A_NODE_MAX: u32 = 60;

/// A kubeconfig in JSON, which is YAML too. Certificates are embedded, so that the file can be used anywhere.
pub fn kubeconfig(cluster: &str, user: &str, server: &str, pem: &Credentials) -> Value {
    let data = |text: &str| base64(text.as_bytes());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": {
            "server": server, "certificate-authority-data": data(&pem.authority) } }],
        "users": [{ "name": user, "user": {
            "client-certificate-data": data(&pem.certificate), "client-key-data": data(&pem.key) } }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "current-context": cluster,
    })
}

/// PEM texts of a client.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let six = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[six as usize]) } else { '=' });
        }
    }
    text
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a negative score cannot be set, and no sandbox would start.
/// `opt` is off because it makes a directory outside the cluster's.
pub fn containerd(node_dir: &Path, pause_image: &str, cni_bin: &Path) -> String {
    let (dir, cni_bin) = (node_dir.display(), cni_bin.display());
    format!(
        r#"version = 2
root = "{dir}/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  max_concurrent_downloads = 3
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{dir}/cni"
"#
    )
}

/// `ptp`, not `bridge`: so packets between pods of one node cross its forward hook too, where NetworkPolicies are
/// enforced. Addresses are kept on the node's disk, as they are everywhere: a node that comes back goes on behind the last one
/// that it gave. Giving the first again at once, it would put a new pod where others still send what was for an old one.
pub fn cni(dir: &Path, pods: Cidr) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "mettle",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "mtu": 1500,
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("cni-addresses"),
                "ranges": [[{ "subnet": pods.to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// What the kubelet of one node reads.
pub struct KubeletConfig<'a> {
    pub node: &'a str,
    pub address: Ipv4Addr,
    pub node_dir: &'a Path,
    pub cgroup: &'a str,
    pub pki: &'a super::pki::Pki,
    pub nets: Networks,
}

pub fn kubelet(config: &KubeletConfig<'_>) -> Value {
    let heartbeat = format!("{NODE_HEARTBEAT_SECONDS}s");
    let serving = format!("{}-kubelet-serving", config.node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": config.address,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": config.pki.ca(super::pki::Authority::Cluster) },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": config.pki.cert(&serving),
        "tlsPrivateKeyFile": config.pki.key(&serving),
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", config.cgroup),
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "failCgroupV1": false,
        "oomScoreAdj": 0,
        "clusterDNS": [config.nets.dns_service()],
        "clusterDomain": "cluster.local",
        "resolvConf": config.node_dir.join("resolv.conf"),
        "containerRuntimeEndpoint": format!("unix://{}/containerd.sock", config.node_dir.display()),
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 2,
        // Images come from archives: one that is thrown away could not be had again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
            "nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%" },
        "maxPods": PODS_A_NODE_MAX,
        "serializeImagePulls": false,
        "makeIPTablesUtilChains": false,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "nodeStatusUpdateFrequency": heartbeat,
        "nodeStatusReportFrequency": "10s",
        // Renewed at a quarter of its length: every two seconds.
        "nodeLeaseDurationSeconds": 4 * NODE_HEARTBEAT_SECONDS,
        "rotateCertificates": false,
    })
}

/// `masquerade_all` on the control plane, where what this machine sends to Services comes through: answers must come
/// back the same way.
pub fn kube_proxy(kubeconfig: &Path, hostname: &str, nets: Networks, masquerade_all: bool) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": hostname,
        "clientConnection": { "kubeconfig": kubeconfig },
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": nets.pods().to_string(),
        "detectLocalMode": "ClusterCIDR",
        "nftables": { "masqueradeAll": masquerade_all, "minSyncPeriod": "100ms", "syncPeriod": "30s" },
        // Nothing of conntrack's sysctls is the cluster's to set: some are the whole machine's.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "oomScoreAdj": 0,
    })
}

/// Names outside the cluster do not exist: an answer at once, not a time-out. That is a server block of its own,
/// since `template` would answer before `kubernetes` does.
pub fn corefile(kubeconfig: &Path) -> String {
    let kubeconfig = kubeconfig.display();
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    prometheus 127.0.0.1:9153
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
.:53 {{
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::local::pki::Pki;

    #[test]
    fn base64_as_in_rfc_4648() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn configurations() {
        let (dir, nets) = (Path::new("/S/nodes/n1"), Networks::of_slot(0));
        let pki = Pki::new("/S/pki".into());
        let (address, cgroup) = (nets.node(1), "mettle-dev/n1");
        let kubelet = kubelet(&KubeletConfig { node: "n1", address, node_dir: dir, cgroup, pki: &pki, nets });
        insta::assert_snapshot!(
            "containerd",
            containerd(dir, "localhost/mettle/pause:1", Path::new("/usr/lib/cni"))
        );
        insta::assert_json_snapshot!("cni", cni(dir, nets.node_pods(1)));
        insta::assert_json_snapshot!("kubelet", kubelet);
        insta::assert_json_snapshot!("kube-proxy", kube_proxy(Path::new("/S/k"), "n1", nets, false));
        insta::assert_snapshot!("corefile", corefile(Path::new("/S/k")));
    }
}
