//! The programs of this machine and the place where we remember clusters that need no root.
//!
//! Tests put programs of their own in the place of `docker`, `kind` and `k3d`: every command line of those providers
//! goes through [`Host::exec`].

use std::env;
use std::path::PathBuf;

use super::exec::Exec;

#[derive(Debug, Clone)]
pub struct Host {
    /// Directory of the programs; PATH when absent.
    programs: Option<PathBuf>,
    state: PathBuf,
}

impl Host {
    #[must_use]
    pub fn this() -> Self {
        Self { programs: None, state: state_dir() }
    }

    #[must_use]
    pub fn at(programs: PathBuf, state: PathBuf) -> Self {
        Self { programs: Some(programs), state }
    }

    #[must_use]
    pub fn exec(&self, program: &str) -> Exec {
        match &self.programs {
            Some(dir) => Exec::new(dir.join(program)),
            None => Exec::new(program),
        }
    }

    /// Directory of all clusters of one provider.
    #[must_use]
    pub fn clusters(&self, provider: &str) -> PathBuf {
        self.state.join("clusters").join(provider)
    }
}

/// `$XDG_STATE_HOME/mettle`, or where that is by default.
#[must_use]
pub fn state_dir() -> PathBuf {
    let told = env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".local/state");
    told.unwrap_or_else(home).join("mettle")
}
