//! A cluster of a test's own, and how the test speaks with it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub struct Cluster {
    pub name: &'static str,
}

impl Cluster {
    /// Runs mettle for this cluster and demands that it succeeds.
    pub fn mettle(&self, args: &[&str]) -> String {
        let output = self.try_mettle(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "mettle {args:?}: {}\n{out}{err}", output.status);
        out
    }

    pub fn try_mettle(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
        command.args(args).args(["--name", self.name]).output().expect("mettle")
    }

    /// Starts mettle, and after a while signals it and all of its children that did not leave its group, as Ctrl-C does.
    /// Says whether it was still at work.
    pub fn interrupted(&self, args: &[&str], after: Duration, signal: &str) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mettle"));
        command.args(args).args(["--name", self.name]).process_group(0);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mettle");
        thread::sleep(after);
        let at_work = child.try_wait().expect("its state").is_none();
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-s", signal, "--", &group]).output();
        child.wait().expect("its end");
        at_work
    }

    pub fn root(&self) -> PathBuf {
        PathBuf::from("/var/lib/mettle").join(self.name)
    }

    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.root().join("bin/kubectl"));
        let output = command.arg("--kubeconfig").arg(self.root().join("kubeconfig")).args(args).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    pub fn ready_nodes(&self) -> Vec<String> {
        let list = self.try_kubectl(&["get", "nodes", "--no-headers"]).unwrap_or_default();
        let ready = list.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready"));
        ready.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// Every process of the cluster gets SIGKILL at once, as when the machine's owner loses patience.
    pub fn kill_everything(&self) {
        let mark = format!("/mettle-{}", self.name);
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            groups.contains(&mark).then(|| entry.file_name().into_string().ok()).flatten()
        });
        let pids: Vec<String> = pids.collect();
        assert!(pids.len() > 10, "a cluster has more processes than {}", pids.len());
        // Some die with their tree before their turn comes: that is no failure.
        let _ = Command::new("kill").arg("-9").args(&pids).output();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.root().exists() {
            return;
        }
        if thread::panicking() && std::env::var_os("METTLE_E2E_KEEP").is_some() {
            eprintln!("cluster {} is kept; take it down with `mettle down --name {0}`", self.name);
            return;
        }
        if thread::panicking() {
            eprintln!("{}", self.try_kubectl(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default());
        }
        let output = self.try_mettle(&["down"]);
        eprint!("{}", text(&output.stderr));
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something holds; answers with how long it took.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "{what}: not within {} s", patience.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
    started.elapsed()
}
