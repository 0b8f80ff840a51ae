//! Ids and the seed, as types of their own.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::{self, Name};

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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(Numbered);

/// Names the list of one user: `<run>-u<counter>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListName(Numbered);

/// A text that ends in a counter, in eight bytes: ten million are held at once. Any other text is taken, too, at the
/// price of an entry in [`Name`]'s table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Numbered {
    prefix: Name,
    /// [`NO_NUMBER`]: the prefix is all of it.
    number: u32,
}

const NO_NUMBER: u32 = u32::MAX;

impl Numbered {
    /// The same text always gives the same parts: the number is as long as it can be without a leading zero.
    fn new(text: &str) -> Self {
        let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (head, tail) = text.split_at(text.len() - digits);
        let zeros = tail.len() - tail.trim_start_matches('0').len();
        let kept = if zeros == tail.len() { zeros.saturating_sub(1) } else { zeros };
        match tail[kept..].parse() {
            Ok(number) if number != NO_NUMBER => {
                Self { prefix: Name::of(&text[..head.len() + kept]), number }
            }
            _ => Self { prefix: Name::of(text), number: NO_NUMBER },
        }
    }
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            NO_NUMBER => write!(f, "{}", self.prefix),
            number => write!(f, "{}{number}", self.prefix),
        }
    }
}

impl Serialize for Numbered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Numbered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name::text(deserializer, Self::new)
    }
}

macro_rules! of_text {
    ($type:ident) => {
        impl $type {
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(Numbered::new(text))
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self::new(&text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0.to_string(), f)
            }
        }
    };
}

of_text!(OpId);
of_text!(ListName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{OpId, Seed};

    #[test]
    fn derived_seeds_differ_by_part_and_by_seed() {
        let seed = Seed(7);
        assert_eq!(seed.derive("targets"), seed.derive("targets"));
        assert_ne!(seed.derive("targets"), seed.derive("load"));
        assert_ne!(seed.derive("targets"), Seed(8).derive("targets"));
    }

    #[test]
    fn ids_are_small_and_ordered_by_their_counter() {
        assert_eq!((size_of::<OpId>(), size_of::<Option<OpId>>()), (8, 8));
        let ids = ["r-p1", "r-2", "r-10", "r-11"].map(OpId::from);
        let mut sorted = ids;
        sorted.sort();
        assert_eq!(sorted, ["r-2", "r-10", "r-11", "r-p1"].map(OpId::from));
    }

    proptest! {
        #[test]
        fn an_id_is_the_text_that_it_was_made_of(a in "[a-c0-2-]{0,6}[0-9]{0,12}", b in "[a-c0-2-]{0,6}[0-9]{0,12}") {
            let id = OpId::new(&a);
            prop_assert_eq!(id.to_string(), a.clone());
            prop_assert_eq!(id == OpId::new(&b), a == b);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<OpId>(&json).unwrap(), id);
        }
    }
}
