//! The exit codes, one meaning each. They are a public contract: CI scripts match on them.

use std::process::ExitCode;

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The stack held, or the command did what it was asked.
    Pass = 0,
    /// The stack did not hold.
    Fail = 1,
    /// The command line or a file that it names is wrong; nothing was changed.
    Usage = 2,
    /// The evidence does not carry a judgement: no samples, no steady baseline, no proof that a fault bit.
    Inconclusive = 3,
    /// The cluster or the stack could not be set up or reached.
    SetUp = 4,
    /// Something that the run changed could not be reverted. Wins over every other code.
    RevertIncomplete = 5,
    /// A bug in mettle.
    Internal = 6,
    /// Interrupted by a signal; everything was reverted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
