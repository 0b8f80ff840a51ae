//! Opens many TCP connections to one address and holds them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::files;
use crate::say::Evidence;
use crate::work::Work;

const CONNECTORS: usize = 16;
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A peer that refuses is not asked in a tight loop.
const REST: Duration = Duration::from_millis(100);
const OWN_FILES: u64 = 64;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// HOST:PORT
    #[arg(long)]
    pub address: String,
    /// Connections to hold
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// Sent on each after connecting, hexadecimal
    #[arg(long, value_parser = hex)]
    pub send_hex: Option<Hex>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(Vec<u8>);

enum Outcome {
    Opened(TcpStream),
    Refused,
    Failed(String),
}

pub struct Connections {
    options: Options,
    open: Vec<TcpStream>,
    outcomes: Option<Receiver<Outcome>>,
    /// Connections that the connectors still have to try.
    wanted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    connectors: Vec<JoinHandle<()>>,
    opened_ever: u64,
    refused: u64,
    closed: u64,
    failed: u64,
    last_failure: String,
}

impl Connections {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            open: Vec::new(),
            outcomes: None,
            wanted: Arc::new(AtomicUsize::new(0)),
            stop: Arc::new(AtomicBool::new(false)),
            connectors: Vec::new(),
            opened_ever: 0,
            refused: 0,
            closed: 0,
            failed: 0,
            last_failure: String::new(),
        }
    }

    fn take_outcomes(&mut self) {
        let Some(outcomes) = &self.outcomes else { return };
        for outcome in outcomes.try_iter() {
            match outcome {
                Outcome::Opened(stream) => {
                    self.opened_ever += 1;
                    self.open.push(stream);
                }
                Outcome::Refused => {
                    self.refused += 1;
                    self.wanted.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Failed(why) => {
                    self.failed += 1;
                    self.last_failure = why;
                    self.wanted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let before = self.open.len();
        self.open.retain_mut(still_open);
        let lost = before - self.open.len();
        self.closed += lost as u64;
        self.wanted.fetch_add(lost, Ordering::Relaxed);
    }
}

impl Work for Connections {
    fn start(&mut self) -> Result<(), String> {
        let address = self.options.address.to_socket_addrs();
        let address =
            address.map_err(|error| format!("failed to resolve {}: {error}", self.options.address))?.next();
        let address = address.ok_or_else(|| format!("{} has no address", self.options.address))?;
        files::allow(u64::from(self.options.count) + OWN_FILES)?;
        let count = usize::try_from(self.options.count).map_err(|error| error.to_string())?;
        self.wanted.store(count, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.outcomes = Some(receiver);
        let bytes = Arc::new(self.options.send_hex.as_ref().map(|hex| hex.0.clone()).unwrap_or_default());
        for _ in 0..CONNECTORS.min(count) {
            let (sender, wanted, stop) = (sender.clone(), Arc::clone(&self.wanted), Arc::clone(&self.stop));
            let bytes = Arc::clone(&bytes);
            let thread = std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn(move || connect(address, &bytes, &wanted, &stop, &sender));
            self.connectors.push(thread.map_err(|error| format!("failed to start a thread: {error}"))?);
        }
        std::thread::sleep(Duration::from_millis(100));
        self.take_outcomes();
        Ok(())
    }

    fn tick(&mut self) -> Result<bool, String> {
        self.take_outcomes();
        Ok(false)
    }

    fn report(&mut self) -> Evidence {
        self.take_outcomes();
        let why = if self.failed == 0 { String::new() } else { format!(" (last: {})", self.last_failure) };
        let text = format!(
            "{} of {} connections are open; {} were opened, {} refused, {} closed by the peer, {} failed{why}",
            self.open.len(),
            self.options.count,
            self.opened_ever,
            self.refused,
            self.closed,
            self.failed
        );
        if self.open.is_empty() { Evidence::waiting(text) } else { Evidence::effect(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.connectors.drain(..) {
            thread.join().map_err(|_| "a connector panicked".to_owned())?;
        }
        self.outcomes = None;
        let count = self.open.len();
        self.open.clear();
        Ok(format!("{count} connections closed"))
    }
}

fn connect(
    address: SocketAddr,
    bytes: &[u8],
    wanted: &AtomicUsize,
    stop: &AtomicBool,
    sender: &Sender<Outcome>,
) {
    while !stop.load(Ordering::Relaxed) {
        let mine = wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |wanted| wanted.checked_sub(1));
        if mine.is_err() {
            std::thread::sleep(REST);
            continue;
        }
        let outcome = match attempt(address, bytes) {
            Ok(stream) => Outcome::Opened(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let rest = !matches!(outcome, Outcome::Opened(_));
        if sender.send(outcome).is_err() {
            return;
        }
        if rest {
            std::thread::sleep(REST);
        }
    }
}

fn attempt(address: SocketAddr, bytes: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_DEADLINE)?;
    stream.set_write_timeout(Some(CONNECT_DEADLINE))?;
    stream.write_all(bytes)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// What the peer sends is read and forgotten: behind it may be its end.
fn still_open(stream: &mut TcpStream) -> bool {
    let mut buffer = [0u8; 4096];
    for _ in 0..16 {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
    true
}

fn hex(text: &str) -> Result<Hex, String> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err("wanted pairs of hexadecimal digits".to_owned());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| error.to_string());
    (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Hex)
}

#[cfg(test)]
mod tests {
    use super::{Hex, hex};

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(hex("0aFF"), Ok(Hex(vec![10, 255])));
        assert_eq!(hex(""), Ok(Hex(Vec::new())));
        for wrong in ["0", "0g", "äö"] {
            assert!(hex(wrong).is_err(), "{wrong}");
        }
    }
}
