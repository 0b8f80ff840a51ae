//! One connection that came through the redirect.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::measure::{Measured, Random};
use super::options::{Mode, Options};
use super::pipe::{Bucket, Pipe};
use super::socket::reset;

const HEAD_MAX: usize = 64 << 10;
/// How long a client that was answered may take to close.
const LINGER: Duration = Duration::from_secs(2);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// What became of it after a step.
pub enum Step {
    Keep,
    Done,
    Reset,
}

/// What a connection is handled with; one set for all of them.
pub struct Context<'a> {
    pub options: &'a Options,
    pub random: &'a mut Random,
    /// Towards the server, and back.
    pub buckets: &'a mut Option<[Bucket; 2]>,
    pub measured: &'a mut Measured,
    /// Bytes that one direction may queue.
    pub queue_max: usize,
    pub now: Instant,
}

/// What poll said of the two sockets.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "two sockets, two things each")]
pub struct Ready {
    pub client_read: bool,
    pub server_read: bool,
    pub client_write: bool,
    pub server_write: bool,
}

pub struct Relay {
    client: TcpStream,
    kind: Kind,
}

enum Kind {
    Pass(Box<Pass>),
    Hang,
    Respond { head: Vec<u8>, answered: Option<Instant> },
}

#[expect(clippy::struct_excessive_bools, reason = "independent of each other")]
struct Pass {
    server: TcpStream,
    connecting: bool,
    born: Instant,
    hit: bool,
    up: Pipe,
    down: Pipe,
    /// The socket took no more at the last attempt: poll says when it does.
    client_full: bool,
    server_full: bool,
}

impl Relay {
    pub fn pass(client: TcpStream, server: TcpStream, hit: bool, now: Instant) -> Self {
        let pass = Pass {
            server,
            connecting: true,
            born: now,
            hit,
            up: Pipe::default(),
            down: Pipe::default(),
            client_full: false,
            server_full: false,
        };
        Self { client, kind: Kind::Pass(Box::new(pass)) }
    }

    pub fn hang(client: TcpStream) -> Self {
        Self { client, kind: Kind::Hang }
    }

    pub fn respond(client: TcpStream) -> Self {
        Self { client, kind: Kind::Respond { head: Vec::new(), answered: None } }
    }

    /// Both sockets, and what is waited for on each: (reading, writing).
    pub fn interest(&self, queue_max: usize) -> [Option<(&TcpStream, bool, bool)>; 2] {
        let Kind::Pass(pass) = &self.kind else { return [Some((&self.client, true, false)), None] };
        let client_read = !pass.up.ended() && pass.up.queued() < queue_max;
        let server_read = !pass.connecting && !pass.down.ended() && pass.down.queued() < queue_max;
        let wanted = |stream, read, write| (read || write).then_some((stream, read, write));
        [
            wanted(&self.client, client_read, pass.client_full),
            wanted(&pass.server, server_read, pass.connecting || pass.server_full),
        ]
    }

    /// When it has something to do although nothing comes in.
    pub fn next(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Pass(pass) => {
                let up = pass.up.next().filter(|_| !pass.server_full && !pass.connecting);
                let down = pass.down.next().filter(|_| !pass.client_full);
                up.into_iter().chain(down).min()
            }
            Kind::Respond { answered, .. } => answered.map(|at| at + LINGER),
            Kind::Hang => None,
        }
    }

    pub fn step(&mut self, ready: Ready, context: &mut Context) -> Step {
        let client = &mut self.client;
        let result = match &mut self.kind {
            Kind::Pass(pass) => pass.step(client, ready, context),
            Kind::Hang if ready.client_read => discard(client),
            Kind::Hang => Ok(false),
            Kind::Respond { head, answered } => respond(client, head, answered, ready, context),
        };
        match result {
            Ok(false) => Step::Keep,
            Ok(true) => Step::Done,
            Err(_) => Step::Reset,
        }
    }

    /// Both ends learn at once that it is over.
    pub fn reset(self) {
        if let Kind::Pass(pass) = self.kind {
            reset(pass.server);
        }
        reset(self.client);
    }
}

