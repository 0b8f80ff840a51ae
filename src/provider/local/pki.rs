//! The cluster's certificates: an authority each for clients and servers, for etcd and for the API's front proxy;
//! a client certificate for each component; a key for service accounts.
//!
//! They live as long as the cluster and no longer than ten years: a test cluster that outlives its certificates
//! would fail in ways that look like the stack's fault.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::super::error::{ProviderError, Result, io};
use super::layout::node_name;
use super::net::{NODES, Networks};

const YEARS: i32 = 10;

pub struct Pki {
    dir: PathBuf,
}

/// Which authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    Cluster,
    Etcd,
    FrontProxy,
}

impl Authority {
    const ALL: [Self; 3] = [Self::Cluster, Self::Etcd, Self::FrontProxy];

    fn file(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// A certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub file: String,
    pub authority: Authority,
    pub common_name: String,
    pub group: Option<&'static str>,
    pub server: bool,
    pub names: Vec<String>,
    pub addresses: Vec<Ipv4Addr>,
}

fn client(file: &str, common_name: &str) -> Leaf {
    Leaf {
        file: file.to_owned(),
        authority: Authority::Cluster,
        common_name: common_name.to_owned(),
        group: None,
        server: false,
        names: Vec::new(),
        addresses: Vec::new(),
    }
}

fn server(file: &str, common_name: &str, names: &[&str], addresses: &[Ipv4Addr]) -> Leaf {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Leaf { server: true, names, addresses: addresses.to_vec(), ..client(file, common_name) }
}

/// Every certificate of a cluster.
pub fn leaves(nets: Networks) -> Vec<Leaf> {
    let loopback = Ipv4Addr::LOCALHOST;
    let kubernetes = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let metrics = ["metrics-server", "metrics-server.kube-system", "metrics-server.kube-system.svc"];
    let mut leaves = vec![
        server(
            "apiserver",
            "kube-apiserver",
            &kubernetes,
            &[nets.control_plane(), nets.api_service(), loopback],
        ),
        server("controller-manager-serving", "kube-controller-manager", &["localhost"], &[loopback]),
        server("scheduler-serving", "kube-scheduler", &["localhost"], &[loopback]),
        server("metrics-server-serving", "metrics-server", &metrics, &[nets.control_plane()]),
        Leaf { authority: Authority::Etcd, ..server("etcd", "etcd", &["localhost"], &[loopback]) },
        Leaf { authority: Authority::Etcd, ..client("apiserver-etcd-client", "kube-apiserver-etcd-client") },
        Leaf { authority: Authority::FrontProxy, ..client("front-proxy-client", "front-proxy-client") },
        client("apiserver-kubelet-client", "kube-apiserver-kubelet-client"),
        Leaf { group: Some("system:masters"), ..client("admin", "mettle-admin") },
        client("controller-manager", "system:kube-controller-manager"),
        client("scheduler", "system:kube-scheduler"),
        client("kube-proxy", "system:kube-proxy"),
        client("coredns", "system:coredns"),
        client("netpol", "mettle:netpol"),
        client("metrics-server", "system:metrics-server"),
    ];
    for index in 1..=NODES {
        let node = node_name(index);
        let user = format!("system:node:{node}");
        leaves.push(Leaf { group: Some("system:nodes"), ..client(&format!("{node}-kubelet"), &user) });
        leaves.push(server(&format!("{node}-kubelet-serving"), &user, &[&node], &[nets.node(index)]));
    }
    leaves
}

impl Pki {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn cert(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}.crt"))
    }

    pub fn key(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{file}.key"))
    }

    pub fn ca(&self, authority: Authority) -> PathBuf {
        self.cert(authority.file())
    }

    pub fn ca_key(&self, authority: Authority) -> PathBuf {
        self.key(authority.file())
    }

