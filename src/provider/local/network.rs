//! Network namespaces, links and routes of a cluster. Every function can be repeated.
//!
//! The bridge lives in the control plane's namespace, so that no firewall of the machine (Docker's, say) touches
//! what crosses it. The machine is joined by one link, and by routes to the Services (through the control plane's
//! kube-proxy) and to each node's pods.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::super::error::{ProviderError, Result, exec, io};
use super::super::exec::Exec;
use super::layout::{CONTROL_PLANE, Layout, node_name};
use super::net::{Cidr, NODES, Networks, parse_routes};
use super::processes;

const BRIDGE: &str = "br0";
const NETNS_DIR: &str = "/run/netns";
/// Says that the directory of named network namespaces was not there before mettle.
const NETNS_MARK: &str = ".netns-dir-is-ours";

pub struct Network<'a> {
    layout: &'a Layout,
    nets: Networks,
}

fn ip(line: &str) -> Result<String> {
    Exec::line(&format!("ip {line}")).run().map_err(exec("set up the cluster's network"))
}

/// Destinations of the machine's routes, without those through a link of mettle's.
pub fn machine_routes() -> Result<Vec<Cidr>> {
    let text = ip("-4 route show table all")?;
    let others: Vec<&str> = text.lines().filter(|line| !line.contains(" dev mtl")).collect();
    Ok(parse_routes(&others.join("\n")))
}

impl<'a> Network<'a> {
    pub fn new(layout: &'a Layout, nets: Networks) -> Self {
        Self { layout, nets }
    }

    fn ns(&self, member: &str) -> String {
        self.layout.netns(member)
    }

    /// Makes what is not there yet.
    pub fn ensure(&self) -> Result<()> {
        mark_netns_dir()?;
        let last = self.nets.node_pods(NODES).to_string();
        if !self.complete(CONTROL_PLANE, &last) || !link_exists(&self.nets.host_link()) {
            self.remove_all()?;
            self.make_control_plane()?;
        }
        for index in 1..=NODES {
            if !self.complete(&node_name(index), "default") {
                self.renew_node(index)?;
            }
        }
        Ok(())
    }

    /// What was cut off half-way lacks its last route. A namespace in which something runs was complete once: what it
    /// lacks since then is not ours to make anew beneath its processes.
    fn complete(&self, member: &str, last: &str) -> bool {
        let file = self.layout.netns_file(member);
        if !file.exists() {
            return false;
        }
        let routes = Exec::line(&format!("ip -n {} route show {last}", self.ns(member))).run();
        routes.is_ok_and(|text| !text.trim().is_empty()) || !processes::in_netns(&file).is_empty()
    }

