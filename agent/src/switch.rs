//! The dead man's switch: reads standard input and says when it is time to undo.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub heartbeat: Duration,
    pub ttl: Duration,
}

pub struct Switch {
    limits: Limits,
    born: Instant,
    heard: Instant,
}

impl Switch {
    pub fn new(limits: Limits) -> Self {
        Self { limits, born: Instant::now(), heard: Instant::now() }
    }

    /// Waits at most `tick` for input; the reason to end, when there is one.
    pub fn wait(&mut self, tick: Duration) -> Option<&'static str> {
        let stdin = std::io::stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(tick).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(0) => {}
            Ok(_) => {
                let mut buffer = [0u8; 4096];
                match stdin.lock().read(&mut buffer) {
                    Ok(0) | Err(_) => return Some("standard input ended"),
                    Ok(length) if buffer[..length].windows(6).any(|w| w == b"resume") => {
                        return Some("told to");
                    }
                    Ok(_) => self.heard = Instant::now(),
                }
            }
            Err(_) => std::thread::sleep(tick),
        }
        if self.heard.elapsed() > self.limits.heartbeat {
            return Some("no heartbeat");
        }
        (self.born.elapsed() > self.limits.ttl).then_some("time limit")
    }
}
