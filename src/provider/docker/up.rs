//! Brings a cluster of containers up, from whatever state it is in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::super::error::{ProviderError, Result, exec, io};
use super::super::handle::ClusterHandle;
use super::super::host::Host;
use super::super::images::Image;
use super::super::local::pki::write_secret;
use super::super::progress::Step;
use super::engine::{self, Container};
use super::flavour::{Flavour, kind_config};
use super::record::{Place, Record, Standing, foreign, members, standing};
use super::{down, load};

const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Of which the pull of the node image may be the most.
const CREATE_DEADLINE: Duration = Duration::from_secs(15 * 60);
const READY_SECONDS: u64 = 180;

/// What `up` was asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: String,
    /// Image of the nodes; the program's own choice when absent.
    pub node_image: Option<String>,
    /// Images to have on every node that runs pods.
    pub images: Vec<Image>,
}

/// Brings the cluster up; what stands stays as it is.
///
/// # Errors
/// When Docker or the flavour's program is not there or too old, when a cluster of that name is somebody else's, or
/// when it is not ready in time.
pub fn up(host: &Host, flavour: Flavour, options: &Options) -> Result<ClusterHandle> {
    let place = Place::new(host, flavour, &options.name)?;
    engine::require(host, flavour)?;
    let lock = place.lock(LOCK_PATIENCE)?;
    let standing = settle(host, &place, options).and_then(|record| {
        await_nodes(host, flavour, &record, READY_SECONDS)?;
        load::load(host, &place, &record, &options.images)?;
        Ok(place.handle(&record))
    });
    lock.remove()?;
    standing
}

fn settle(host: &Host, place: &Place, options: &Options) -> Result<Record> {
    let (flavour, name) = (place.flavour, place.name.as_str());
    let record = place.load()?;
    let containers = engine::containers(host, flavour, name)?;
    match (standing(flavour, record.as_ref(), &containers), record) {
        (Standing::Foreign(why), _) => Err(foreign(flavour, name, why)),
        (Standing::Ours, Some(record)) => {
            resume(host, place, &containers)?;
            Ok(record)
        }
        (Standing::HalfMade, _) => {
            eprintln!("  an earlier `up` died while it made cluster {name}: what is there of it goes first");
            down::delete(host, place)?;
            create(host, place, options)
        }
        (Standing::Nothing | Standing::Ours, _) => create(host, place, options),
    }
}

/// The intent is on disk before anything is made, the containers' ids when it was.
fn create(host: &Host, place: &Place, options: &Options) -> Result<Record> {
    let (flavour, name) = (place.flavour, place.name.as_str());
    let created = chrono::Utc::now().to_rfc3339();
    let provider = flavour.name().to_owned();
    let mut record = Record { name: name.to_owned(), provider, created, members: Vec::new() };
    place.save(&record)?;
    let program = flavour.name();
    let step = Step::spinner(format!("making {program} cluster {}", flavour.cluster(name)));
    let kubeconfig = place.kubeconfig().display().to_string();
    let words = flavour.create_arguments(name, &kubeconfig, options.node_image.as_deref());
    let mut command = host.exec(program).args(words).deadline(CREATE_DEADLINE);
    if flavour == Flavour::Kind {
        command = command.stdin(kind_config(name));
    }
    let made = command.run_with(|line| step.message(line.trim()));
    made.map_err(exec(format!("make {program} cluster {}", flavour.cluster(name))))?;
    record.members = members(flavour, &engine::containers(host, flavour, name)?);
    if record.server(flavour).is_none() || record.workers(flavour).next().is_none() {
        let what = format!("a server and a worker among the containers of {}", flavour.cluster(name));
        return Err(ProviderError::NotFound { what, tried: format!("docker, after {program} made it") });
    }
    write_kubeconfig(host, place)?;
    place.save(&record)?;
    step.done(&format!("{} nodes", record.members.len()));
    Ok(record)
}

/// After a reboot, or a node-kill that nobody undid: containers that are off are started, the server first.
fn resume(host: &Host, place: &Place, containers: &[Container]) -> Result<()> {
    let flavour = place.flavour;
    let mut off: Vec<&Container> = containers.iter().filter(|one| !one.running).collect();
    off.sort_by_key(|one| one.role != flavour.server_role());
    for one in off {
        let step = Step::spinner(format!("starting node {}", one.name));
        engine::power_on(host, flavour, &one.id)?;
        step.done("");
    }
    write_kubeconfig(host, place)
}

/// From the program that made the cluster: Docker may have given the API another port.
fn write_kubeconfig(host: &Host, place: &Place) -> Result<()> {
    let flavour = place.flavour;
    let text = host
        .exec(flavour.name())
        .args(flavour.kubeconfig_arguments(&place.name))
        .run()
        .map_err(exec(format!("read the kubeconfig of {}", flavour.cluster(&place.name))))?;
    let path = place.kubeconfig();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o700)).map_err(io("protect", parent))?;
    }
    // k3d begins with a line `---`, as if there were several.
    write_secret(&path, text.trim_start_matches("---\n"))
}

/// Waits until Kubernetes calls every node ready; asked where the API runs, so that no kubectl is needed here.
fn await_nodes(host: &Host, flavour: Flavour, record: &Record, seconds: u64) -> Result<()> {
    wait(host, flavour, record, "nodes --all", "see every node ready", seconds)
}

pub(super) fn await_node(
    host: &Host,
    flavour: Flavour,
    record: &Record,
    node: &str,
    seconds: u64,
) -> Result<()> {
    wait(host, flavour, record, &format!("node/{node}"), &format!("see node {node} ready"), seconds)
}

fn wait(host: &Host, flavour: Flavour, record: &Record, what: &str, goal: &str, seconds: u64) -> Result<()> {
    let server = record.server(flavour).map(|member| member.id.as_str()).unwrap_or_default();
    host.exec("docker")
        .args(["exec", server])
        .args(flavour.kubectl())
        .args(["wait", "--for=condition=Ready"])
        .args(what.split_whitespace())
        .arg(format!("--timeout={seconds}s"))
        .deadline(Duration::from_secs(seconds + 10))
        .run()
        .map(drop)
        .map_err(exec(goal.to_owned()))
}
