//! One file a subcommand. The only place that uses `anyhow`, and the only one that knows exit codes.

pub mod claims;
pub mod compare;
pub mod doctor;
pub mod down;
pub mod drill;
pub mod elsewhere;
pub mod files;
pub mod internal;
pub mod judge;
pub mod list;
pub mod live;
pub mod node;
pub mod plan;
pub mod rbac;
mod record;
pub mod rehearse;
pub mod report;
pub mod revert;
pub mod run;
pub mod script;
pub mod session;
pub mod status;
pub mod translate;
mod tree;
pub mod up;
pub mod verify;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::provider::ProviderError;

/// A command that could not do its work: what happened, the code to leave with, and what to do next.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub hint: Option<String>,
    pub source: anyhow::Error,
}

impl Failure {
    pub fn new(exit: Exit, source: impl Into<anyhow::Error>) -> Self {
        Self { exit, hint: None, source: source.into() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A bug is the only error that needs no exit code of its own.
impl From<anyhow::Error> for Failure {
    fn from(source: anyhow::Error) -> Self {
        Self::new(Exit::Internal, source)
    }
}

/// What a provider failed at, with the code and the hint that belong to it.
#[must_use]
pub fn provider_failure(error: ProviderError) -> Failure {
    let (exit, hint) = match &error {
        ProviderError::BadName { .. } | ProviderError::NoSuchNode { .. } | ProviderError::BadRegistry(_) => {
            (Exit::Usage, None)
        }
        ProviderError::NotStanding { .. } => (Exit::SetUp, Some("bring it up with `mettle up`")),
        ProviderError::Locked { .. } => (Exit::SetUp, Some("wait for the other command to end, or stop it")),
        ProviderError::Unfit(_) => (Exit::SetUp, Some("`mettle doctor` lists everything that is needed")),
        ProviderError::NoSlot { .. } => {
            (Exit::SetUp, Some("take a cluster down with `mettle down --name NAME`"))
        }
        ProviderError::Program { next_step, .. } => (Exit::SetUp, Some(*next_step)),
        ProviderError::Foreign { .. } => {
            (Exit::SetUp, Some("choose another --name, or remove that cluster with its own tool"))
        }
        ProviderError::NoNodeControl(_) => {
            (Exit::Usage, Some("only --cluster local, kind and k3d have power over their nodes"))
        }
        ProviderError::NotFound { what, .. } if what == "a kubeconfig" => {
            (Exit::SetUp, Some("KUBECONFIG names the kubeconfig to use"))
        }
        _ => (Exit::SetUp, None),
    };
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The chain of causes in one line: a cause that shows a picture of its input, or that its parent has already
/// told, adds nothing.
#[must_use]
pub fn one_sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let line = text.lines().next().unwrap_or_default();
        if sentence.is_empty() {
            sentence.push_str(line);
        } else if !sentence.ends_with(line) {
            sentence.push_str(": ");
            sentence.push_str(line);
        }
    }
    sentence
}

/// Refuses, before anything is touched, what only root can do.
///
/// # Errors
/// When we are not root.
pub fn need_root(what: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let error =
        anyhow::anyhow!("{what} needs root: a local cluster is made of namespaces, mounts and cgroups");
    Err(Failure::new(Exit::SetUp, error).hint("use sudo, or another cluster with --cluster current"))
}

pub type CommandResult = Result<Exit, Failure>;

/// Runs the command and answers with its exit code. A failure is printed as one chain on
/// standard error, followed by one `hint:` line.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // The two that must stay out of a multi-threaded runtime come first.
    let result = match &cli.command {
        Command::Internal(internal) => internal::execute(internal),
        _ => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Internal, error))
            .and_then(|runtime| runtime.block_on(dispatch(&cli))),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("mettle: {}", one_sentence(&failure.source));
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            failure.exit.into()
        }
    }
}

async fn dispatch(cli: &Cli) -> CommandResult {
    let global = &cli.global;
    match &cli.command {
        Command::Up(args) => up::execute(global, args).await,
        Command::Down(args) => down::execute(global, args).await,
        Command::Status => status::execute(global).await,
        Command::Node(args) => node::execute(global, args).await,
        Command::Plan(args) => plan::execute(global, args).await,
        Command::Rehearse(args) => rehearse::execute(global, args).await,
        Command::Translate(args) => translate::execute(global, args),
        Command::Rbac(args) => rbac::execute(args),
        Command::Run(args) => run::execute(global, args).await,
        Command::Drill(args) => drill::execute(global, args).await,
        Command::Revert(args) => revert::execute(global, args).await,
        Command::Claims(args) => claims::execute(global, args),
        Command::Verify(args) => verify::execute(global, args).await,
        Command::Report(args) => report::execute(global, args).await,
        Command::Judge(args) => judge::execute(global, args),
        Command::Compare(args) => compare::execute(global, args),
        Command::List(args) => list::execute(global, args).await,
        Command::Doctor(args) => doctor::execute(global, args).await,
        Command::Internal(internal) => internal::execute(internal),
    }
}