    fn make_control_plane(&self) -> Result<()> {
        let (ns, nets) = (self.ns(CONTROL_PLANE), self.nets);
        let (host, link) = (nets.host(), nets.host_link());
        add_netns(&ns)?;
        let mac = |last| nets.hardware_address(last);
        ip(&format!("-n {ns} link add {BRIDGE} address {} type bridge", mac(10)))?;
        ip(&format!("-n {ns} addr add {}/24 dev {BRIDGE}", nets.control_plane()))?;
        ip(&format!("-n {ns} link set {BRIDGE} up"))?;
        // Made inside and its other end moved out: a link of this name is complete or not there.
        ip(&format!("link add {link} address {} type veth peer name host0 netns {ns}", mac(1)))?;
        ip(&format!("-n {ns} link set host0 master {BRIDGE} up"))?;
        ip(&format!("addr add {host}/24 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        bridge_without_firewall(&self.layout.netns_file(CONTROL_PLANE))?;
        ip(&format!("route replace {} via {} src {host}", nets.services(), nets.control_plane()))?;
        for index in 1..=NODES {
            let (pods, node) = (nets.node_pods(index), nets.node(index));
            ip(&format!("route replace {pods} via {node} src {host}"))?;
            // The last one of these also says that everything before it was done.
            ip(&format!("-n {ns} route replace {pods} via {node}"))?;
        }
        Ok(())
    }

    fn make_node(&self, index: u8) -> Result<()> {
        let (name, nets, cp) = (node_name(index), self.nets, self.ns(CONTROL_PLANE));
        let ns = self.ns(&name);
        add_netns(&ns)?;
        // The port of a namespace that was just removed may linger for a moment.
        if Exec::line(&format!("ip -n {cp} link show {name}")).run().is_ok() {
            ip(&format!("-n {cp} link del {name}"))?;
        }
        let mac = nets.hardware_address(10 + index);
        ip(&format!("-n {cp} link add {name} type veth peer name eth0 address {mac} netns {ns}"))?;
        ip(&format!("-n {cp} link set {name} master {BRIDGE} up"))?;
        ip(&format!("-n {ns} addr add {}/24 dev eth0", nets.node(index)))?;
        ip(&format!("-n {ns} link set eth0 up"))?;
        for other in (1..=NODES).filter(|other| *other != index) {
            ip(&format!("-n {ns} route add {} via {}", nets.node_pods(other), nets.node(other)))?;
        }
        // Last: it also says that everything before it was done.
        ip(&format!("-n {ns} route add default via {}", nets.control_plane()))?;
        Ok(())
    }

    /// A node's namespace as after a reboot: no rule, no link of a pod is left in it.
    pub fn renew_node(&self, index: u8) -> Result<()> {
        let name = node_name(index);
        remove_netns(&self.ns(&name))?;
        self.make_node(index)
    }

    /// Pulls the node's cable, at the bridge's end: peers see silence.
    pub fn unplug(&self, node: &str) -> Result<()> {
        let cp = self.ns(CONTROL_PLANE);
        ip(&format!("-n {cp} link set {node} down")).map(drop)
    }

    /// Puts it back.
    pub fn plug(&self, node: &str) -> Result<()> {
        let cp = self.ns(CONTROL_PLANE);
        ip(&format!("-n {cp} link set {node} up")).map(drop)
    }

    pub fn is_plugged(&self, node: &str) -> bool {
        let cp = self.ns(CONTROL_PLANE);
        let shown = Exec::line(&format!("ip -n {cp} -o link show up dev {node}")).run();
        shown.is_ok_and(|text| !text.trim().is_empty())
    }

    /// Removes everything. Processes must be gone.
    pub fn remove_all(&self) -> Result<()> {
        for member in (1..=NODES).map(node_name).chain([CONTROL_PLANE.to_owned()]) {
            remove_netns(&self.ns(&member))?;
        }
        let link = self.nets.host_link();
        // The link goes with the namespace of its other end, a moment later.
        let deadline = Instant::now() + Duration::from_secs(2);
        while link_exists(&link) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        if link_exists(&link) {
            ip(&format!("link del {link}"))?;
        }
        Ok(())
    }
}

fn link_exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn add_netns(ns: &str) -> Result<()> {
    ip(&format!("netns add {ns}"))?;
    ip(&format!("-n {ns} link set lo up"))?;
    // IPv6 would only add noise: nothing here has a route for it.
    let settings = "net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
                    net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
    let line = format!("nsenter --net={NETNS_DIR}/{ns} sysctl -qew {settings}");
    Exec::line(&line).run().map_err(exec(format!("set up network namespace {ns}")))?;
    Ok(())
}

fn remove_netns(ns: &str) -> Result<()> {
    if Path::new(NETNS_DIR).join(ns).exists() {
        ip(&format!("netns del {ns}"))?;
    }
    Ok(())
}

/// Frames between nodes must not meet the bridge's own iptables hooks, which rules for routed traffic assume away.
fn bridge_without_firewall(netns: &Path) -> Result<()> {
    let line = format!("nsenter --net={} sysctl -qew net.bridge.bridge-nf-call-iptables=0", netns.display());
    Exec::line(&line).run().map_err(exec("set up the cluster's bridge"))?;
    Ok(())
}

fn mark_netns_dir() -> Result<()> {
    if Path::new(NETNS_DIR).exists() {
        return Ok(());
    }
    let mark = Path::new(super::layout::STATE_ROOT).join(NETNS_MARK);
    fs::write(&mark, "").map_err(io("write", &mark))
}

/// After the last cluster: `ip netns` made its directory, and a mount on it, for us.
pub fn remove_netns_dir() -> Result<()> {
    let mark = Path::new(super::layout::STATE_ROOT).join(NETNS_MARK);
    if !mark.exists() {
        return Ok(());
    }
    let dir = Path::new(NETNS_DIR);
    let empty = fs::read_dir(dir).map(|mut entries| entries.next().is_none()).unwrap_or(false);
    if empty {
        let _ = nix::mount::umount(dir);
        fs::remove_dir(dir).map_err(io("remove", dir))?;
    }
    fs::remove_file(&mark).map_err(io("remove", &mark))
}

/// Waits until an address answers on a TCP port.
pub fn wait_port(address: std::net::SocketAddr, patience: Duration, what: &str) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("{what} does not answer at {address}");
            return Err(ProviderError::Deadline { what, seconds: patience.as_secs(), detail: String::new() });
        }
        thread::sleep(Duration::from_millis(100));
    }
}
