//! A look-up of our own, made as any program in the pod makes one: what it meets is the effect, measured where it matters,
//! also while nobody else asks for anything.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::message::Code;
use super::serve::Server;
use super::work::Mode;

const EVERY: Duration = Duration::from_secs(1);
/// Beyond what `slow` adds: no answer.
const PATIENCE: Duration = Duration::from_millis(1500);
const ID: u16 = 0x6d65;

/// A name that the resolver of every cluster knows.
const KNOWN: &str = "kubernetes.default.svc.cluster.local";

/// What a look-up met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    pub name: String,
    /// The answer; absent: none came.
    answer: Option<Vec<u8>>,
    after_ms: u128,
}

impl Met {
    /// The answer's code; absent: no answer.
    fn code(&self) -> Option<u8> {
        self.answer.as_ref().and_then(|answer| answer.get(3)).map(|flags| flags & 0xf)
    }

    pub fn is_effect(&self, mode: Mode, delay_ms: u64, wrong: Option<Ipv4Addr>) -> bool {
        match mode {
            Mode::Nxdomain => self.code() == Some(Code::NoSuchName as u8),
            Mode::Refuse => self.code() == Some(Code::Refused as u8),
            Mode::Drop => self.answer.is_none(),
            Mode::Slow => self.answer.is_some() && self.after_ms >= u128::from(delay_ms),
            Mode::Wrong => match (&self.answer, wrong) {
                (Some(answer), Some(wrong)) => answer.ends_with(&wrong.octets()),
                _ => false,
            },
        }
    }

    pub fn describe(&self) -> String {
        match self.code() {
            Some(code) => format!("our own for {:?} got code {code} after {} ms", self.name, self.after_ms),
            None => format!("our own for {:?} got no answer within {} ms", self.name, self.after_ms),
        }
    }
}

/// Looks up again and again until the server stops.
pub fn run(server: &Server) {
    let name = server
        .options
        .domain
        .as_deref()
        .map_or_else(|| KNOWN.to_owned(), |domain| format!("mettle.{}", domain.trim_matches('.')));
    let mut due = Instant::now();
    while !server.stop.load(Ordering::Relaxed) {
        if Instant::now() < due {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        due = Instant::now() + EVERY;
        if let Ok(met) = ask(server, &name) {
            server.met(met);
        }
    }
}

fn ask(server: &Server, name: &str) -> io::Result<Met> {
    // Not marked: it goes the way of everybody's.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server.resolver, 53))?;
    let patience = PATIENCE + Duration::from_millis(server.options.delay_ms);
    socket.set_read_timeout(Some(patience))?;
    server.own_port.store(socket.local_addr()?.port(), Ordering::Relaxed);
    let began = Instant::now();
    socket.send(&query(name))?;
    let mut buffer = [0u8; 1500];
    let answer = match socket.recv(&mut buffer) {
        Ok(length) => Some(buffer[..length].to_vec()),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
        Err(error) => return Err(error),
    };
    Ok(Met { name: name.to_owned(), answer, after_ms: began.elapsed().as_millis() })
}

/// A question for the address of a name.
fn query(name: &str) -> Vec<u8> {
    let mut message = ID.to_be_bytes().to_vec();
    // Recursion desired, one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty() && label.len() < 64) {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::super::message::question;
    use super::*;

    #[test]
    fn a_query_is_read_as_what_it_asks() {
        let asked = question(&query("kubernetes.default.svc")).expect("a question");
        assert_eq!(asked.name, "kubernetes.default.svc");
    }

    #[test]
    fn only_what_the_mode_promises_is_an_effect() {
        let met = |answer: Option<&[u8]>, after_ms| Met {
            name: "x".to_owned(),
            answer: answer.map(<[u8]>::to_vec),
            after_ms,
        };
        let fine = [0, 0, 0x81, 0x80, 10, 0, 0, 1];
        let none = [0, 0, 0x81, 0x83];
        let address = Some(Ipv4Addr::new(10, 0, 0, 1));
        for (mode, met, expected) in [
            (Mode::Nxdomain, met(Some(&none), 1), true),
            (Mode::Nxdomain, met(Some(&fine), 1), false),
            (Mode::Nxdomain, met(None, 1), false),
            (Mode::Drop, met(None, 1500), true),
            (Mode::Drop, met(Some(&fine), 1), false),
            (Mode::Slow, met(Some(&fine), 300), true),
            (Mode::Slow, met(Some(&fine), 20), false),
            (Mode::Wrong, met(Some(&fine), 1), true),
            (Mode::Wrong, met(Some(&none), 1), false),
        ] {
            assert_eq!(met.is_effect(mode, 300, address), expected, "{mode:?} {met:?}");
        }
    }
}
