//! Texts that millions of records repeat: each is held once, for as long as the process lives.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{LazyLock, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text in four bytes. For what a run has few of: steps of a scenario, prefixes of ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(NonZeroU32);

#[derive(Default)]
struct Names {
    texts: Vec<&'static str>,
    numbers: HashMap<&'static str, Name>,
}

static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

impl Name {
    #[must_use]
    pub fn of(text: &str) -> Self {
        if let Some(known) = NAMES.read().unwrap_or_else(PoisonError::into_inner).numbers.get(text) {
            return *known;
        }
        let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if let Some(known) = names.numbers.get(text) {
            return *known;
        }
        let count = u32::try_from(names.texts.len()).unwrap_or(u32::MAX);
        let name = Self(NonZeroU32::MIN.saturating_add(count));
        let text: &'static str = Box::leak(text.into());
        names.texts.push(text);
        names.numbers.insert(text, name);
        name
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        names.texts.get(self.0.get() as usize - 1).copied().unwrap_or_default()
    }
}

impl Ord for Name {
    /// As the texts are ordered: the order in which they were met would differ from run to run.
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other { Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, Self::of)
    }
}

/// Reads a text without a copy where the input allows it.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    make: impl FnOnce(&str) -> T,
) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Text::deserialize(deserializer).map(|text| make(&text.0))
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_text_is_held_once_and_ordered_as_text() {
        let (b, a) = (Name::of("name-test-b"), Name::of("name-test-a"));
        assert_eq!(b, Name::of("name-test-b"));
        assert_ne!(a, b);
        assert!(a < b);
        assert_eq!(a, "name-test-a");
        assert_eq!(serde_json::to_string(&a).unwrap(), "\"name-test-a\"");
        assert_eq!(serde_json::from_str::<Name>("\"name-test-\\u0061\"").unwrap(), a);
    }
}
