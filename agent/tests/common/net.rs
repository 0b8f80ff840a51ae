//! Two network namespaces joined by a pair of interfaces: the pod, and a peer outside. Both go away at the end.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

pub const POD: &str = "10.231.7.1";
pub const PEER: &str = "10.231.7.2";

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Net {
    pub pod: String,
    pub peer: String,
}

impl Net {
    pub fn make() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = format!("mtl-{}-{number}", std::process::id());
        let net = Self { pod: format!("{base}-pod"), peer: format!("{base}-peer") };
        run(&["ip", "netns", "add", &net.pod]);
        run(&["ip", "netns", "add", &net.peer]);
        // Made inside: it never is in the machine's own namespace.
        let pair = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &net.peer];
        run(&[&["ip", "-n", &net.pod], pair.as_slice()].concat());
        for (namespace, address) in [(&net.pod, POD), (&net.peer, PEER)] {
            run(&["ip", "-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
            run(&["ip", "-n", namespace, "link", "set", "lo", "up"]);
            run(&["ip", "-n", namespace, "link", "set", "eth0", "up"]);
        }
        net
    }

    /// The agent, in the pod.
    pub fn agent(&self, arguments: &[&str]) -> super::Agent {
        super::listen(self.command(arguments))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        // Enters the network namespace and becomes the agent: a signal reaches it.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.pod))
            .arg("--")
            .arg(env!("CARGO_BIN_EXE_mettle-agent"));
        command.args(arguments);
        command
    }

    /// Tables of agents that are in the pod's namespace now.
    pub fn tables(&self) -> Vec<String> {
        let output =
            Command::new("ip").args(["netns", "exec", &self.pod, "nft", "list", "tables"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("mettle_")).map(str::to_owned).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.pod, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// Runs in a thread that is inside the namespace; what it opens stays there.
pub fn inside<T: Send + 'static>(namespace: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        run()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run(line: &[&str]) {
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
}
