//! A node and its pods as network namespaces, and connections between them.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mettle::provider::local::netpol::apply::{Applied, Table};
use mettle::provider::local::netpol::policy::{Limits, World, judge};
use mettle::provider::local::netpol::render::render;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

pub const NODE: &str = "node-1";
/// The node's own address, as its pods see it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Every pod listens on both.
pub const PORTS: [u16; 2] = [8080, 9090];
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// A pod, or what stands for one: `job` runs on another node, `outside` is no pod at all. To the node
/// under test both are addresses behind an interface, as its own pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Node,
    Web,
    Api,
    Db,
    Job,
    Outside,
}

impl Who {
    pub const ENDS: [Self; 5] = [Self::Web, Self::Api, Self::Db, Self::Job, Self::Outside];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Web => "web",
            Self::Api => "api",
            Self::Db => "db",
            Self::Job => "job",
            Self::Outside => "outside",
        }
    }

    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Node => GATEWAY,
            Self::Web => Ipv4Addr::new(10, 99, 1, 2),
            Self::Api => Ipv4Addr::new(10, 99, 1, 3),
            Self::Db => Ipv4Addr::new(10, 99, 1, 4),
            Self::Job => Ipv4Addr::new(10, 99, 2, 2),
            Self::Outside => Ipv4Addr::new(198, 51, 100, 7),
        }
    }

    fn pod(self) -> Option<Pod> {
        let node = match self {
            Self::Node | Self::Outside => return None,
            Self::Job => "node-2",
            Self::Web | Self::Api | Self::Db => NODE,
        };
        let value = json!({
            "metadata": {"namespace": "shop", "name": self.name(), "labels": {"app": self.name()}},
            "spec": {"nodeName": node, "containers": [
                {"name": "main", "ports": [{"name": "http", "containerPort": PORTS[0]}]},
            ]},
            "status": {"phase": "Running", "podIP": self.address().to_string()},
        });
        Some(serde_json::from_value(value).expect("a pod"))
    }
}

/// How an attempt to connect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Connected,
    /// No answer at all: what a dropped packet looks like. A refusal would be an error of the test.
    Silence,
}

/// The namespaces of one test; they go when it goes, whatever happened.
pub struct Net {
    // Before the namespaces: a socket keeps its namespace alive.
    listeners: Vec<TcpListener>,
    namespaces: Namespaces,
    table: Table,
}

struct Namespaces {
    prefix: String,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for who in Who::ENDS.into_iter().chain([Who::Node]) {
            let name = format!("{}-{}", self.prefix, who.name());
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

impl Net {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("mnp{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut net = Self {
            listeners: Vec::new(),
            namespaces: Namespaces { prefix },
            table: Table::new("nft".into()),
        };
        for who in Who::ENDS.into_iter().chain([Who::Node]) {
            ip(&format!("netns add {}", net.path(who)));
            ip(&format!("-n {} link set lo up", net.path(who)));
        }
        for (index, who) in Who::ENDS.into_iter().enumerate() {
            net.attach(index, who);
        }
        net.inside(Who::Node, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding on")
        });
        for who in Who::ENDS.into_iter().chain([Who::Node]) {
            let listen =
                || PORTS.map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a listener"));
            let listeners = net.inside(who, listen);
            net.listeners.extend(listeners);
        }
        net
    }

    /// What the `ptp` plugin does.
    fn attach(&self, index: usize, who: Who) {
        let (node, pod, address) = (self.path(Who::Node), self.path(who), who.address());
        ip(&format!("link add veth{index} netns {node} type veth peer name eth0 netns {pod}"));
        ip(&format!("-n {node} addr add {GATEWAY}/32 dev veth{index}"));
        ip(&format!("-n {node} link set veth{index} up"));
        ip(&format!("-n {node} route add {address}/32 dev veth{index} scope host"));
        ip(&format!("-n {pod} addr add {address}/32 dev eth0"));
        ip(&format!("-n {pod} link set eth0 up"));
        ip(&format!("-n {pod} route add {GATEWAY}/32 dev eth0 scope link"));
        ip(&format!("-n {pod} route add default via {GATEWAY} dev eth0"));
    }

