//! `proxy`: what a client measures, while it is there and after.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::Agent;
use crate::common::net::{Net, PEER, POD, inside};

const WAIT: Duration = Duration::from_secs(10);

/// A server that answers what it gets, and ends when its client does.
fn echo(namespace: &str, port: u16) {
    let listener = inside(namespace, move || TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = vec![0u8; 64 << 10];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn connect(namespace: &str, to: &'static str, port: u16) -> TcpStream {
    dial(namespace, to, port).unwrap()
}

fn dial(namespace: &str, to: &'static str, port: u16) -> std::io::Result<TcpStream> {
    let address = format!("{to}:{port}").parse().unwrap();
    let stream = inside(namespace, move || TcpStream::connect_timeout(&address, WAIT))?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn round_trip(stream: &mut TcpStream) -> std::io::Result<Duration> {
    let began = Instant::now();
    stream.write_all(b"ping")?;
    let mut back = [0u8; 4];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"ping");
    Ok(began.elapsed())
}

/// From the peer to the pod's server.
fn ask(net: &Net) -> std::io::Result<Duration> {
    // A reset may come before the connection is ours.
    round_trip(&mut dial(&net.peer, POD, 7100)?)
}

fn net() -> Net {
    let net = Net::make();
    echo(&net.pod, 7100);
    echo(&net.peer, 7100);
    assert!(ask(&net).unwrap() < Duration::from_millis(100));
    net
}

fn start(net: &Net, arguments: &[&str]) -> Agent {
    let mut agent = net.agent(&[&["proxy", "--port", "7100", "--ttl-ms", "60000"], arguments].concat());
    agent.await_line("waiting", "0 of 0 connections hit");
    agent
}

fn assert_whole(net: &Net) {
    assert!(ask(net).unwrap() < Duration::from_millis(100));
    assert!(net.tables().is_empty(), "{:?}", net.tables());
}

#[test]
#[ignore = "needs root and nft"]
fn delay_is_added_to_each_direction_in_and_taken_away() {
    let net = net();
    let mut agent = start(&net, &["--delay-ms", "200"]);
    let took = ask(&net).unwrap();
    assert!((400..600).contains(&took.as_millis()), "there and back: {took:?}");
    let line = agent.await_line("effect", "added latency 20");
    assert!(line.contains("1 of 1 connections hit"), "{line}");
    // The other direction of calls is not touched.
    assert!(round_trip(&mut connect(&net.pod, PEER, 7100)).unwrap() < Duration::from_millis(100));
    let mut held = connect(&net.peer, POD, 7100);
    round_trip(&mut held).unwrap();
    let last = agent.resume();
    assert!(last.contains("1 connections reset"), "{last}");
    let error = held.read(&mut [0u8; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "a connection through the proxy is reset");
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn delay_is_added_to_calls_out_and_our_own_are_not_caught_again() {
    let net = net();
    let mut agent = start(&net, &["--delay-ms", "200", "--direction", "out", "--peers", PEER]);
    let took = round_trip(&mut connect(&net.pod, PEER, 7100)).unwrap();
    assert!((400..600).contains(&took.as_millis()), "{took:?}");
    assert!(ask(&net).unwrap() < Duration::from_millis(100), "calls in are not touched");
    agent.await_line("effect", "added latency 20");
    agent.stdin = None;
    agent.assert_undone("standard input ended");
    assert!(round_trip(&mut connect(&net.pod, PEER, 7100)).unwrap() < Duration::from_millis(100));
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn a_delay_does_not_limit_throughput_and_a_rate_does() {
    let net = net();
    let transfer = || {
        let stream = connect(&net.peer, POD, 7100);
        let mut reader = stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            let mut stream = stream;
            stream.write_all(&vec![7u8; 4 << 20]).unwrap();
            stream
        });
        let began = Instant::now();
        let mut all = vec![0u8; 4 << 20];
        reader.read_exact(&mut all).unwrap();
        drop(writer.join().unwrap());
        assert!(all.iter().all(|byte| *byte == 7));
        began.elapsed()
    };
    let mut agent = start(&net, &["--delay-ms", "200"]);
    let took = transfer();
    assert!(took < Duration::from_secs(3), "4 MiB in 64 chunks or more with 200 ms each way: {took:?}");
    agent.resume();
    let mut agent = start(&net, &["--rate-kib", "2048"]);
    let took = transfer();
    assert!((1600..4000).contains(&took.as_millis()), "4 MiB at 2 MiB/s: {took:?}");
    agent.await_line("effect", "KiB/s both ways of 2048 each");
    agent.resume();
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn jitter_is_between_nothing_and_its_most() {
    let net = net();
    let mut agent = start(&net, &["--jitter-ms", "150", "--seed", "3"]);
    let mut stream = connect(&net.peer, POD, 7100);
    let all: Vec<Duration> = (0..12).map(|_| round_trip(&mut stream).unwrap()).collect();
    let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
    assert!(*most < Duration::from_millis(450) && *most > *least + Duration::from_millis(60), "{all:?}");
    agent.await_line("effect", "added latency");
    agent.resume();
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn resets_hangs_and_answers() {
    let net = net();
    let mut agent = start(&net, &["--mode", "reset"]);
    let kind = ask(&net).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    agent.await_line("effect", "1 reset");
    agent.resume();
    assert_whole(&net);

    let mut agent = start(&net, &["--mode", "hang"]);
    let mut stream = connect(&net.peer, POD, 7100);
    stream.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
    assert_eq!(round_trip(&mut stream).unwrap_err().kind(), ErrorKind::WouldBlock);
    agent.await_line("effect", "1 hang without an answer");
    agent.terminate();
    agent.assert_undone("terminated by a signal");
    assert_whole(&net);

    let mut agent = start(&net, &["--mode", "respond", "--status", "429"]);
    let mut stream = connect(&net.peer, POD, 7100);
    stream.write_all(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Connection: close\r\n"), "{answer}");
    drop(stream);
    agent.await_line("effect", "1 requests answered with 429");
    agent.resume();
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn an_end_is_held_back_and_bytes_are_not() {
    let net = net();
    let mut agent = start(&net, &["--mode", "slow-close", "--delay-ms", "700"]);
    let mut stream = connect(&net.peer, POD, 7100);
    assert!(round_trip(&mut stream).unwrap() < Duration::from_millis(150));
    let began = Instant::now();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0u8; 1]).unwrap(), 0);
    assert!((1300..2500).contains(&began.elapsed().as_millis()), "there and back: {:?}", began.elapsed());
    agent.await_line("effect", "2 ends held back");
    agent.resume();
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn a_share_is_hit_the_others_pass_and_a_control_says_that_it_adds_nothing() {
    let net = net();
    let mut agent = start(&net, &["--mode", "reset", "--share", "50", "--seed", "11"]);
    let failed = (0..40).filter(|_| ask(&net).is_err()).count();
    assert!((8..=32).contains(&failed), "{failed} of 40");
    agent.await_line("effect", &format!("{failed} of 40 connections hit"));
    agent.resume();
    let mut agent = start(&net, &[]);
    assert!(ask(&net).unwrap() < Duration::from_millis(100));
    agent.await_line("note", "nothing is added");
    agent.resume();
    assert!(!agent.said.iter().any(|line| line.contains("\"effect\"")), "{:#?}", agent.said);
    assert_whole(&net);
}

#[test]
#[ignore = "needs root and nft"]
fn connections_that_exist_go_on_or_are_reset_when_that_is_wanted() {
    for direction in ["in", "out"] {
        let net = net();
        let again = || match direction {
            "in" => connect(&net.peer, POD, 7100),
            _ => connect(&net.pod, PEER, 7100),
        };
        let mut old = again();
        round_trip(&mut old).unwrap();
        let mut agent = start(&net, &["--delay-ms", "200", "--direction", direction]);
        assert!(
            round_trip(&mut old).unwrap() < Duration::from_millis(100),
            "{direction}: an old one is left alone"
        );
        agent.resume();
        assert!(round_trip(&mut old).unwrap() < Duration::from_millis(100), "{direction}");
        let mut agent = start(&net, &["--delay-ms", "200", "--direction", direction, "--kill-existing"]);
        assert_eq!(round_trip(&mut old).unwrap_err().kind(), ErrorKind::ConnectionReset, "{direction}");
        let mut new = again();
        for _ in 0..2 {
            let took = round_trip(&mut new).unwrap();
            assert!((400..700).contains(&took.as_millis()), "{direction}: {took:?}");
        }
        let line = agent.await_line("effect", "added latency 20");
        assert!(!line.contains("; 0 packets of existing"), "{line}");
        agent.resume();
        assert_whole(&net);
    }
}

#[test]
#[ignore = "needs root and nft"]
fn a_server_that_is_not_there_is_refused_as_without_us() {
    let net = Net::make();
    let mut agent = start(&net, &["--delay-ms", "50"]);
    assert!(ask(&net).is_err());
    agent.await_line("waiting", "1 servers not reached");
    agent.resume();
}

#[test]
#[ignore = "needs root and nft"]
fn modes_that_contradict_their_numbers_are_refused() {
    let net = Net::make();
    for wrong in [["--mode", "slow-close"].as_slice(), &["--mode", "reset", "--delay-ms", "5"]] {
        let mut agent = net.agent(&[&["proxy", "--port", "7100", "--ttl-ms", "9000"], wrong].concat());
        let (last, well) = agent.ended();
        assert!(last.contains("\"failed\"") && !well, "{last}");
        assert!(net.tables().is_empty());
    }
}