impl Pass {
    /// True: both directions have ended.
    fn step(&mut self, client: &mut TcpStream, ready: Ready, context: &mut Context) -> io::Result<bool> {
        if self.connecting {
            if ready.server_write {
                if let Some(error) = self.server.take_error()? {
                    context.measured.unreached += 1;
                    return Err(error);
                }
                self.connecting = false;
            } else if context.now.duration_since(self.born) > CONNECT_DEADLINE {
                context.measured.unreached += 1;
                return Err(ErrorKind::TimedOut.into());
            }
        }
        self.client_full &= !ready.client_write;
        self.server_full &= !ready.server_write;
        if ready.client_read {
            fill(client, &mut self.up, self.hit, context)?;
        }
        if ready.server_read {
            fill(&mut self.server, &mut self.down, self.hit, context)?;
        }
        if !self.connecting && !self.server_full {
            self.server_full = drain(&mut self.up, &mut self.server, self.hit, 0, context)?;
        }
        if !self.client_full {
            self.client_full = drain(&mut self.down, client, self.hit, 1, context)?;
        }
        Ok(self.up.closed() && self.down.closed())
    }
}

/// Takes what came in.
fn fill(from: &mut TcpStream, pipe: &mut Pipe, hit: bool, context: &mut Context) -> io::Result<()> {
    let mut buffer = [0u8; 16 << 10];
    for _ in 0..16 {
        if pipe.ended() || pipe.queued() >= context.queue_max {
            return Ok(());
        }
        let delay = if hit {
            context.options.delay()
                + Duration::from_millis(context.random.below(context.options.jitter_ms + 1))
        } else {
            Duration::ZERO
        };
        let holds_ends = context.options.mode == Mode::SlowClose;
        match from.read(&mut buffer) {
            Ok(0) => pipe.end(context.now, delay),
            Ok(length) => {
                pipe.push(context.now, &buffer[..length], if holds_ends { Duration::ZERO } else { delay });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Passes on what is due. True: the socket takes no more.
fn drain(
    pipe: &mut Pipe,
    to: &mut TcpStream,
    hit: bool,
    direction: usize,
    context: &mut Context,
) -> io::Result<bool> {
    while let Some(bytes) = pipe.due(context.now) {
        let bucket = context.buckets.as_mut().filter(|_| hit).map(|buckets| &mut buckets[direction]);
        let mut may = bytes.len();
        if let Some(bucket) = bucket {
            may = may.min(bucket.available(context.now));
            if may < bytes.len() {
                context.measured.throttled += 1;
            }
            if may == 0 {
                return Ok(false);
            }
        }
        match to.write(&bytes[..may]) {
            Ok(count) => {
                if let Some(waited) = pipe.sent(context.now, count).filter(|_| hit) {
                    context.measured.waited(context.now, waited);
                }
                if hit {
                    context.measured.bytes += count as u64;
                    if let Some(buckets) = context.buckets {
                        buckets[direction].take(count);
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if pipe.close(context.now) {
        if hit && context.options.mode == Mode::SlowClose {
            context.measured.ends_held += 1;
        }
        // The other side may have closed already.
        let _ = to.shutdown(Shutdown::Write);
    }
    Ok(false)
}

/// True: the client has gone.
fn discard(client: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0u8; 16 << 10];
    for _ in 0..16 {
        match client.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// One request is answered, and the connection closed: what follows the head is read and forgotten, so that the answer
/// is not lost in a reset.
fn respond(
    client: &mut TcpStream,
    head: &mut Vec<u8>,
    answered: &mut Option<Instant>,
    ready: Ready,
    context: &mut Context,
) -> io::Result<bool> {
    if let Some(at) = answered {
        let gone = ready.client_read && discard(client)?;
        return Ok(gone || context.now >= *at + LINGER);
    }
    if !ready.client_read {
        return Ok(false);
    }
    let mut buffer = [0u8; 4096];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if head.len() >= HEAD_MAX || head.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    // A new connection takes these few bytes whole.
    client.write_all(answer(context.options.status).as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    context.measured.answered += 1;
    *answered = Some(context.now);
    Ok(false)
}

fn answer(status: u16) -> String {
    let body = "a fault is being injected\n";
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Injected\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
