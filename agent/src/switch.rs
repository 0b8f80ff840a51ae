//! The dead man's switch: reads standard input and the signals, and says when it is time to undo.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

const WORD: &[u8] = b"resume";

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Limits {
    /// Silence on standard input after which everything is undone, ms
    #[arg(long, default_value_t = 5000)]
    pub heartbeat_ms: u64,
    /// Longest life, ms
    #[arg(long)]
    pub ttl_ms: u64,
}

pub struct Switch {
    limits: Limits,
    born: Instant,
    heard: Instant,
    signals: SignalFd,
    /// The end of what was read: the word may come in two pieces.
    tail: Vec<u8>,
}

impl Switch {
    /// Before any thread is started: a thread inherits which signals are blocked, and one that did not would be ended
    /// by the signal, and the whole process with it.
    pub fn new(limits: Limits) -> Result<Self, String> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        mask.thread_block().map_err(|error| format!("failed to block signals: {error}"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|error| format!("failed to read signals: {error}"))?;
        Ok(Self { limits, born: Instant::now(), heard: Instant::now(), signals, tail: Vec::new() })
    }

    /// Waits at most `tick` for input; the reason to end, when there is one.
    pub fn wait(&mut self, tick: Duration) -> Option<&'static str> {
        let stdin = std::io::stdin();
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(tick).unwrap_or(PollTimeout::ZERO);
        let polled = poll(&mut fds, timeout);
        let spoke = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        let (input, signal) = (spoke(&fds[0]), spoke(&fds[1]));
        match polled {
            Ok(0) => {}
            Ok(_) => {
                if signal && matches!(self.signals.read_signal(), Ok(Some(_))) {
                    return Some("terminated by a signal");
                }
                if let Some(why) = input.then(|| self.read()).flatten() {
                    return Some(why);
                }
            }
            Err(_) => std::thread::sleep(tick),
        }
        if self.heard.elapsed() > Duration::from_millis(self.limits.heartbeat_ms) {
            return Some("no heartbeat");
        }
        (self.born.elapsed() > Duration::from_millis(self.limits.ttl_ms)).then_some("time limit")
    }

    /// Past the standard library's buffer: what lies in there would not wake the next poll.
    fn read(&mut self) -> Option<&'static str> {
        let mut buffer = [0u8; 4096];
        match nix::unistd::read(std::io::stdin().as_fd(), &mut buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => None,
            Ok(0) | Err(_) => Some("standard input ended"),
            Ok(length) => {
                self.heard = Instant::now();
                heard_the_word(&mut self.tail, &buffer[..length]).then_some("told to")
            }
        }
    }
}

/// Keeps of what was read as much as may be the beginning of the word.
fn heard_the_word(tail: &mut Vec<u8>, read: &[u8]) -> bool {
    tail.extend_from_slice(read);
    let found = tail.windows(WORD.len()).any(|window| window == WORD);
    let keep = tail.len().saturating_sub(WORD.len() - 1);
    tail.drain(..keep);
    found
}

#[cfg(test)]
mod tests {
    use super::heard_the_word;

    #[test]
    fn the_word_may_come_in_pieces() {
        let table: [(&[&str], bool); 5] = [
            (&["beat\n", "resume\n"], true),
            (&["beat\nres", "ume\n"], true),
            (&["r", "e", "s", "u", "m", "e"], true),
            (&["beat\n", "beat\n"], false),
            (&["res", "beat", "ume"], false),
        ];
        for (pieces, expected) in table {
            let mut tail = Vec::new();
            let found = pieces.iter().any(|piece| heard_the_word(&mut tail, piece.as_bytes()));
            assert_eq!(found, expected, "{pieces:?}");
        }
    }
}
