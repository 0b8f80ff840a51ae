//! What runs inside a target's pod, as an ephemeral container that shares the target's process namespace.
//!
//! It breaks one thing, says on standard output (one JSON object a line) what it sees, and undoes itself:
//! when it is told to, when nothing comes in on standard input for `--heartbeat-ms`, when standard input ends, when it
//! is terminated, and at `--ttl-ms` whatever comes in. So a harness that dies never leaves a broken pod.

mod cpu;
mod kill;
mod pause;
mod process;
mod say;
mod switch;
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
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Pause { options, limits } => work::run(&mut pause::Pause::new(options), limits),
        Command::Kill { options, limits } => work::run(&mut kill::Kill::new(options), limits),
        Command::Cpu { options, limits } => work::run(&mut cpu::Cpu::new(options), limits),
    }
}
