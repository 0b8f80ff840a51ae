//! Brings a cluster up, from whatever state it is in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::super::error::{Result, io};
use super::super::handle::ClusterHandle;
use super::super::images::{self, Image, Request};
use super::super::progress::Step;
use super::super::statics;
use super::binaries::{self, Programs};
use super::config;
use super::control_plane::{ControlPlane, PROXY_NAME};
use super::layout::{CONTROL_PLANE, Layout, STATE_ROOT};
use super::lock::Lock;
use super::net::{NODES, free_slot};
use super::network::{self, Network};
use super::node;
use super::opened;
use super::pki::{Authority, Pki, write_secret};
use super::record::{self, Record, write_file, write_json};
use super::worker::Worker;
use super::{bootstrap, doctor, down, storage};

const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
const READY_PATIENCE: Duration = Duration::from_secs(90);

/// What `up` was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    /// Directory with programs that come before any other source.
    pub bin_dir: Option<PathBuf>,
    /// Images to have on every node, apart from the sandbox's.
    pub images: Vec<Request>,
}

/// Programs and images that the cluster needs, into the cache.
pub fn prepare(options: &Options) -> Result<(Programs, Vec<Image>)> {
    doctor::require()?;
    let mut requests = vec![Request::named("pause")];
    requests.extend(options.images.iter().cloned());
    // Images wait for the network and for packages, programs for the compiler: side by side they take the longer of both.
    let (programs, built) = std::thread::scope(|scope| {
        let images =
            scope.spawn(|| statics::ensure(&requests).and_then(|()| images::ensure_images(&requests)));
        let programs = binaries::ensure(options.bin_dir.as_deref());
        (programs, images.join())
    });
    let programs = programs?;
    let built = built.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    // The sandbox image first.
    let mut list: Vec<Image> = built.into_values().collect();
    list.sort_by_key(|image| !image.reference.contains("/pause:"));
    Ok((programs, list))
}

/// Brings the cluster up; what stands stays as it is.
pub fn up(options: &Options) -> Result<ClusterHandle> {
    let layout = Layout::new(&options.name)?;
    let (programs, images) = prepare(options)?;
    let lock = Lock::acquire(&layout.lock(), layout.name(), LOCK_PATIENCE)?;
    let record = settle(&layout, programs, &images)?;
    configure(&layout, &record)?;
    start(&layout, &record, &images)?;
    drop(lock);
    Ok(opened::handle(&layout, &record))
}

/// Decides what the cluster is, once; later calls keep its slot.
fn settle(layout: &Layout, programs: Programs, images: &[Image]) -> Result<Record> {
    let slots = Path::new(STATE_ROOT).join("slots.lock");
    let lock = Lock::acquire(&slots, "slots", SLOT_PATIENCE)?;
    let earlier = Record::load(layout)?;
    let slot = match &earlier {
        Some(record) => record.slot,
        None => {
            let taken: Vec<u8> = record::all()?.iter().map(|record| record.slot).collect();
            free_slot(&taken, &network::machine_routes()?)?.slot()
        }
    };
    let created = earlier.map_or_else(|| chrono::Utc::now().to_rfc3339(), |record| record.created);
    let pause_image = images.first().map(|image| image.reference.clone()).unwrap_or_default();
    let kubernetes = binaries::kubernetes_version().to_owned();
    let record = Record { name: layout.name().to_owned(), slot, kubernetes, created, pause_image, programs };
    let root = layout.root();
    fs::create_dir_all(&root).map_err(io("create", &root))?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).map_err(io("protect", &root))?;
    record.save(layout)?;
    lock.remove()?;
    Ok(record)
}

/// Writes every file that the members read. Members that run have read theirs.
fn configure(layout: &Layout, record: &Record) -> Result<()> {
    let nets = record.networks();
    binaries::install(&record.programs, &layout.bin())?;
    Pki::new(layout.pki()).ensure(nets)?;
    let plane = ControlPlane { layout, nets };
    let etcd = layout.root().join("etcd");
    fs::create_dir_all(&etcd).map_err(io("create", &etcd))?;
    fs::set_permissions(&etcd, fs::Permissions::from_mode(0o700)).map_err(io("protect", &etcd))?;
    let server = format!("https://{}", plane.api());
    let kubeconfig = |path: &Path, user: &str| write_kubeconfig(layout, &server, path, user);
    kubeconfig(&layout.kubeconfig(), "admin")?;
    for user in ["controller-manager", "scheduler", "kube-proxy", "coredns", "metrics-server"] {
        kubeconfig(&plane.kubeconfig(user), user)?;
    }
    let proxy = config::kube_proxy(&plane.kubeconfig("kube-proxy"), PROXY_NAME, nets, true);
    write_json(&plane.dir().join("kube-proxy.json"), &proxy)?;
    let corefile = config::corefile(&plane.kubeconfig("coredns"));
    write_file(&plane.dir().join("Corefile"), corefile.as_bytes())?;
    for index in 1..=NODES {
        let worker = Worker { layout, nets, index };
        fs::create_dir_all(worker.dir()).map_err(io("create", &worker.dir()))?;
        kubeconfig(&worker.kubeconfig("kubelet"), &format!("{}-kubelet", worker.name()))?;
        kubeconfig(&worker.kubeconfig("kube-proxy"), "kube-proxy")?;
        kubeconfig(&worker.kubeconfig("netpol"), "netpol")?;
        worker.write_configs(&record.pause_image)?;
    }
    storage::make_dirs(layout)
}

fn write_kubeconfig(layout: &Layout, server: &str, path: &Path, user: &str) -> Result<()> {
    let pki = Pki::new(layout.pki());
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(io("read", &path));
    let credentials = config::Credentials {
        authority: read(pki.ca(Authority::Cluster))?,
        certificate: read(pki.cert(user))?,
        key: read(pki.key(user))?,
    };
    let value = config::kubeconfig(&layout.cgroup(), user, server, &credentials);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    write_secret(path, &format!("{value:#}\n"))
}

/// Starts what is off. The nodes come up while the API does: their kubelets wait for it.
fn start(layout: &Layout, record: &Record, images: &[Image]) -> Result<()> {
    let nets = record.networks();
    let step = Step::spinner(format!("starting Kubernetes {}", record.kubernetes));
    let complete = layout.netns_file(CONTROL_PLANE).exists();
    if !complete {
        // After a reboot, or with its network torn down: nothing of it can be of use any more.
        down::kill_everything(layout)?;
    }
    Network::new(layout, nets).ensure()?;
    node::power_on_control_plane(layout, record)?;
    for index in 1..=NODES {
        node::power_on(layout, record, index)?;
    }
    step.message("waiting for the API");
    thread::scope(|scope| {
        let imports = scope.spawn(|| import(layout, record, images));
        bootstrap::wait_api(layout)?;
        bootstrap::apply(layout, nets)?;
        write_file(&layout.api_ready(), b"")?;
        imports.join().unwrap_or(Ok(()))
    })?;
    step.message("waiting for the nodes");
    bootstrap::wait_nodes(layout, READY_PATIENCE)?;
    let recycled = storage::recycle(layout)?;
    let volumes = if recycled > 0 { format!(", {recycled} released volumes cleaned") } else { String::new() };
    step.done(&format!("{NODES} nodes ready{volumes}"));
    Ok(())
}

fn import(layout: &Layout, record: &Record, images: &[Image]) -> Result<()> {
    for node in record.nodes() {
        node::wait_containerd(layout, &node)?;
    }
    images::import(layout, &record.nodes(), images)
}
