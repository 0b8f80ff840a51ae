//! The table of an agent in the pod's network namespace.
//!
//! # Guarantees
//! - A table is only ever removed by its own agent, or when that agent is dead.
//!
//! # Assumptions
//! - `nft` is in the PATH and may change this network namespace (`NET_ADMIN`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(5);
const PREFIX: &str = "mettle_";
/// What we send ourselves bears this mark, and is never touched.
pub const MARK: u32 = 0x6d65;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    In,
    Out,
    Both,
}

/// The name of our table, and the proof that we live: an abstract socket of that name. It belongs to the network
/// namespace like the table, and the kernel takes it away with us. A process number alone would prove nothing: agents
/// of one pod may live in different process namespaces, and numbers come again.
pub struct Table {
    pub name: String,
    _alive: UnixDatagram,
}

impl Table {
    /// Removes what dead agents left, and takes a name. Nothing is loaded yet.
    pub fn claim() -> Result<Self, String> {
        for removed in clean()? {
            crate::say::say("note", &format!("removed table {removed} of a dead agent"));
        }
        let pid = std::process::id();
        for attempt in 0..10 {
            // Only when an agent with our number lives in another process namespace of this pod.
            let name =
                if attempt == 0 { format!("{PREFIX}{pid}") } else { format!("{PREFIX}{pid}_{attempt}") };
            let address = address(&name)?;
            match UnixDatagram::bind_addr(&address) {
                Ok(socket) => return Ok(Self { name, _alive: socket }),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(format!("failed to take the name {name}: {error}")),
            }
        }
        Err(format!("ten agents live in this network namespace as {PREFIX}{pid}"))
    }

    /// Loads a rendered ruleset; all of it or nothing.
    pub fn load(&self, ruleset: &str) -> Result<(), String> {
        // What is loaded under another name would never be deleted.
        if !ruleset.starts_with(&format!("table inet {} {{", self.name)) {
            return Err(format!("the rules are not of table {}", self.name));
        }
        nft(&["-f", "-"], ruleset).map(drop)
    }

    /// Packets of each named counter since the start. Fails when the table is gone.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, String> {
        parse_counters(&nft(&["-j", "list", "counters", "table", "inet", &self.name], "")?)
    }

    /// Lets everything pass this chain from now on. The rules stay: with the last of them the kernel would forget how
    /// the addresses of living connections are translated.
    pub fn bypass(&self, chain: &str) -> Result<(), String> {
        nft(&["insert", "rule", "inet", &self.name, chain, "accept"], "").map(drop)
    }

    /// Deletes the table, and looks whether it is gone. One that is not there is fine.
    pub fn delete(&self) -> Result<(), String> {
        delete(&self.name)
    }
}

