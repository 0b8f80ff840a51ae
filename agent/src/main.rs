//! What runs inside a target's pod, as an ephemeral container that shares the target's process namespace.
//!
//! It breaks one thing, says on standard output (one JSON object a line) what it sees, and undoes itself:
//! when it is told to, when nothing comes in on standard input for `--heartbeat-ms`, when standard input ends, when it
//! is terminated, and at `--ttl-ms` whatever comes in. So a harness that dies never leaves a broken pod.

mod clean;
mod connections;
mod cpu;
mod cut;
mod dns;
mod files;
mod fill;
mod kill;
mod memory;
mod nft;
mod pause;
mod process;
mod proxy;
mod say;
mod switch;
mod volume;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use switch::Limits;

#[derive(Debug, Parser)]
#[command(name = "mettle-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stop (SIGSTOP) every process of one name, and continue them at the end
    Pause {
        #[command(flatten)]
        options: pause::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Kill processes, once or again and again
    Kill {
        #[command(flatten)]
        options: kill::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Keep CPUs busy
    Cpu {
        #[command(flatten)]
        options: cpu::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Take memory and keep it
    Memory {
        #[command(flatten)]
        options: memory::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Fill a volume of the target with a file
    Fill {
        #[command(flatten)]
        options: fill::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Open TCP connections and hold them
    Connections {
        #[command(flatten)]
        options: connections::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Drop or reject packets of the pod
    Drop {
        #[command(flatten)]
        options: cut::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Take TCP connections through a proxy that delays, limits, resets, hangs or answers
    Proxy {
        #[command(flatten)]
        options: proxy::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Answer the pod's DNS queries wrongly, late, or not at all
    Dns {
        #[command(flatten)]
        options: dns::Options,
        #[command(flatten)]
        limits: Limits,
    },
    /// Remove what dead agents left: tables and fill files
    Clean {
        #[command(flatten)]
        options: clean::Options,
    },
    /// The process in which `memory` takes memory
    #[command(hide = true)]
    Hog {
        #[command(flatten)]
        take: memory::Take,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Pause { options, limits } => work::run(&mut pause::Pause::new(options), limits),
        Command::Kill { options, limits } => work::run(&mut kill::Kill::new(options), limits),
        Command::Cpu { options, limits } => work::run(&mut cpu::Cpu::new(options), limits),
        Command::Memory { options, limits } => work::run(&mut memory::Memory::new(options), limits),
        Command::Fill { options, limits } => work::run(&mut fill::Fill::new(options), limits),
        Command::Connections { options, limits } => {
            work::run(&mut connections::Connections::new(options), limits)
        }
        Command::Drop { options, limits } => work::run(&mut cut::Cut::new(options), limits),
        Command::Proxy { options, limits } => work::run(&mut proxy::Proxy::new(options), limits),
        Command::Dns { options, limits } => work::run(&mut dns::Dns::new(options), limits),
        Command::Clean { options } => clean::run(&options),
        Command::Hog { take } => memory::hog(&take),
    }
}
