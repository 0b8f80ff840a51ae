//! The responder: one thread for UDP, one for TCP, and a short-lived one for each query that is passed on.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::message::{Code, Question, address, empty, question};
use super::own::Met;
use super::work::{Mode, Options};
use crate::proxy::mark;

/// Queries under way; what comes beyond it is lost, as with a resolver that has too much to do.
const UNDER_WAY_MAX: usize = 256;
const RESOLVER_DEADLINE: Duration = Duration::from_secs(5);
/// A client that says nothing any more.
const IDLE_MAX: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;
/// The most that UDP carries.
const MESSAGE_MAX: usize = 65_535;

#[derive(Debug, Default)]
pub struct Seen {
    /// Queries under the suffix that got what the mode gives.
    pub hit: u64,
    pub example: String,
    /// Others, answered by the real resolver.
    pub passed: u64,
    /// Passed on, and no answer came.
    pub unanswered: u64,
    /// Beyond what can be under way.
    pub overrun: u64,
    /// The last look-up of our own.
    pub own: Option<Met>,
}

pub struct Server {
    pub options: Options,
    pub resolver: Ipv4Addr,
    pub seen: Mutex<Seen>,
    pub stop: AtomicBool,
    /// Where our own look-ups come from: they are answered as everybody's, and counted as nobody's.
    pub own_port: AtomicU16,
    under_way: AtomicUsize,
}

impl Server {
    pub fn new(options: Options, resolver: Ipv4Addr) -> Self {
        Self {
            options,
            resolver,
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
            own_port: AtomicU16::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn met(&self, met: Met) {
        self.count(|seen| seen.own = Some(met));
    }

    fn hit(&self, question: &Question, client: Option<SocketAddr>) {
        if client.is_some_and(|client| client.port() == self.own_port.load(Ordering::Relaxed)) {
            return;
        }
        self.count(|seen| {
            seen.hit += 1;
            seen.example.clone_from(&question.name);
        });
    }

    fn is_hit(&self, question: &Question) -> bool {
        question.under(self.options.domain.as_deref())
    }

    /// Until it is told to stop.
    pub fn udp(self: &Arc<Self>, socket: &Arc<UdpSocket>) {
        let mut buffer = vec![0u8; MESSAGE_MAX];
        while !self.stop.load(Ordering::Relaxed) {
            // It gives up every 100 ms, so that the stop is seen.
            if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                self.query(&buffer[..length], client, socket);
            }
        }
    }

    fn query(self: &Arc<Self>, query: &[u8], client: SocketAddr, socket: &Arc<UdpSocket>) {
        let asked = question(query).filter(|asked| self.is_hit(asked));
        let Some(asked) = asked else { return self.pass_on(query, client, socket, None) };
        let answer = match self.options.mode {
            Mode::Nxdomain => empty(query, &asked, Code::NoSuchName),
            Mode::Refuse => empty(query, &asked, Code::Refused),
            Mode::Wrong => match self.options.address {
                Some(wrong) => address(query, &asked, wrong),
                None => return,
            },
            Mode::Drop => return self.hit(&asked, Some(client)),
            Mode::Slow => return self.pass_on(query, client, socket, Some(asked)),
        };
        if socket.send_to(&answer, client).is_ok() {
            self.hit(&asked, Some(client));
        }
    }

    /// The real resolver's answer; later, when it is a hit.
    fn pass_on(
        self: &Arc<Self>,
        query: &[u8],
        client: SocketAddr,
        socket: &Arc<UdpSocket>,
        hit: Option<Question>,
    ) {
        let (server, socket, query) = (Arc::clone(self), Arc::clone(socket), query.to_vec());
        self.spawn(move || {
            if hit.is_some() {
                std::thread::sleep(Duration::from_millis(server.options.delay_ms));
            }
            let answered = server.ask(&query).and_then(|answer| socket.send_to(&answer, client));
            match (answered, hit) {
                (Ok(_), Some(question)) => server.hit(&question, Some(client)),
                (Ok(_), None) => server.count(|seen| seen.passed += 1),
                (Err(_), _) => server.count(|seen| seen.unanswered += 1),
            }
        });
    }

    fn ask(&self, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        mark(&socket)?;
        socket.connect((self.resolver, 53))?;
        socket.set_read_timeout(Some(RESOLVER_DEADLINE))?;
        socket.send(query)?;
        let mut buffer = vec![0u8; MESSAGE_MAX];
        loop {
            let length = socket.recv(&mut buffer)?;
            // The same number: an answer to this query.
            if length >= 2 && buffer[..2] == query[..2.min(query.len())] {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    fn spawn(self: &Arc<Self>, run: impl FnOnce() + Send + 'static) {
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return self.count(|seen| seen.overrun += 1);
        }
        let server = Arc::clone(self);
        let spawned = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            run();
            server.under_way.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            self.count(|seen| seen.overrun += 1);
        }
    }

    /// Until it is told to stop. Only `drop` takes TCP: else a client would ask again over it, and be answered.
    pub fn tcp(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((client, _)) => {
                    let server = Arc::clone(self);
                    self.spawn(move || {
                        if server.conversation(client).is_err() {
                            server.count(|seen| seen.unanswered += 1);
                        }
                    });
                }
                Err(_) => std::thread::sleep(TICK),
            }
        }
    }

    /// Queries over one connection, each with its length in front.
    fn conversation(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(TICK))?;
        while let Some(query) = self.framed(&mut client, IDLE_MAX)? {
            if let Some(asked) = question(&query).filter(|asked| self.is_hit(asked)) {
                self.hit(&asked, None);
                continue;
            }
            let to = SocketAddrV4::new(self.resolver, 53);
            let mut resolver = crate::proxy::connect(to)?;
            resolver.set_nonblocking(false)?;
            resolver.set_read_timeout(Some(TICK))?;
            resolver.set_write_timeout(Some(RESOLVER_DEADLINE))?;
            resolver.write_all(&frame(&query)?)?;
            let answer =
                self.framed(&mut resolver, RESOLVER_DEADLINE)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            client.write_all(&frame(&answer)?)?;
            self.count(|seen| seen.passed += 1);
        }
        Ok(())
    }

    /// Absent at the end of the connection, when nothing came in time, and when it is time to stop.
    fn framed(&self, stream: &mut TcpStream, within: Duration) -> io::Result<Option<Vec<u8>>> {
        let end = Instant::now() + within;
        let mut length = [0u8; 2];
        if !self.fill(stream, &mut length, end)? {
            return Ok(None);
        }
        let mut message = vec![0u8; usize::from(u16::from_be_bytes(length))];
        Ok(self.fill(stream, &mut message, end)?.then_some(message))
    }

    fn fill(&self, stream: &mut TcpStream, mut buffer: &mut [u8], end: Instant) -> io::Result<bool> {
        while !buffer.is_empty() {
            if self.stop.load(Ordering::Relaxed) || Instant::now() >= end {
                return Ok(false);
            }
            match stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn frame(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok([length.to_be_bytes().as_slice(), message].concat())
}
