//! Ids and the seed, as types of their own.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fixes every choice that we make: targets, times, load. Always printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// A seed for one named part, so that a new choice in one part never shifts those of another.
    #[must_use]
    pub fn derive(self, part: &str) -> Self {
        // FNV-1a over the part's name, mixed with the seed: stable across versions and platforms.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.0;
        for byte in part.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names one run: in labels, annotations, file names and operation ids. Lower case letters, digits, `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Chosen by the client for each write, carried end to end, unique across runs: `<run>-<counter>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OpId(pub String);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn derived_seeds_differ_by_part_and_by_seed() {
        let seed = Seed(7);
        assert_eq!(seed.derive("targets"), seed.derive("targets"));
        assert_ne!(seed.derive("targets"), seed.derive("load"));
        assert_ne!(seed.derive("targets"), Seed(8).derive("targets"));
    }
}
