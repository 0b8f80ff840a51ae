//! `drop`, and how every work on the network ends.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::net::{Net, PEER, POD, inside};
use crate::common::{Agent, number_before, signal};

/// An echo of datagrams at this address.
fn echo(namespace: &str, address: &'static str, port: u16) {
    let socket = inside(namespace, move || UdpSocket::bind((address, port)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// How many of `count` datagrams come back.
fn pings(namespace: &str, to: &'static str, port: u16, count: u32) -> u32 {
    inside(namespace, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        for number in 0..count {
            // A refusal is said at the next send: that one is lost, too.
            let _ = socket.send_to(&number.to_be_bytes(), (to, port));
        }
        let mut buffer = [0u8; 64];
        let mut back = 0;
        let end = Instant::now() + Duration::from_secs(3);
        while back < count && Instant::now() < end {
            match socket.recv_from(&mut buffer) {
                Ok(_) => back += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        back
    })
}

fn connects(namespace: &str, to: &'static str, port: u16) -> Result<(), ErrorKind> {
    inside(namespace, move || {
        let address = format!("{to}:{port}").parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_millis(700))
            .map(drop)
            .map_err(|error| error.kind())
    })
}

fn net() -> Net {
    let net = Net::make();
    echo(&net.pod, "0.0.0.0", 7000);
    echo(&net.peer, PEER, 7000);
    assert_eq!(pings(&net.peer, POD, 7000, 3), 3, "the namespaces are not joined");
    net
}

fn start(net: &Net, arguments: &[&str]) -> Agent {
    net.agent(&[&["drop", "--ttl-ms", "60000"], arguments].concat())
}

#[test]
#[ignore = "needs root and nft"]
fn everything_is_dropped_but_loopback_until_it_is_told() {
    let net = net();
    let mut agent = start(&net, &[]);
    agent.await_line("waiting", "0 packets in and 0 out");
    assert_eq!(pings(&net.peer, POD, 7000, 3), 0);
    assert_eq!(pings(&net.pod, PEER, 7000, 3), 0);
    assert_eq!(pings(&net.pod, "127.0.0.1", 7000, 3), 3, "loopback is never touched");
    let line = agent.await_line("effect", "3 packets in and 3 out dropped");
    assert_eq!(number_before(&line, " packets in"), 3, "{line}");
    agent.resume();
    assert_eq!(pings(&net.peer, POD, 7000, 3), 3);
    assert!(net.tables().is_empty());
}

#[test]
#[ignore = "needs root and nft"]
fn a_port_and_a_peer_are_hit_and_no_other() {
    let net = net();
    echo(&net.pod, "0.0.0.0", 7001);
    let mut agent = start(&net, &["--port", "7000", "--direction", "in", "--peers", PEER]);
    agent.await_line("waiting", "0 packets in");
    assert_eq!(pings(&net.peer, POD, 7000, 3), 0);
    assert_eq!(pings(&net.peer, POD, 7001, 3), 3, "another port");
    assert_eq!(pings(&net.pod, PEER, 7000, 3), 3, "the same port of the other side");
    agent.await_line("effect", "3 packets in and 0 out");
    agent.resume();
    let mut agent = start(&net, &["--port", "7000", "--direction", "out", "--peers", "10.231.7.9"]);
    agent.await_line("waiting", "0 packets in");
    assert_eq!(pings(&net.pod, PEER, 7000, 3), 3, "another peer");
    agent.resume();
    assert!(!agent.said.iter().any(|line| line.contains("\"effect\"")), "{:#?}", agent.said);
}

#[test]
#[ignore = "needs root and nft"]
fn a_share_of_the_packets_is_lost() {
    let net = net();
    let mut agent = start(&net, &["--direction", "in", "--port", "7000", "--percent", "30"]);
    agent.await_line("waiting", "0 packets in");
    let back: u32 = (0..10).map(|_| pings(&net.peer, POD, 7000, 40)).sum();
    // Both ways: 0.7 × 0.7 = 49 % of 400 come back.
    assert!((120..=270).contains(&back), "{back} of 400");
    agent.await_line("effect", "dropped");
    agent.resume();
    assert_eq!(pings(&net.peer, POD, 7000, 40), 40);
}

#[test]
#[ignore = "needs root and nft"]
fn a_rejected_connection_is_refused_at_once_and_a_dropped_one_is_not() {
    let net = net();
    let _listener = inside(&net.pod, || TcpListener::bind("0.0.0.0:7002").unwrap());
    assert_eq!(connects(&net.peer, POD, 7002), Ok(()));
    for (action, kind) in [("reject", ErrorKind::ConnectionRefused), ("drop", ErrorKind::TimedOut)] {
        let mut agent = start(&net, &["--direction", "in", "--port", "7002", "--action", action]);
        agent.await_line("waiting", "0 packets in");
        assert_eq!(connects(&net.peer, POD, 7002), Err(kind), "{action}");
        agent.await_line("effect", "packets in");
        agent.resume();
        assert_eq!(connects(&net.peer, POD, 7002), Ok(()), "{action}");
    }
}

#[test]
#[ignore = "needs root and nft"]
fn it_undoes_itself_in_each_of_the_ways_it_must() {
    let net = net();
    let cut = |arguments: &[&str]| {
        let mut agent = start(&net, arguments);
        agent.await_line("waiting", "0 packets in");
        assert_eq!(pings(&net.peer, POD, 7000, 2), 0);
        agent
    };
    let whole = |how: &str| {
        assert_eq!(pings(&net.peer, POD, 7000, 3), 3, "after: {how}");
        assert!(net.tables().is_empty(), "after: {how}: {:?}", net.tables());
    };
    let mut agent = cut(&["--heartbeat-ms", "2000"]);
    agent.assert_undone("no heartbeat");
    whole("no heartbeat");
    let mut agent = cut(&[]);
    agent.stdin = None;
    agent.assert_undone("standard input ended");
    whole("standard input ended");
    let mut agent = cut(&[]);
    agent.terminate();
    agent.assert_undone("terminated by a signal");
    whole("SIGTERM");
    let mut agent = net.agent(&["drop", "--ttl-ms", "2500", "--heartbeat-ms", "30000"]);
    agent.await_line("waiting", "0 packets in");
    agent.assert_undone("time limit");
    whole("time limit");
}

fn killed(net: &Net) {
    let mut agent = start(net, &["--direction", "in", "--port", "7009"]);
    agent.await_line("waiting", "0 packets in");
    signal(agent.child.id(), "KILL");
    agent.child.wait().unwrap();
    assert_eq!(
        net.tables(),
        [format!("table inet mettle_{}", agent.child.id())],
        "a killed agent leaves its table"
    );
}

#[test]
#[ignore = "needs root and nft"]
fn what_a_killed_agent_left_the_next_one_or_clean_removes_and_a_living_one_keeps() {
    let net = net();
    killed(&net);
    let mut living = start(&net, &["--direction", "in", "--port", "7000"]);
    living.await_line("note", "of a dead agent");
    living.await_line("waiting", "0 packets in");
    let own = format!("table inet mettle_{}", living.child.id());
    assert_eq!(net.tables(), std::slice::from_ref(&own));
    killed_beside(&net, &own);
    let output = net.command(&["clean"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("removed table mettle_"), "{text}");
    assert_eq!(net.tables(), [own], "a living agent's table is left alone");
    assert_eq!(pings(&net.peer, POD, 7000, 2), 0);
    living.resume();
    let output = net.command(&["clean"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("0 tables and 0 files"), "{text}");
}

fn killed_beside(net: &Net, own: &str) {
    let mut agent = start(net, &["--direction", "in", "--port", "7009"]);
    agent.await_line("waiting", "0 packets in");
    signal(agent.child.id(), "KILL");
    agent.child.wait().unwrap();
    assert_eq!(net.tables().len(), 2, "{own} and the dead one's");
}

#[test]
#[ignore = "needs root and nft"]
fn a_table_that_somebody_else_removed_is_no_effect() {
    let net = net();
    let mut agent = start(&net, &[]);
    agent.await_line("waiting", "0 packets in");
    let name = format!("mettle_{}", agent.child.id());
    let deleted = std::process::Command::new("ip")
        .args(["netns", "exec", &net.pod, "nft", "delete", "table", "inet", &name])
        .status()
        .unwrap();
    assert!(deleted.success());
    agent.await_line("failed", "nft");
    agent.resume();
}