    /// The name that `ip netns` knows it by.
    fn path(&self, who: Who) -> String {
        format!("{}-{}", self.namespaces.prefix, who.name())
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, who: Who, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.path(who));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(&path).expect("the namespace is there");
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("entering it is allowed");
                work()
            });
            thread.join().expect("the work in the namespace succeeds")
        })
    }

    /// Makes these the policies in force on the node.
    pub fn enforce(&mut self, specs: &[Value]) -> Applied {
        let pods: Vec<Pod> = Who::ENDS.into_iter().filter_map(Who::pod).collect();
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "shop", "labels": {"team": "product"}}}))
                .expect("a namespace");
        let policies: Vec<NetworkPolicy> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| json!({"metadata": {"namespace": "shop", "name": format!("p{index}")}, "spec": spec}))
            .map(|value| serde_json::from_value(value).expect("a policy"))
            .collect();
        let world = World {
            node: NODE,
            pods: pods.iter().collect(),
            namespaces: vec![&namespace],
            policies: policies.iter().collect(),
        };
        let text = render(&judge(&world, &Limits::default()).expect("a small world"));
        self.with_table(async |table| table.apply(&text).await.expect("nft takes it"))
    }

    pub fn verify(&mut self) -> bool {
        self.with_table(async |table| table.verify().await.expect("nft answers"))
    }

    fn with_table<T: Send>(&mut self, work: impl AsyncFnOnce(&mut Table) -> T + Send) -> T {
        let mut table = std::mem::replace(&mut self.table, Table::new("nft".into()));
        let (table, answer) = self.inside(Who::Node, move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let answer = runtime.block_on(work(&mut table));
            (table, answer)
        });
        self.table = table;
        answer
    }

    /// Runs nft in the node and answers with what it prints.
    pub fn nft(&self, arguments: &[&str]) -> String {
        let output =
            self.inside(Who::Node, || Command::new("nft").args(arguments).output().expect("nft runs"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Packets that a counter of ours has counted.
    pub fn dropped(&self, counter: &str) -> u64 {
        let listing = self.nft(&["-j", "list", "counters", "table", "inet", "mettle_netpol"]);
        let listing: Value = serde_json::from_str(&listing).expect("JSON");
        let objects = listing["nftables"].as_array().expect("a list");
        let found = objects.iter().map(|object| &object["counter"]).find(|found| found["name"] == counter);
        found.and_then(|found| found["packets"].as_u64()).expect("the counter is there")
    }

    pub fn connect(&self, from: Who, to: Ipv4Addr, port: u16) -> Option<TcpStream> {
        let target = SocketAddr::from((to, port));
        match self.inside(from, || TcpStream::connect_timeout(&target, CONNECT_TIMEOUT)) {
            Ok(stream) => Some(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            Err(error) => panic!("{from:?} to {target}: {error}"),
        }
    }

    pub fn reach(&self, from: Who, to: Who, port: u16) -> Reach {
        if self.connect(from, to.address(), port).is_some() { Reach::Connected } else { Reach::Silence }
    }

    /// The connections that exist, of all between two ends or from the node, as `from→to:port`.
    pub fn open(&self) -> Vec<String> {
        let attempts = Who::ENDS.into_iter().chain([Who::Node]).flat_map(|from| {
            let targets = Who::ENDS.into_iter().filter(move |to| *to != from);
            targets.flat_map(move |to| PORTS.map(|port| (from, to, port)))
        });
        std::thread::scope(|scope| {
            let threads: Vec<_> = attempts
                .map(|(from, to, port)| scope.spawn(move || (from, to, port, self.reach(from, to, port))))
                .collect();
            let results = threads.into_iter().map(|thread| thread.join().expect("an answer"));
            results
                .filter(|(.., reach)| *reach == Reach::Connected)
                .map(|(from, to, port, _)| format!("{}→{}:{port}", from.name(), to.name()))
                .collect()
        })
    }

    pub fn listener(&self, who: Who, port: u16) -> TcpListener {
        self.inside(who, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a listener"))
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
