//! The stores whose writes are accounted for.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor, value::StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where acknowledged writes are kept, and can be read back: rows of the platform's tables; lists of Redis Cluster; results
/// of jobs that RabbitMQ took and a Celery worker did, one for each; events in Kafka's topics, at least one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    Postgres,
    Redis,
    Jobs,
    Kafka,
}

impl Store {
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Redis, Self::Jobs, Self::Kafka];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Jobs => "jobs",
            Self::Kafka => "kafka",
        }
    }

    /// Whether it promises that what was acknowledged first is first.
    #[must_use]
    pub fn keeps_order(self) -> bool {
        self == Self::Redis
    }
}

/// A set of stores, in one byte. In files: nothing, one name, or a list of names.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Stores(u8);

impl Stores {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn contains(self, store: Store) -> bool {
        self.0 & bit(store) != 0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Store> {
        Store::ALL.into_iter().filter(move |store| self.contains(*store))
    }
}

fn bit(store: Store) -> u8 {
    1 << (store as u8)
}

impl From<Store> for Stores {
    fn from(store: Store) -> Self {
        Self(bit(store))
    }
}

impl From<Option<Store>> for Stores {
    fn from(store: Option<Store>) -> Self {
        store.map_or(Self::NONE, Self::from)
    }
}

impl FromIterator<Store> for Stores {
    fn from_iter<I: IntoIterator<Item = Store>>(stores: I) -> Self {
        stores.into_iter().fold(Self::NONE, |all, store| all.and(store.into()))
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Stores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stores = self.iter();
        match (stores.next(), stores.next()) {
            (Some(one), None) => one.serialize(serializer),
            _ => serializer.collect_seq(self.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for Stores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Stores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a store or a list of stores: postgres, redis, jobs, kafka")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Stores, E> {
                Store::deserialize(StrDeserializer::<E>::new(name)).map(Stores::from)
            }

            fn visit_unit<E>(self) -> Result<Stores, E> {
                Ok(Stores::NONE)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Stores, A::Error> {
                let mut stores = Stores::NONE;
                while let Some(store) = names.next_element::<Store>()? {
                    stores = stores.and(store.into());
                }
                Ok(stores)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::{Store, Stores};

    #[test]
    fn one_name_or_a_list_of_names() {
        let both: Stores = [Store::Kafka, Store::Jobs].into_iter().collect();
        for (text, stores) in
            [("\"postgres\"", Store::Postgres.into()), ("[\"jobs\",\"kafka\"]", both), ("[]", Stores::NONE)]
        {
            assert_eq!(serde_json::from_str::<Stores>(text).unwrap(), stores);
            assert_eq!(serde_json::to_string(&stores).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Stores>("null").unwrap(), Stores::NONE);
        let error = serde_json::from_str::<Stores>("\"mysql\"").unwrap_err().to_string();
        assert!(error.contains("mysql") && error.contains("kafka"), "{error}");
        assert!(serde_json::from_str::<Stores>("7").unwrap_err().to_string().contains("list of stores"));
    }

    #[test]
    fn every_store_has_a_place_of_its_own() {
        let all: Stores = Store::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Store::ALL);
        for store in Store::ALL {
            assert_eq!(Stores::from(store).iter().collect::<Vec<_>>(), [store]);
        }
    }
}