/// Removes the tables of dead agents in this network namespace; their names.
pub fn clean() -> Result<Vec<String>, String> {
    let mut removed = Vec::new();
    for name in tables()? {
        if is_ours(&name) && !alive(&name)? {
            delete(&name)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

fn delete(name: &str) -> Result<(), String> {
    let deleted = nft(&["delete", "table", "inet", name], "");
    if tables()?.iter().any(|table| table == name) {
        let why = deleted.err().unwrap_or_else(|| "it is still there".to_owned());
        return Err(format!("failed to delete table {name}: {why}"));
    }
    Ok(())
}

fn address(name: &str) -> Result<SocketAddr, String> {
    SocketAddr::from_abstract_name(name).map_err(|error| format!("failed to name a socket {name}: {error}"))
}

/// A datagram socket: connecting to one never waits, and its owner does not notice.
fn alive(name: &str) -> Result<bool, String> {
    let probe = UnixDatagram::unbound().map_err(|error| format!("failed to make a socket: {error}"))?;
    match probe.connect_addr(&address(name)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(format!("failed to learn whether the agent of {name} lives: {error}")),
    }
}

fn is_ours(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

fn tables() -> Result<Vec<String>, String> {
    let objects = objects(&nft(&["-j", "list", "tables", "inet"], "")?)?;
    Ok(objects.iter().filter_map(|object| object["table"]["name"].as_str().map(str::to_owned)).collect())
}

/// What `nft -j list` printed, one by one.
fn objects(listed: &str) -> Result<Vec<serde_json::Value>, String> {
    let mut value: serde_json::Value = serde_json::from_str(listed)
        .map_err(|error| format!("nft said something else than JSON: {error}"))?;
    match value["nftables"].take() {
        serde_json::Value::Array(objects) => Ok(objects),
        _ => Err("nft listed nothing".to_owned()),
    }
}

fn parse_counters(listed: &str) -> Result<BTreeMap<String, u64>, String> {
    let objects = objects(listed)?;
    let counters = objects.iter().map(|object| &object["counter"]);
    Ok(counters
        .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["packets"].as_u64()?)))
        .collect())
}

/// Runs `nft` with a deadline; what it printed.
fn nft(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("failed to run nft: {error}"))?;
    // Both ends at once: a full pipe must not hold it, nor us.
    let stdin = child.stdin.take();
    let input = input.to_owned();
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = wait(&mut child)?;
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if status.success() {
        Ok(stdout)
    } else {
        let line = stderr.lines().next().unwrap_or("no reason given");
        Err(format!("nft {} failed: {line}", arguments.join(" ")))
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let end = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("nft did not end within {} s", DEADLINE.as_secs()));
            }
            Err(error) => return Err(format!("failed to wait for nft: {error}")),
        }
    }
}

/// `ip saddr { 10.0.0.1, 10.0.0.2 } `, or nothing for everybody. `side`: saddr or daddr.
pub fn peers_match(side: &str, peers: &[Ipv4Addr]) -> String {
    if peers.is_empty() {
        return String::new();
    }
    let list = peers.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
    format!("ip {side} {{ {list} }} ")
}

/// A table of named counters and chains.
pub fn render(name: &str, counters: &[&str], chains: &[(&str, &str, Vec<String>)]) -> String {
    let mut text = format!("table inet {name} {{\n");
    // Writing to a String cannot fail.
    for counter in counters {
        let _ = writeln!(text, "\tcounter {counter} {{ }}");
    }
    for (chain, hook, rules) in chains {
        let _ = writeln!(text, "\tchain {chain} {{");
        if !hook.is_empty() {
            let _ = writeln!(text, "\t\ttype {hook}; policy accept;");
        }
        for rule in rules {
            let _ = writeln!(text, "\t\t{rule}");
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{is_ours, parse_counters, peers_match, render};

    #[test]
    fn a_table_is_text() {
        let rendered =
            render("mettle_7", &["hits"], &[("input", "filter hook input priority 0", vec!["drop".into()])]);
        let expected = "table inet mettle_7 {\n\tcounter hits { }\n\tchain input {\n\
                        \t\ttype filter hook input priority 0; policy accept;\n\t\tdrop\n\t}\n}\n";
        assert_eq!(rendered, expected);
    }

    #[test]
    fn nobody_named_is_everybody() {
        assert_eq!(peers_match("saddr", &[]), "");
        let peers = ["10.0.0.1", "10.0.0.2"].map(|peer| peer.parse().unwrap());
        assert_eq!(peers_match("daddr", &peers), "ip daddr { 10.0.0.1, 10.0.0.2 } ");
    }

    #[test]
    fn only_tables_of_agents_are_ever_removed() {
        for (name, ours) in [
            ("mettle_42", true),
            ("mettle_42_1", true),
            ("mettle_", false),
            ("mettle_netpol", false),
            ("mettle__1", false),
            ("filter", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }

    #[test]
    fn counters_are_read_by_name() {
        let listed = r#"{"nftables":[{"metainfo":{"version":"1"}},
            {"counter":{"family":"inet","name":"matched_in","table":"mettle_1","packets":3,"bytes":180}}]}"#;
        assert_eq!(parse_counters(listed).unwrap()["matched_in"], 3);
        assert!(parse_counters("Error").is_err());
    }
}
