//! What runs inside a target's pod, as an ephemeral container that shares the target's process namespace.
//!
//! It breaks one thing, says on standard output (one JSON object a line) what it sees, and undoes itself:
//! when it is told to, when nothing comes in on standard input for `--heartbeat-ms`, when standard input ends,
//! and at `--ttl-ms` whatever comes in. So a harness that dies never leaves a broken pod.

mod pause;
mod process;
mod switch;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

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
        /// Command name, as in /proc/PID/comm
        #[arg(long)]
        process: String,
        /// Silence on standard input after which everything is undone, ms
        #[arg(long, default_value_t = 5000)]
        heartbeat_ms: u64,
        /// Longest life, ms
        #[arg(long)]
        ttl_ms: u64,
    },
}

fn main() -> ExitCode {
    let Cli { command: Command::Pause { process, heartbeat_ms, ttl_ms } } = Cli::parse();
    let limits =
        switch::Limits { heartbeat: Duration::from_millis(heartbeat_ms), ttl: Duration::from_millis(ttl_ms) };
    match pause::run(&process, limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say("failed", &error);
            ExitCode::FAILURE
        }
    }
}

/// One line of evidence. Nobody reading is no reason to stop undoing.
fn say(event: &str, text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let line = serde_json::json!({ "event": event, "text": text });
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
