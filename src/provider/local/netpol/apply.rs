//! Gives rulesets to nft, and remembers what it took.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::render::TABLE;

/// nft takes milliseconds for what is within our limits.
const NFT_DEADLINE: Duration = Duration::from_secs(10);
/// Of nft's complaint; it repeats the text that it refuses.
const COMPLAINT_CHARS_MAX: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to run {}", nft.display())]
    Run { nft: PathBuf, source: std::io::Error },
    #[error("failed to run {}: no answer within {} s", nft.display(), NFT_DEADLINE.as_secs())]
    Deadline { nft: PathBuf },
    #[error("failed to apply the ruleset: nft says: {0}")]
    Refused(String),
}

/// What happened to a ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Changed,
    Unchanged,
}

/// Our table in this network namespace.
#[derive(Debug)]
pub struct Table {
    nft: PathBuf,
    current: Option<String>,
}

impl Table {
    #[must_use]
    pub fn new(nft: PathBuf) -> Self {
        Self { nft, current: None }
    }

    /// Makes the table be what `text` says, unless we know that it is. On an error the table is as it was.
    pub async fn apply(&mut self, text: &str) -> Result<Applied, ApplyError> {
        if self.current.as_deref() == Some(text) {
            return Ok(Applied::Unchanged);
        }
        let output = self.nft(&["-f", "-"], text).await?;
        if !output.status.success() {
            return Err(ApplyError::Refused(complaint(&output.stderr)));
        }
        self.current = Some(text.to_owned());
        Ok(Applied::Changed)
    }

    /// Whether what we applied is still there; when somebody took the table away, the next [`Table::apply`]
    /// brings it back.
    pub async fn verify(&mut self) -> Result<bool, ApplyError> {
        if self.current.is_none() {
            return Ok(true);
        }
        let (family, table) = TABLE.split_once(' ').unwrap_or(("inet", TABLE));
        let there = self.nft(&["list", "chain", family, table, "forward"], "").await?.status.success();
        if !there {
            self.current = None;
        }
        Ok(there)
    }

    async fn nft(&self, arguments: &[&str], input: &str) -> Result<Output, ApplyError> {
        let run = async {
            let mut child = Command::new(&self.nft)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let stdin = child.stdin.take();
            // Together: nft may complain before it has read everything.
            let write = async move {
                if let Some(mut stdin) = stdin {
                    // A broken pipe means that nft gave up; its exit code says so.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let ((), output) = tokio::join!(write, child.wait_with_output());
            output
        };
        match tokio::time::timeout(NFT_DEADLINE, run).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(source)) => Err(ApplyError::Run { nft: self.nft.clone(), source }),
            Err(_) => Err(ApplyError::Deadline { nft: self.nft.clone() }),
        }
    }
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(COMPLAINT_CHARS_MAX).collect()
}
