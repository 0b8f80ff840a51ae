//! Parses the command line, sets up logs, runs one command, and turns its answer into the exit code.

use std::process::ExitCode;

use clap::Parser;
use mettle::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    mettle::command::run(cli)
}
