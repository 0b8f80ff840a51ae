//! `dns`: a resolver outside, and what a program in the pod gets to hear.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::Agent;
use crate::common::net::{Net, PEER, inside};

const REAL: [u8; 4] = [10, 1, 1, 1];

struct Ground {
    net: Net,
    resolv_conf: tempfile::NamedTempFile,
}

fn query(number: u16, name: &str) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// The real resolver: every name has the same address.
fn real(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend_from_slice(&REAL);
    answer
}

fn ground() -> Ground {
    let net = Net::make();
    let (udp, tcp) =
        inside(&net.peer, || (UdpSocket::bind((PEER, 53)).unwrap(), TcpListener::bind((PEER, 53)).unwrap()));
    std::thread::spawn(move || {
        let mut buffer = [0u8; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&real(&buffer[..length]), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let mut length = [0u8; 2];
            if stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0u8; usize::from(u16::from_be_bytes(length))];
                let _ = stream.read_exact(&mut query);
                let answer = real(&query);
                let _ = stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes());
                let _ = stream.write_all(&answer);
            }
        }
    });
    let mut resolv_conf = tempfile::NamedTempFile::new().unwrap();
    writeln!(resolv_conf, "search x\nnameserver {PEER}").unwrap();
    let ground = Ground { net, resolv_conf };
    ground.assert_real("db.prod.local");
    ground
}

/// The answer's code, its address when it has one, and how long it took. Absent: no answer within 1.2 s.
type Heard = Option<(u8, Option<[u8; 4]>, Duration)>;

fn heard(query: &[u8], answer: &[u8], began: Instant) -> (u8, Option<[u8; 4]>, Duration) {
    assert_eq!(answer[..2], query[..2], "the answer is to this query");
    let address = (answer[7] == 1).then(|| answer[answer.len() - 4..].try_into().unwrap());
    (answer[3] & 0x0f, address, began.elapsed())
}

impl Ground {
    fn start(&self, arguments: &[&str]) -> Agent {
        let conf = self.resolv_conf.path().to_str().unwrap();
        let base = ["dns", "--ttl-ms", "60000", "--resolv-conf", conf, "--mode"];
        let mut agent = self.net.agent(&[base.as_slice(), arguments].concat());
        // Its own look-up is no query of anybody.
        agent.await_line("effect", "our own for");
        agent
    }

    fn ask(&self, name: &'static str) -> Heard {
        inside(&self.net.pod, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // Connected: an answer from another address than the resolver's would not be taken.
            socket.connect((PEER, 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(1200))).unwrap();
            let (query, began) = (query(0x1234, name), Instant::now());
            socket.send(&query).unwrap();
            let mut buffer = [0u8; 512];
            let length = socket.recv(&mut buffer).ok()?;
            Some(heard(&query, &buffer[..length], began))
        })
    }

    fn ask_tcp(&self, name: &'static str) -> Heard {
        inside(&self.net.pod, move || {
            let mut stream = TcpStream::connect((PEER, 53)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(1200))).unwrap();
            let (query, began) = (query(0x4321, name), Instant::now());
            stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&query).unwrap();
            let mut length = [0u8; 2];
            stream.read_exact(&mut length).ok()?;
            let mut answer = vec![0u8; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).ok()?;
            Some(heard(&query, &answer, began))
        })
    }

    fn assert_real(&self, name: &'static str) {
        for heard in [self.ask(name), self.ask_tcp(name)] {
            let (code, address, took) = heard.unwrap_or_else(|| panic!("no answer for {name}"));
            assert_eq!((code, address), (0, Some(REAL)), "{name}");
            assert!(took < Duration::from_millis(200), "{name}: {took:?}");
        }
    }

    fn assert_whole(&self) {
        self.assert_real("db.prod.local");
        assert!(self.net.tables().is_empty());
    }
}

#[test]
#[ignore = "needs root and nft"]
fn names_below_the_suffix_are_answered_wrongly_and_others_are_not() {
    let ground = ground();
    for (arguments, code, address, said) in [
        (["nxdomain"].as_slice(), 3, None, "answered with NXDOMAIN"),
        (&["refuse"], 5, None, "answered with REFUSED"),
        (&["wrong", "--address", "10.9.9.9"], 0, Some([10, 9, 9, 9]), "answered with 10.9.9.9"),
    ] {
        let mut agent = ground.start(&[arguments, &["--domain", "prod.local"]].concat());
        let heard = ground.ask("db.prod.local").expect(said);
        assert_eq!((heard.0, heard.1), (code, address), "{said}");
        ground.assert_real("db.nonprod.local");
        let line = agent.await_line("effect", &format!("1 queries {said}"));
        assert!(line.contains("db.prod.local"), "{line}");
        agent.resume();
        ground.assert_whole();
    }
}

#[test]
#[ignore = "needs root and nft"]
fn answers_that_do_not_come_do_not_come_over_tcp_either() {
    let ground = ground();
    let mut agent = ground.start(&["drop", "--domain", "prod.local"]);
    assert_eq!(ground.ask("db.prod.local"), None);
    assert_eq!(ground.ask_tcp("db.prod.local"), None);
    ground.assert_real("other.local");
    agent.await_line("effect", "2 queries not answered");
    agent.stdin = None;
    agent.assert_undone("standard input ended");
    ground.assert_whole();
}

#[test]
#[ignore = "needs root and nft"]
fn the_real_answer_comes_late() {
    let ground = ground();
    let mut agent = ground.start(&["slow", "--delay-ms", "500", "--domain", "prod.local"]);
    let (code, address, took) = ground.ask("db.prod.local").unwrap();
    assert_eq!((code, address), (0, Some(REAL)));
    assert!((500..1000).contains(&took.as_millis()), "{took:?}");
    ground.assert_real("other.local");
    agent.await_line("effect", "1 queries answered 500 ms late");
    agent.terminate();
    agent.assert_undone("terminated by a signal");
    ground.assert_whole();
}

#[test]
#[ignore = "needs root and nft"]
fn what_a_killed_responder_left_is_cleaned() {
    let ground = ground();
    let mut agent = ground.start(&["nxdomain"]);
    crate::common::signal(agent.child.id(), "KILL");
    agent.child.wait().unwrap();
    assert_eq!(ground.ask("db.prod.local"), None, "queries go to nobody");
    let output = ground.net.command(&["clean"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    ground.assert_whole();
}

#[test]
#[ignore = "needs root and nft"]
fn a_pod_without_a_resolver_that_can_be_redirected_is_a_failure() {
    let net = Net::make();
    for (text, why) in
        [("nameserver 127.0.0.53", "on loopback"), ("nameserver fd00::1", "no IPv4 nameserver")]
    {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{text}").unwrap();
        let conf = file.path().to_str().unwrap();
        let mut agent = net.agent(&["dns", "--mode", "refuse", "--ttl-ms", "9000", "--resolv-conf", conf]);
        let (last, well) = agent.ended();
        assert!(last.contains("\"failed\"") && last.contains(why) && !well, "{last}");
        assert!(net.tables().is_empty());
    }
}
