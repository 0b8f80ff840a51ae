//! Process 1 of a member's process tree: `mettle internal supervise`.
//!
//! It runs in its own PID, mount and UTS namespace, in the member's network namespace. When it dies the
//! kernel kills every process of the tree and its mounts vanish: that is how a node loses its power.
//!
//! Guarantees: a process that dies is started again, with a growing pause; every orphan is reaped; /run and
//! /tmp are the tree's own and empty at each start, as after a reboot; /var is a directory of the cluster.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::error::{ProviderError, Result, io};
use super::record::{read_json, write_json};
use super::tree::{ProcessSpec, ProcessState, StartWhen, TreeSpec, TreeState};
use super::weight;

const TICK_MS: u16 = 100;
const BOOT_TICK_MS: u16 = 1000;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A process that lived this long starts its next back-off from the beginning.
const STABLE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_millis(200);

/// Runs until it is killed.
pub fn supervise(spec_file: &Path) -> Result<()> {
    let spec: TreeSpec = read_json(spec_file)?.ok_or_else(|| ProviderError::NotFound {
        what: "the list of processes".to_owned(),
        tried: spec_file.display().to_string(),
    })?;
    prepare(&spec)?;
    let mut tree = Tree::new(&spec);
    let powered = Instant::now();
    let mut booting = (!spec.weights.is_empty()).then_some(0);
    let signals = block_signals().map_err(|error| io("watch signals of", spec_file)(error.into()))?;
    loop {
        tree.reap();
        tree.start_due();
        tree.publish()?;
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let due = weight::doublings(powered.elapsed());
        if booting.is_some() && booting != due {
            booting = due;
            spec.weights.iter().try_for_each(|weight| weight.give(booting))?;
        }
        let wait = match (tree.all_run(), booting.is_some()) {
            (false, _) => PollTimeout::from(TICK_MS),
            (true, true) => PollTimeout::from(BOOT_TICK_MS),
            (true, false) => PollTimeout::NONE,
        };
        match poll(&mut fds, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io("wait for signals of", spec_file)(error.into())),
        }
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// Only SIGCHLD matters; the kernel shields process 1 of a namespace from every signal it does not handle.
fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Joins the cgroups and makes the member's view of the file system.
fn prepare(spec: &TreeSpec) -> Result<()> {
    for file in &spec.cgroup_procs {
        fs::write(file, "0").map_err(io("join cgroup", file))?;
    }
    for path in &spec.stale {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove", path)(error)),
            _ => {}
        }
    }
    let hostname = Path::new("/proc/sys/kernel/hostname");
    fs::write(hostname, &spec.hostname).map_err(io("write", hostname))?;
    mount_tmpfs(Path::new("/run"))?;
    mount_tmpfs(Path::new("/tmp"))?;
    mount_var(spec)?;
    for (index, (path, text)) in spec.fixed.iter().enumerate() {
        let source = Path::new("/run").join(format!("mettle-fixed-{index}"));
        fs::write(&source, text).map_err(io("write", &source))?;
        bind(&source, path)?;
    }
    propagate(MsFlags::MS_SHARED)
}

fn mount_var(spec: &TreeSpec) -> Result<()> {
    let relative = spec.state_dir.strip_prefix("/var").unwrap_or(&spec.state_dir);
    let inner = spec.var.join(relative);
    for dir in [&inner, &spec.var.join("log"), &spec.var.join("lib"), &spec.var.join("tmp")] {
        fs::create_dir_all(dir).map_err(io("create", dir))?;
    }
    let run = spec.var.join("run");
    match std::os::unix::fs::symlink("/run", &run) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("create", &run)(error)),
        _ => {}
    }
    bind(&spec.state_dir, &inner)?;
    bind(&spec.var, Path::new("/var"))
}

fn mount_tmpfs(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=0755"))
        .map_err(|error| io("mount", target)(error.into()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|error| io("bind-mount over", target)(error.into()))
}

fn propagate(kind: MsFlags) -> Result<()> {
    let root = Path::new("/");
    mount(None::<&str>, root, None::<&str>, kind | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| io("change propagation of", root)(error.into()))
}

struct Tree<'a> {
    spec: &'a TreeSpec,
    started_ms: u64,
    running: Vec<Running<'a>>,
    published: Option<TreeState>,
}

