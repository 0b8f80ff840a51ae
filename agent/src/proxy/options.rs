//! What the proxy is asked to do.

use std::net::Ipv4Addr;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Passes on, with delay and rate
    Pass,
    /// Accepts and resets
    Reset,
    /// Accepts and never answers
    Hang,
    /// Holds the end of each connection back for the delay
    SlowClose,
    /// Answers HTTP/1.1 requests with a status
    Respond,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// Connections to the target's own port
    In,
    /// Connections of the target to a remote port
    Out,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The target's own port (`in`), or the remote one (`out`)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Added to each direction, ms
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub delay_ms: u64,
    /// Added beyond the delay, uniformly from 0 to this, ms
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub jitter_ms: u64,
    /// Limit of each direction for all connections together, KiB/s
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_kib: Option<u32>,
    #[arg(long, value_enum, default_value = "pass")]
    pub mode: Mode,
    /// Status code that `respond` answers
    #[arg(long, default_value_t = 503, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Share of the connections that is hit, percent; the others pass unhurt
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub share: u8,
    #[arg(long, value_enum, default_value = "in")]
    pub direction: Direction,
    /// Addresses of the other side, separated by commas; everybody when absent
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Ipv4Addr>,
    /// Seed of jitter and share
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Reset connections that are established already, so that clients come again through the proxy
    #[arg(long)]
    pub kill_existing: bool,
}

impl Options {
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// What cannot be seen biting is refused.
    pub fn check(&self) -> Result<(), String> {
        let shaped = self.delay_ms > 0 || self.jitter_ms > 0;
        match self.mode {
            Mode::SlowClose if self.delay_ms == 0 => Err("slow-close needs --delay-ms".to_owned()),
            Mode::SlowClose if self.rate_kib.is_some() => Err("slow-close takes no --rate-kib".to_owned()),
            Mode::Reset | Mode::Hang | Mode::Respond if shaped || self.rate_kib.is_some() => {
                Err("delay, jitter and rate belong to pass and slow-close".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Pass-through with nothing added: a control.
    pub fn harmless(&self) -> bool {
        self.mode == Mode::Pass && self.delay_ms == 0 && self.jitter_ms == 0 && self.rate_kib.is_none()
    }
}
