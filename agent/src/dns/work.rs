//! `dns` as a work.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::message::nameservers;
use super::own;
use super::serve::Server;
use crate::nft::{MARK, Table, render};
use crate::say::Evidence;
use crate::work::Work;

const REDIRECTED: &str = "redirected";
const CHAIN: &str = "redirect_dns";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// There is no such name
    Nxdomain,
    /// The resolver refuses
    Refuse,
    /// No answer
    Drop,
    /// The real answer, late
    Slow,
    /// Another address
    Wrong,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// Only names that are this one or lie below it; every name when absent
    #[arg(long)]
    pub domain: Option<String>,
    /// How late `slow` answers, ms
    #[arg(long, default_value_t = 0, required_if_eq("mode", "slow"))]
    #[arg(value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub delay_ms: u64,
    /// What `wrong` answers
    #[arg(long, required_if_eq("mode", "wrong"))]
    pub address: Option<Ipv4Addr>,
    /// Where the pod's resolver is read from
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
}

pub struct Dns {
    options: Options,
    table: Option<Table>,
    server: Option<Arc<Server>>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    pub fn new(options: Options) -> Self {
        Self { options, table: None, server: None, threads: Vec::new() }
    }

    fn resolver(&self) -> Result<Ipv4Addr, String> {
        let path = self.options.resolv_conf.display();
        let text = std::fs::read_to_string(&self.options.resolv_conf)
            .map_err(|error| format!("failed to read {path}: {error}"))?;
        let first = nameservers(&text).into_iter().next();
        let resolver = first.ok_or_else(|| format!("{path} names no IPv4 nameserver"))?;
        // What never leaves the pod is not redirected: nothing would ever be hit.
        if resolver.is_loopback() {
            return Err(format!("the pod's resolver {resolver} is on loopback, which is never touched"));
        }
        Ok(resolver)
    }

    fn listen(&mut self, server: &Arc<Server>) -> std::io::Result<(u16, Option<u16>)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let udp_port = socket.local_addr()?.port();
        let (socket, own) = (Arc::new(socket), Arc::clone(server));
        self.threads.push(std::thread::Builder::new().spawn(move || own.udp(&socket))?);
        if self.options.mode != Mode::Drop {
            return Ok((udp_port, None));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let tcp_port = listener.local_addr()?.port();
        let own = Arc::clone(server);
        self.threads.push(std::thread::Builder::new().spawn(move || own.tcp(&listener))?);
        Ok((udp_port, Some(tcp_port)))
    }
}

impl Work for Dns {
    fn start(&mut self) -> Result<(), String> {
        if self.options.mode == Mode::Slow && self.options.delay_ms == 0 {
            return Err("slow needs --delay-ms".to_owned());
        }
        let server = Arc::new(Server::new(self.options.clone(), self.resolver()?));
        self.server = Some(Arc::clone(&server));
        self.table = Some(Table::claim()?);
        let (udp_port, tcp_port) =
            self.listen(&server).map_err(|error| format!("failed to listen: {error}"))?;
        let Some(table) = &self.table else { return Ok(()) };
        table.load(&ruleset(&table.name, udp_port, tcp_port))?;
        let looking = std::thread::Builder::new().spawn(move || own::run(&server));
        self.threads.push(looking.map_err(|error| format!("failed to look up: {error}"))?);
        Ok(())
    }

    fn report(&mut self) -> Evidence {
        let (Some(table), Some(server)) = (&self.table, &self.server) else {
            return Evidence::failed("there is no table");
        };
        let redirected = match table.counters() {
            Ok(counters) => counters.get(REDIRECTED).copied().unwrap_or(0),
            Err(error) => return Evidence::failed(error),
        };
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Evidence::failed("the responder has ended");
        }
        let seen = server.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let how = match self.options.mode {
            Mode::Nxdomain => "answered with NXDOMAIN".to_owned(),
            Mode::Refuse => "answered with REFUSED".to_owned(),
            Mode::Drop => "not answered".to_owned(),
            Mode::Slow => format!("answered {} ms late", self.options.delay_ms),
            Mode::Wrong => format!("answered with {}", self.options.address.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        };
        let mut text = format!("{} queries {how}", seen.hit);
        if seen.hit > 0 {
            let _ = write!(text, ", the last for {:?}", seen.example);
        }
        let _ =
            write!(text, "; {} passed on to {}, {redirected} flows redirected", seen.passed, server.resolver);
        if seen.unanswered + seen.overrun > 0 {
            let _ =
                write!(text, "; {} got no answer from it, {} were too many", seen.unanswered, seen.overrun);
        }
        let (mode, delay_ms, wrong) = (self.options.mode, self.options.delay_ms, self.options.address);
        if let Some(own) = &seen.own {
            let _ = write!(text, "; {}", own.describe());
        }
        let met = seen.own.as_ref().is_some_and(|own| own.is_effect(mode, delay_ms, wrong));
        if seen.hit == 0 && !met { Evidence::waiting(text) } else { Evidence::effect(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        if let Some(table) = &self.table {
            let _ = table.bypass(CHAIN);
        }
        if let Some(server) = &self.server {
            server.stop.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let Some(table) = &self.table else { return Ok("nothing was loaded".to_owned()) };
        table.delete()?;
        let hit = self
            .server
            .as_ref()
            .map_or(0, |server| server.seen.lock().unwrap_or_else(PoisonError::into_inner).hit);
        Ok(format!("table {} is gone, {hit} queries had been hit", table.name))
    }
}

fn ruleset(name: &str, udp_port: u16, tcp_port: Option<u16>) -> String {
    let rule = |protocol: &str, port: u16| {
        format!("meta nfproto ipv4 {protocol} dport 53 counter name \"{REDIRECTED}\" redirect to :{port}")
    };
    let mut rules = vec!["oifname \"lo\" accept".to_owned(), format!("meta mark {MARK:#x} accept")];
    rules.push(rule("udp", udp_port));
    rules.extend(tcp_port.map(|port| rule("tcp", port)));
    render(name, &[REDIRECTED], &[(CHAIN, "nat hook output priority -110", rules)])
}

#[cfg(test)]
mod tests {
    use super::ruleset;

    #[test]
    fn queries_are_redirected_and_ours_are_not() {
        let text = ruleset("mettle_5", 4053, None);
        let expected = "\tchain redirect_dns {\n\t\ttype nat hook output priority -110; policy accept;\n\
            \t\toifname \"lo\" accept\n\t\tmeta mark 0x6d65 accept\n\
            \t\tmeta nfproto ipv4 udp dport 53 counter name \"redirected\" redirect to :4053\n\t}\n}\n";
        assert!(text.ends_with(expected), "{text}");
        assert!(
            ruleset("mettle_5", 4053, Some(4054))
                .contains("tcp dport 53 counter name \"redirected\" redirect to :4054")
        );
    }
}
