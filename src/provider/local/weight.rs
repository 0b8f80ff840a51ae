//! How the machine's processors are shared between the members of a cluster.
//!
//! In the field every node has processors of its own. Here they share, so a node that boots, with a dozen servers that
//! start at once, takes them away from nodes that serve, and the loss of one node looks like the loss of all. So what
//! serves weighs more than what boots. Nobody waits for an idle processor: weights count only when all are busy.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::error::{Result, io};
use super::cgroup::hierarchies;

/// A node's boot, measured from its power: on two cores a dozen servers are up after half a minute, and the slow ones after
/// one and a half. So what the node weighs is not made whole at once: the slow ones would starve those that serve.
const BOOT: Duration = Duration::from_secs(60);
/// From then on it doubles so often.
const DOUBLES_EVERY: Duration = Duration::from_secs(20);
/// As often as it takes from `BOOTING` to `PODS`, the heaviest.
const DOUBLINGS: u32 = 3;

/// Of cgroup v1's `cpu.shares`; v2's `cpu.weight` is 100 where this is 1024.
const BOOTING: u64 = 1024;
pub const PODS: u64 = 8192;
/// Less than the pods: what the kubelet and the runtime do is rarely what a client waits for.
pub const SYSTEM: u64 = 4096;

/// One cgroup's file, and what it says after the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    pub file: PathBuf,
    pub boot: u64,
    pub serve: u64,
}

/// The files of a cgroup that was made. A machine without the controller shares as it likes.
pub fn of(cgroup: &str, serve: u64) -> Result<Vec<Weight>> {
    let found = hierarchies()?.into_iter().map(|hierarchy| {
        let dir = hierarchy.mount.join(cgroup);
        if hierarchy.v2 {
            Weight { file: dir.join("cpu.weight"), boot: v2(BOOTING), serve: v2(serve) }
        } else {
            Weight { file: dir.join("cpu.shares"), boot: BOOTING, serve }
        }
    });
    Ok(found.filter(|weight| weight.file.exists()).collect())
}

fn v2(shares: u64) -> u64 {
    shares * 100 / 1024
}

/// How often the weight of a node that boots has doubled so long after its power; absent once the boot is over.
#[must_use]
pub fn doublings(powered: Duration) -> Option<u32> {
    let Some(since) = powered.checked_sub(BOOT) else { return Some(0) };
    let doubled = u32::try_from(since.as_secs() / DOUBLES_EVERY.as_secs()).unwrap_or(DOUBLINGS) + 1;
    (doubled < DOUBLINGS).then_some(doubled)
}

impl Weight {
    pub fn boot(&self) -> Result<()> {
        self.give(Some(0))
    }

    pub fn serve(&self) -> Result<()> {
        self.give(None)
    }

    /// What it weighs after so many doublings; whole without.
    pub fn give(&self, doublings: Option<u32>) -> Result<()> {
        let grown = |doublings: u32| self.boot.saturating_mul(1 << doublings.min(DOUBLINGS)).min(self.serve);
        fs::write(&self.file, doublings.map_or(self.serve, grown).to_string())
            .map_err(io("write", &self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_boots_weighs_less_than_what_serves() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cpu.shares");
        let weight = Weight { file: file.clone(), boot: BOOTING, serve: PODS };
        weight.boot().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1024");
        weight.serve().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8192");
        assert_eq!(PODS, BOOTING << DOUBLINGS);
        let given = |seconds| {
            weight.give(doublings(Duration::from_secs(seconds))).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        assert_eq!(
            [0, 59, 60, 79, 80, 99, 100, 9_999].map(given),
            ["1024", "1024", "2048", "2048", "4096", "4096", "8192", "8192"]
        );
        let system = Weight { file: file.clone(), boot: BOOTING, serve: SYSTEM };
        system.give(Some(2)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "4096", "never more than what it is to weigh");
        assert_eq!((v2(BOOTING), v2(SYSTEM), v2(PODS)), (100, 400, 800));
    }
}