    /// Makes what is not there yet.
    pub fn ensure(&self, nets: Networks) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(io("create", &self.dir))?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))
            .map_err(io("protect", &self.dir))?;
        let leaves = leaves(nets);
        for authority in Authority::ALL {
            let issuer = self.authority(authority)?;
            for leaf in leaves.iter().filter(|leaf| leaf.authority == authority) {
                if !self.cert(&leaf.file).exists() || !self.key(&leaf.file).exists() {
                    self.make_leaf(leaf, &issuer)?;
                }
            }
        }
        self.ensure_service_account_key()
    }

    fn authority(&self, authority: Authority) -> Result<Issuer<'static, KeyPair>> {
        let file = authority.file();
        let failed = |source| ProviderError::Certificate { name: file.to_owned(), source };
        let (cert, key) = (self.cert(file), self.key(file));
        if !cert.exists() || !key.exists() {
            let pair = KeyPair::generate().map_err(failed)?;
            let made = authority_params(file).self_signed(&pair).map_err(failed)?;
            write_secret(&key, &pair.serialize_pem())?;
            write_secret(&cert, &made.pem())?;
        }
        let pem = fs::read_to_string(&key).map_err(io("read", &key))?;
        let pair = KeyPair::from_pem(&pem).map_err(failed)?;
        // What a certificate takes over from its issuer (name, key) is the same at every call.
        Ok(Issuer::new(authority_params(file), pair))
    }

    fn make_leaf(&self, leaf: &Leaf, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
        let failed = |source| ProviderError::Certificate { name: leaf.file.clone(), source };
        let mut params = base_params(&leaf.common_name, leaf.group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if leaf.server {
            // etcd's own gateway calls its own port with this certificate, so it is a client's too.
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        for name in &leaf.names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        for address in &leaf.addresses {
            params.subject_alt_names.push(SanType::IpAddress((*address).into()));
        }
        let pair = KeyPair::generate().map_err(failed)?;
        let made = params.signed_by(&pair, issuer).map_err(failed)?;
        write_secret(&self.key(&leaf.file), &pair.serialize_pem())?;
        write_secret(&self.cert(&leaf.file), &made.pem())
    }

    fn ensure_service_account_key(&self) -> Result<()> {
        let (key, public) = (self.key("service-account"), self.dir.join("service-account.pub"));
        if key.exists() && public.exists() {
            return Ok(());
        }
        let failed = |source| ProviderError::Certificate { name: "service-account".to_owned(), source };
        let pair = KeyPair::generate().map_err(failed)?;
        write_secret(&key, &pair.serialize_pem())?;
        write_secret(&public, &pair.public_key_pem())
    }
}

fn authority_params(file: &str) -> CertificateParams {
    let mut params = base_params(&format!("mettle-{file}"), None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn base_params(common_name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name = name;
    // A day back, so that a clock that is a little behind accepts it.
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = (now - day).into();
    params.not_after = (now + day * 365 * YEARS.unsigned_abs()).into();
    params
}

/// Writes a file that only its owner can read, from its first byte on.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(io("create", &new))?;
    file.write_all(text.as_bytes()).map_err(io("write", &new))?;
    fs::rename(&new, path).map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path().join("pki"));
        let nets = Networks::of_slot(0);
        pki.ensure(nets).unwrap();
        let first = fs::read(pki.cert("admin")).unwrap();
        for leaf in leaves(nets) {
            assert_eq!(fs::metadata(pki.key(&leaf.file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_file(pki.cert("scheduler")).unwrap();
        pki.ensure(nets).unwrap();
        assert_eq!(fs::read(pki.cert("admin")).unwrap(), first, "kept");
        assert!(pki.cert("scheduler").exists(), "made again");
    }

    #[test]
    fn who_is_who() {
        let list: Vec<String> = leaves(Networks::of_slot(0))
            .into_iter()
            .map(|leaf| {
                let kind = if leaf.server { "server" } else { "client" };
                let names: Vec<String> =
                    leaf.names.into_iter().chain(leaf.addresses.iter().map(Ipv4Addr::to_string)).collect();
                let group = leaf.group.unwrap_or("-");
                format!("{:?} {kind} {} {group} {}", leaf.authority, leaf.common_name, names.join(","))
            })
            .collect();
        insta::assert_snapshot!(list.join("\n"));
    }
}
