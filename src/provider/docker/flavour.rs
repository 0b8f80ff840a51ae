//! What differs between kind and k3d. Nothing here runs anything.

use serde_json::json;

use crate::provider::ProviderKind;

/// As many as the local provider has, so that a stack spreads in the same way.
pub const WORKERS: usize = 3;
/// Where the gateway listens on every node, when the overlay gives it a node port.
pub const GATEWAY_PORTS: [u16; 2] = [30080, 30443];
const CLUSTER_LABEL: &str = "mettle.dev/cluster";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const LOOPBACK: &str = "127.0.0.1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Kind,
    K3d,
}

impl Flavour {
    #[must_use]
    pub fn of(kind: ProviderKind) -> Option<Self> {
        match kind {
            ProviderKind::Kind => Some(Self::Kind),
            ProviderKind::K3d => Some(Self::K3d),
            ProviderKind::Local | ProviderKind::Current => None,
        }
    }

    #[must_use]
    pub fn provider(self) -> ProviderKind {
        match self {
            Self::Kind => ProviderKind::Kind,
            Self::K3d => ProviderKind::K3d,
        }
    }

    /// Of its program, and of the provider.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::K3d => "k3d",
        }
    }

    /// The oldest release that has every flag we use.
    #[must_use]
    pub fn version_min(self) -> (u32, u32) {
        match self {
            Self::Kind => (0, 20),
            Self::K3d => (5, 4),
        }
    }

    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Kind => {
                "install kind 0.20 or newer (`go install sigs.k8s.io/kind@latest`, or https://kind.sigs.k8s.io)"
            }
            Self::K3d => "install k3d 5.4 or newer (https://k3d.io)",
        }
    }

    /// The cluster's name in its program: apart from those that a person makes.
    #[must_use]
    pub fn cluster(self, name: &str) -> String {
        format!("mettle-{name}")
    }

    /// The label that its program puts on every container of a cluster.
    #[must_use]
    pub fn cluster_label(self) -> &'static str {
        match self {
            Self::Kind => "io.x-k8s.kind.cluster",
            Self::K3d => "k3d.cluster",
        }
    }

    #[must_use]
    pub fn role_label(self) -> &'static str {
        match self {
            Self::Kind => "io.x-k8s.kind.role",
            Self::K3d => "k3d.role",
        }
    }

    /// The role of the container that runs the API; it is never killed.
    #[must_use]
    pub fn server_role(self) -> &'static str {
        match self {
            Self::Kind => "control-plane",
            Self::K3d => "server",
        }
    }

    #[must_use]
    pub fn worker_role(self) -> &'static str {
        match self {
            Self::Kind => "worker",
            Self::K3d => "agent",
        }
    }

    #[must_use]
    pub fn version_arguments(self) -> &'static [&'static str] {
        &["version"]
    }

    /// Of `create`. kind reads its configuration from standard input and writes the kubeconfig itself.
    #[must_use]
    pub fn create_arguments(self, name: &str, kubeconfig: &str, image: Option<&str>) -> Vec<String> {
        let cluster = self.cluster(name);
        let mut words: Vec<String> = match self {
            Self::Kind => ["create", "cluster", "--name", &cluster, "--config", "-", "--wait", "180s"]
                .into_iter()
                .chain(["--kubeconfig", kubeconfig])
                .map(str::to_owned)
                .collect(),
            Self::K3d => k3d_create(&cluster, name),
        };
        if let Some(image) = image {
            words.extend(["--image".to_owned(), image.to_owned()]);
        }
        words
    }

    #[must_use]
    pub fn kubeconfig_arguments(self, name: &str) -> Vec<String> {
        let cluster = self.cluster(name);
        let words: [&str; 4] = match self {
            Self::Kind => ["get", "kubeconfig", "--name", &cluster],
            Self::K3d => return ["kubeconfig", "get", &cluster].map(str::to_owned).to_vec(),
        };
        words.map(str::to_owned).to_vec()
    }

    #[must_use]
    pub fn delete_arguments(self, name: &str, kubeconfig: &str) -> Vec<String> {
        let cluster = self.cluster(name);
        let words: Vec<&str> = match self {
            Self::Kind => vec!["delete", "cluster", "--name", &cluster, "--kubeconfig", kubeconfig],
            Self::K3d => vec!["cluster", "delete", &cluster],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// Loads one archive. kind takes the nodes that lack it, k3d all of them.
    #[must_use]
    pub fn load_arguments(self, name: &str, archive: &str, nodes: &[String]) -> Vec<String> {
        let cluster = self.cluster(name);
        let nodes = nodes.join(",");
        let words: Vec<&str> = match self {
            Self::Kind => vec!["load", "image-archive", archive, "--name", &cluster, "--nodes", &nodes],
            // Its other modes pull an image of k3d's own first.
            Self::K3d => vec!["image", "import", archive, "--cluster", &cluster, "--mode", "direct"],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// kubectl inside the container that runs the API: its own version, with the administrator's rights.
    #[must_use]
    pub fn kubectl(self) -> &'static [&'static str] {
        match self {
            Self::Kind => &["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"],
            Self::K3d => &["kubectl"],
        }
    }
}

fn k3d_create(cluster: &str, name: &str) -> Vec<String> {
    let mut words = format!(
        "cluster create {cluster} --servers 1 --agents {WORKERS} --no-lb --api-port {LOOPBACK}:random \
         --kubeconfig-update-default=false --kubeconfig-switch-context=false --timeout 300s \
         --k3s-arg --disable=traefik@server:* --k3s-arg --disable=servicelb@server:* \
         --k3s-arg --node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule@server:* \
         --k3s-node-label {CLUSTER_LABEL}={name}@server:*;agent:*"
    );
    for index in 0..WORKERS {
        words.push_str(&format!(" --k3s-node-label {ZONE_LABEL}=z{}@agent:{index}", index + 1));
    }
    for port in GATEWAY_PORTS {
        // Without a load balancer of k3d's a port is the node's own: `direct`. Docker chooses the machine's.
        words.push_str(&format!(" --port {LOOPBACK}::{port}@server:0:direct"));
    }
    words.split_whitespace().map(str::to_owned).collect()
}

/// kind's configuration; JSON is YAML. No registry mirrors, nothing on another address than loopback.
#[must_use]
pub fn kind_config(name: &str) -> String {
    let ports: Vec<_> = GATEWAY_PORTS
        .iter()
        .map(|port| json!({ "containerPort": port, "listenAddress": LOOPBACK, "protocol": "TCP" }))
        .collect();
    let mut nodes = vec![json!({
        "role": "control-plane", "labels": { CLUSTER_LABEL: name }, "extraPortMappings": ports,
    })];
    nodes.extend((1..=WORKERS).map(|index| {
        json!({ "role": "worker", "labels": { CLUSTER_LABEL: name, ZONE_LABEL: format!("z{index}") } })
    }));
    let config = json!({
        "kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": { "apiServerAddress": LOOPBACK },
        "nodes": nodes,
    });
    format!("{config}\n")
}

/// Of `kind v0.33.0 go1.26.8 linux/amd64` and `k3d version v5.9.0`.
#[must_use]
pub fn version_of(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('v')?.split_once('.'))?;
    let minor = word.1.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((word.0.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let cases = [
            ("kind v0.33.0 go1.26.8 linux/amd64\n", Some((0, 33))),
            ("kind v0.34.0-alpha+abc go1.26 linux/amd64", Some((0, 34))),
            ("k3d version v5.9.0\nk3s version v1.33.4-k3s1 (default)\n", Some((5, 9))),
            ("", None),
            ("version", None),
        ];
        for (text, version) in cases {
            assert_eq!(version_of(text), version, "{text}");
        }
    }

    #[test]
    fn everything_is_on_loopback() {
        let config: serde_json::Value = serde_json::from_str(&kind_config("x")).unwrap();
        assert_eq!(config["networking"]["apiServerAddress"], LOOPBACK);
        assert_eq!(config["nodes"].as_array().unwrap().len(), 1 + WORKERS);
        let ports = config["nodes"][0]["extraPortMappings"].as_array().unwrap();
        assert!(ports.iter().all(|port| port["listenAddress"] == LOOPBACK && port["hostPort"].is_null()));
        let words = Flavour::K3d.create_arguments("x", "", None);
        let after = |flag: &str| {
            let at = words.iter().enumerate().filter(|(_, word)| *word == flag).map(|(at, _)| at + 1);
            at.map(|at| words[at].clone()).collect::<Vec<_>>()
        };
        assert!(after("--port").iter().chain(&after("--api-port")).all(|port| port.starts_with(LOOPBACK)));
        assert!(words.contains(&"--kubeconfig-update-default=false".to_owned()), "never the user's file");
    }
}
