//! Docker for real: images built, saved and imported as `kind load` imports them, containers killed and started, a
//! cluster deleted by kind's own program. The engine is one of our own, on no bridge and with no firewall rule, so that
//! the machine's network stays as it is. What cannot be had here is a node image: the nodes are containers that bear
//! kind's labels and sleep.
//!
//! As root: `cargo test --workspace --test docker -- --ignored --nocapture`. Skips, and says so, without `dockerd`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use mettle::provider::docker::record::{Place, Record, members};
use mettle::provider::docker::{Flavour, down, engine, node, status};
use mettle::provider::host::Host;
use mettle::provider::power::NodeState;

/// An engine of our own; nothing of it is left when it goes.
struct Engine {
    directory: PathBuf,
    child: Child,
}

impl Engine {
    fn start(dockerd: &Path) -> Self {
        let directory = std::env::temp_dir().join(format!("mettle-docker-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new(dockerd)
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("run"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", directory.join("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { directory, child };
        let begun = Instant::now();
        while engine.try_docker(&["version"]).is_none() {
            let log = || fs::read_to_string(engine.directory.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "no engine: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("dockerd: up in {:.1} s", begun.elapsed().as_secs_f64());
        engine
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.directory.join("docker.sock").display())
    }

    fn try_docker(&self, arguments: &[&str]) -> Option<String> {
        let output =
            Command::new("docker").args(arguments).env("DOCKER_HOST", self.socket()).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|| panic!("docker {arguments:?} failed"))
    }

    /// The real programs, on this engine.
    fn host(&self) -> Host {
        let programs = self.directory.join("programs");
        fs::create_dir_all(&programs).unwrap();
        for name in ["docker", "kind"].into_iter().filter_map(|name| Some((name, on_path(name)?))) {
            let script =
                format!("#!/bin/sh\nDOCKER_HOST={} exec {} \"$@\"\n", self.socket(), name.1.display());
            fs::write(programs.join(name.0), script).unwrap();
            fs::set_permissions(programs.join(name.0), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Host::at(programs, self.directory.join("state"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// What `mettle up --only cache` leaves: every image as an archive.
fn build(engine: &Engine) -> PathBuf {
    let begun = Instant::now();
    let cache = engine.directory.join("cache");
    let mut mettle = Command::cargo_bin("mettle").unwrap();
    mettle.args([
        "--cluster",
        "kind",
        "up",
        "--only",
        "cache",
        "--overlay",
        "local",
        "--components",
        "redis",
    ]);
    let status = mettle.env("DOCKER_HOST", engine.socket()).env("METTLE_CACHE", &cache).status().unwrap();
    assert!(status.success(), "the images were not built");
    eprintln!("images: built and saved in {:.1} s", begun.elapsed().as_secs_f64());
    cache.join("images")
}

#[test]
#[ignore = "needs root, dockerd, and about ten minutes"]
fn docker_builds_and_kind_sees_its_nodes() {
    let Some(dockerd) = on_path("dockerd") else {
        eprintln!("skipped: dockerd is not installed (Debian, Ubuntu: docker.io)");
        return;
    };
    let engine = Engine::start(&dockerd);
    let archives = build(&engine);
    let reference = imported(&engine, &archives);
    nodes(&engine, &reference);
}

/// Imports redis' archive as `kind load` does inside a node, into the engine's own containerd.
fn imported(engine: &Engine, archives: &Path) -> String {
    let begun = Instant::now();
    let mut found = fs::read_dir(archives).unwrap().map(|entry| entry.unwrap().path());
    let archive = found.find(|path| path.to_string_lossy().contains("/redis-")).expect("redis' archive");
    let socket = engine.directory.join("run/containerd/containerd.sock");
    let ctr = |arguments: &[&str]| {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(&socket)
            .args(["--namespace", "k8s.io", "images"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctr(&["import", "--all-platforms", "--digests", &archive.display().to_string()]);
    let listed = ctr(&["list", "--quiet"]);
    let reference = listed.lines().find(|line| line.starts_with("localhost/mettle/redis:"));
    eprintln!("ctr import: {:.1} s", begun.elapsed().as_secs_f64());
    reference.unwrap_or_else(|| panic!("it has another name: {listed}")).to_owned()
}

fn nodes(engine: &Engine, image: &str) {
    if on_path("kind").is_none() {
        eprintln!("skipped: nodes, because kind is not installed");
        return;
    }
    let (host, flavour) = (engine.host(), Flavour::Kind);
    engine::require(&host, flavour).unwrap();
    let place = Place::new(&host, flavour, "x").unwrap();
    let (name, provider) = ("x".to_owned(), "kind".to_owned());
    let created = chrono::Utc::now().to_rfc3339();
    for (node, role) in [("control-plane", "control-plane"), ("worker", "worker"), ("worker2", "worker")] {
        let name = format!("mettle-x-{node}");
        let (cluster, role) =
            ("io.x-k8s.kind.cluster=mettle-x".to_owned(), format!("io.x-k8s.kind.role={role}"));
        let run = ["run", "--detach", "--name", &name, "--label", &cluster, "--label", &role];
        let how = ["--network", "none", "--restart", "on-failure:1", "--entrypoint", "sleep", image, "3600"];
        engine.docker(&[&run[..], &how[..]].concat());
    }
    assert!(down::down(&host, flavour, "x").is_err(), "without a record it is somebody else's");
    let containers = engine::containers(&host, flavour, "x").unwrap();
    let record = Record { name, provider, created, members: members(flavour, &containers) };
    place.save(&record).unwrap();
    let handle = place.handle(&record);
    assert_eq!(handle.nodes, ["mettle-x-worker", "mettle-x-worker2"]);
    let begun = Instant::now();
    node::kill(&host, flavour, &handle, "mettle-x-worker").unwrap();
    eprintln!("node killed: {:.2} s", begun.elapsed().as_secs_f64());
    std::thread::sleep(Duration::from_secs(3));
    let state = |name: &str| node::state(&host, flavour, &handle, name).unwrap();
    assert_eq!(state("mettle-x-worker"), NodeState::Off, "Docker does not start it again by itself");
    assert_eq!(state("mettle-x-worker2"), NodeState::On, "only the one");
    node::kill(&host, flavour, &handle, "mettle-x-worker").unwrap();
    let worker = record.workers(flavour).next().unwrap();
    engine::power_on(&host, flavour, &worker.id).unwrap();
    assert_eq!(state("mettle-x-worker"), NodeState::On);
    let shown = status::status(&host, flavour, "x").unwrap().unwrap();
    assert!(shown.members.iter().all(|member| member.running && member.pid.is_some()), "{shown:?}");
    assert!(down::down(&host, flavour, "x").unwrap(), "deleted by kind");
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]), "");
    assert!(!down::down(&host, flavour, "x").unwrap(), "once");
}
