//! `platform <role>`: parse, set up logs, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use platform::cli::{Cli, Command};
use platform::{config::Settings, migrate, server};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = match Settings::from_env(cli.command) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_max_level(settings.log_level)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Migrate => migrate::run(&settings).await.map_err(|e| e.to_string()),
            Command::Role(role) => server::run(role, settings).await.map_err(|e| e.to_string()),
        }
    });
    // A name lookup that hangs in the resolver's thread must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