struct Running<'a> {
    spec: &'a ProcessSpec,
    pid: Option<Pid>,
    since: Instant,
    /// Not started again before this.
    due: Instant,
    backoff: Duration,
    restarts: u32,
    last_exit: Option<String>,
}

impl<'a> Tree<'a> {
    fn new(spec: &'a TreeSpec) -> Self {
        let now = Instant::now();
        let running = spec.processes.iter().map(|spec| Running {
            spec,
            pid: None,
            since: now,
            due: now,
            backoff: BACKOFF_MIN,
            restarts: 0,
            last_exit: None,
        });
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { spec, started_ms, running: running.collect(), published: None }
    }

    fn all_run(&self) -> bool {
        self.running.iter().all(|process| process.pid.is_some())
    }

    /// Reaps our processes and every orphan of the namespace.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit status {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal.to_string()),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(process) = self.running.iter_mut().find(|process| process.pid == Some(pid)) {
                process.died(how);
            }
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for process in &mut self.running {
            if process.pid.is_none() && process.due <= now && ready(&process.spec.start) {
                process.start(now);
            }
        }
    }

    fn publish(&mut self) -> Result<()> {
        let processes = self.running.iter().map(|process| ProcessState {
            name: process.spec.name.clone(),
            pid: process.pid.map(Pid::as_raw),
            restarts: process.restarts,
            last_exit: process.last_exit.clone(),
        });
        let state = TreeState {
            member: self.spec.member.clone(),
            started_ms: self.started_ms,
            processes: processes.collect(),
        };
        if self.published.as_ref() != Some(&state) {
            write_json(&self.spec.state, &state)?;
            self.published = Some(state);
        }
        Ok(())
    }
}

impl Running<'_> {
    fn start(&mut self, now: Instant) {
        match spawn(self.spec) {
            Ok(pid) => {
                self.pid = Some(pid);
                self.since = now;
            }
            Err(error) => self.failed(format!("failed to start: {error}")),
        }
    }

    fn died(&mut self, how: String) {
        self.pid = None;
        if self.since.elapsed() >= STABLE {
            self.backoff = BACKOFF_MIN;
        }
        self.failed(how);
    }

    fn failed(&mut self, how: String) {
        eprintln!("{}: {how}", self.spec.name);
        self.last_exit = Some(how);
        self.restarts += 1;
        self.due = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

fn ready(when: &StartWhen) -> bool {
    match when {
        StartWhen::AtOnce => true,
        StartWhen::FileExists(path) => path.exists(),
        StartWhen::PortOpen(address) => TcpStream::connect_timeout(address, CONNECT_DEADLINE).is_ok(),
    }
}

fn spawn(spec: &ProcessSpec) -> io::Result<Pid> {
    let log = open_log(&spec.log)?;
    let (program, args) =
        spec.command.split_first().ok_or_else(|| io::Error::other("its command line is empty"))?;
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(&spec.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spec(dir: &Path, command: &[&str]) -> TreeSpec {
        let process = ProcessSpec {
            name: "p".to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::new(),
            log: dir.join("p.log"),
            start: StartWhen::FileExists(dir.join("go")),
        };
        TreeSpec {
            member: "n1".to_owned(),
            hostname: "n1".to_owned(),
            cgroup_procs: vec![],
            state_dir: dir.to_owned(),
            var: dir.join("var"),
            fixed: BTreeMap::new(),
            stale: vec![],
            state: dir.join("state.json"),
            processes: vec![process],
            weights: Vec::new(),
        }
    }

    #[test]
    fn a_process_waits_for_its_condition_then_restarts_with_growing_pauses() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path(), &["/nonexistent/program"]);
        let mut tree = Tree::new(&spec);
        tree.start_due();
        assert_eq!(tree.running[0].restarts, 0, "its condition does not hold yet");
        fs::write(dir.path().join("go"), "").unwrap();
        tree.start_due();
        assert_eq!((tree.running[0].restarts, tree.running[0].backoff), (1, BACKOFF_MIN * 2));
        tree.start_due();
        assert_eq!(tree.running[0].restarts, 1, "its pause is not over");
        for _ in 0..8 {
            tree.running[0].failed("again".to_owned());
        }
        assert_eq!(tree.running[0].backoff, BACKOFF_MAX);
        tree.publish().unwrap();
        let state: TreeState = read_json(&spec.state).unwrap().unwrap();
        assert_eq!((state.processes[0].restarts, state.processes[0].pid), (9, None));
    }
}
