//! The proxy's thread: one poll over the listener and every connection.

use std::io::ErrorKind;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::measure::{Measured, Random};
use super::options::{Mode, Options};
use super::pipe::Bucket;
use super::relay::{Context, Ready, Relay, Step};
use super::socket::{connect, original, reset};

/// Two files each; beyond it, clients wait to be accepted.
const RELAYS_MAX: usize = 4096;
const IDLE: Duration = Duration::from_millis(100);
/// How often bytes that wait for the rate are looked at.
const RATE_TICK: Duration = Duration::from_millis(5);
/// For what all connections queue together, bytes.
const MEMORY: usize = 128 << 20;

pub struct Pump {
    options: Options,
    listener: TcpListener,
    relays: Vec<Relay>,
    random: Random,
    buckets: Option<[Bucket; 2]>,
    measured: Arc<Mutex<Measured>>,
    stop: Arc<AtomicBool>,
}

impl Pump {
    pub fn new(
        options: Options,
        listener: TcpListener,
        measured: Arc<Mutex<Measured>>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let now = Instant::now();
        let buckets = options.rate_kib.map(|rate| [Bucket::new(rate, now), Bucket::new(rate, now)]);
        let random = Random::new(options.seed);
        Self { options, listener, relays: Vec::new(), random, buckets, measured, stop }
    }

    /// Until it is told to stop; every connection is reset then. How many there were.
    pub fn run(mut self) -> usize {
        while !self.stop.load(Ordering::Relaxed) {
            let (accept, ready) = self.wait();
            self.step(&ready);
            if accept {
                self.accept();
            }
            lock(&self.measured).open = self.relays.len();
        }
        let count = self.relays.len();
        self.relays.drain(..).for_each(Relay::reset);
        count
    }

    /// How much one direction may queue: a fast link with a long delay has much under way.
    fn queue_max(&self) -> usize {
        if self.buckets.is_some() {
            return 256 << 10;
        }
        (MEMORY / (2 * self.relays.len().max(1))).clamp(64 << 10, 16 << 20)
    }

    fn wait(&self) -> (bool, Vec<Ready>) {
        let queue_max = self.queue_max();
        let mut fds = Vec::with_capacity(2 * self.relays.len() + 1);
        let mut owners = Vec::with_capacity(fds.capacity());
        let accepting = self.relays.len() < RELAYS_MAX;
        if accepting {
            fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
            owners.push((usize::MAX, 0));
        }
        let now = Instant::now();
        let mut timeout = IDLE;
        for (index, relay) in self.relays.iter().enumerate() {
            for (side, interest) in relay.interest(queue_max).into_iter().enumerate() {
                let Some((stream, read, write)) = interest else { continue };
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::POLLIN, read);
                flags.set(PollFlags::POLLOUT, write);
                fds.push(PollFd::new(stream.as_fd(), flags));
                owners.push((index, side));
            }
            if let Some(next) = relay.next() {
                // What is overdue waits for the rate: not in a tight loop.
                let least = if self.buckets.is_some() { RATE_TICK } else { Duration::ZERO };
                timeout = timeout.min(next.saturating_duration_since(now).max(least));
            }
        }
        // Up to the next whole millisecond: waking too early would only be waiting again.
        let timeout_ms = u16::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(100);
        let mut ready = vec![Ready::default(); self.relays.len()];
        let mut accept = false;
        if !matches!(poll(&mut fds, PollTimeout::from(timeout_ms)), Ok(count) if count > 0) {
            return (false, ready);
        }
        for (fd, (index, side)) in fds.iter().zip(owners) {
            let events = fd.revents().unwrap_or(PollFlags::empty());
            if events.is_empty() {
                continue;
            }
            let broken = events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
            let (read, write) =
                (broken || events.contains(PollFlags::POLLIN), broken || events.contains(PollFlags::POLLOUT));
            match (ready.get_mut(index), side) {
                (None, _) => accept = true,
                (Some(ready), 0) => (ready.client_read, ready.client_write) = (read, write),
                (Some(ready), _) => (ready.server_read, ready.server_write) = (read, write),
            }
        }
        (accept, ready)
    }

    fn step(&mut self, ready: &[Ready]) {
        let queue_max = self.queue_max();
        let now = Instant::now();
        let mut measured = lock(&self.measured);
        let mut context = Context {
            options: &self.options,
            random: &mut self.random,
            buckets: &mut self.buckets,
            measured: &mut measured,
            queue_max,
            now,
        };
        let mut kept = Vec::with_capacity(self.relays.len());
        for (mut relay, ready) in self.relays.drain(..).zip(ready) {
            match relay.step(*ready, &mut context) {
                Step::Keep => kept.push(relay),
                Step::Done => drop(relay),
                Step::Reset => relay.reset(),
            }
        }
        // Who came last is served first the next time: a shared rate must not be the first one's alone.
        if self.options.rate_kib.is_some() && kept.len() > 1 {
            kept.rotate_left(1);
        }
        self.relays = kept;
    }

    fn accept(&mut self) {
        for _ in 0..64 {
            if self.relays.len() >= RELAYS_MAX {
                return;
            }
            match self.listener.accept() {
                Ok((client, _)) => self.take(client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // A client that gave up, or no files left: the others are still served.
                Err(error) => {
                    lock(&self.measured).trouble = Some(format!("failed to accept: {error}"));
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    fn take(&mut self, client: TcpStream) {
        // One that came to the listener itself was never redirected: there is nowhere to take it.
        let target = original(&client).ok().filter(|target| target.port() == self.options.port);
        let (Some(target), Ok(())) = (target, client.set_nonblocking(true)) else {
            reset(client);
            return;
        };
        let _ = client.set_nodelay(true);
        let hit = self.random.below(100) < u64::from(self.options.share);
        let mut measured = lock(&self.measured);
        measured.handled += 1;
        measured.hit += u64::from(hit);
        let relay = match self.options.mode {
            Mode::Reset if hit => {
                measured.resets += 1;
                reset(client);
                return;
            }
            Mode::Hang if hit => {
                measured.hung += 1;
                Relay::hang(client)
            }
            Mode::Respond if hit => Relay::respond(client),
            _ => {
                let Ok(server) = connect_server(target) else {
                    measured.unreached += 1;
                    reset(client);
                    return;
                };
                Relay::pass(client, server, hit, Instant::now())
            }
        };
        drop(measured);
        self.relays.push(relay);
    }
}

fn connect_server(target: SocketAddrV4) -> std::io::Result<TcpStream> {
    let server = connect(target)?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Numbers stay good when somebody panicked over them.
pub fn lock(measured: &Mutex<Measured>) -> MutexGuard<'_, Measured> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}
