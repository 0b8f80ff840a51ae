//! Kafka: a topic's partitions, records in with all acknowledgements, records out.
//!
//! The client library retries by itself, and keeps a connection whose request was given up. So its retries end before
//! our deadline does, and after any failure the whole link is thrown away and made anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::ClientBuilder;
use rskafka::client::error::{Error as ClientError, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::{Record, RecordAndOffset};
use thiserror::Error;
use tokio::time::timeout;

use crate::deadline::Deadline;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
const MESSAGE_MAX: usize = 8 << 20;
const FETCH_BYTES_MAX: i32 = 1 << 20;

#[derive(Debug, Error)]
pub enum KafkaFault {
    #[error("kafka did not answer within {0} ms")]
    Late(u128),
    #[error("kafka has no topic {0}")]
    NoTopic(&'static str),
    #[error("what was to be read next is not there any more")]
    OffsetGone,
    #[error("kafka: {0}")]
    Client(String),
}

impl From<ClientError> for KafkaFault {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. } => {
                Self::OffsetGone
            }
            other => Self::Client(other.to_string()),
        }
    }
}

/// What goes to Kafka.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub key: String,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, Vec<u8>>,
}

/// Connections to the leaders of one topic's partitions.
pub struct TopicLink {
    partitions: Vec<Arc<PartitionClient>>,
}

impl TopicLink {
    /// # Errors
    /// When there is no link within `limit`.
    pub async fn open(brokers: &[String], topic: &'static str, limit: Duration) -> Result<Self, KafkaFault> {
        let open = async {
            let backoff = BackoffConfig {
                init_backoff: BACKOFF_MIN,
                max_backoff: BACKOFF_MAX,
                base: 2.0,
                deadline: Some(limit.mul_f64(0.8)),
            };
            let client = ClientBuilder::new(brokers.to_vec())
                .client_id("platform")
                .max_message_size(MESSAGE_MAX)
                .backoff_config(backoff)
                .build()
                .await?;
            let found = client.list_topics().await?.into_iter().find(|found| found.name == topic);
            let found = found.ok_or(KafkaFault::NoTopic(topic))?;
            let mut partitions = Vec::with_capacity(found.partitions.len());
            // In order: a key's partition is an index into this list.
            for partition in found.partitions {
                let client = client.partition_client(topic, partition, UnknownTopicHandling::Error).await?;
                partitions.push(Arc::new(client));
            }
            match partitions.is_empty() {
                true => Err(KafkaFault::NoTopic(topic)),
                false => Ok(Self { partitions }),
            }
        };
        match timeout(limit, open).await {
            Ok(result) => result,
            Err(_) => Err(KafkaFault::Late(limit.as_millis())),
        }
    }

    #[must_use]
    pub fn partitions(&self) -> &[Arc<PartitionClient>] {
        &self.partitions
    }

    /// Appends all records, each partition's in their order; returns once all replicas in sync have them.
    ///
    /// # Errors
    /// Then some may have been appended, and others not.
    pub async fn append(&self, records: Vec<Outgoing>, deadline: Deadline) -> Result<(), KafkaFault> {
        let mut batches: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for record in records {
            let index = partition_of(record.key.as_bytes(), self.partitions.len());
            batches.entry(index).or_default().push(Record {
                key: Some(record.key.into_bytes()),
                value: Some(record.value),
                headers: record.headers,
                timestamp: chrono::Utc::now(),
            });
        }
        for (index, batch) in batches {
            let limit = deadline.left();
            let Some(partition) = self.partitions.get(index) else { continue };
            match timeout(limit, partition.produce(batch, Compression::NoCompression)).await {
                Ok(result) => drop(result?),
                Err(_) => return Err(KafkaFault::Late(limit.as_millis())),
            }
        }
        Ok(())
    }
}

/// The next records of a partition from `offset` on, and where its end is; waits up to `wait` for the first.
///
/// # Errors
/// When there is no answer in time.
pub async fn fetch(
    partition: &PartitionClient,
    offset: i64,
    wait: Duration,
    limit: Duration,
) -> Result<(Vec<RecordAndOffset>, i64), KafkaFault> {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    match timeout(limit, partition.fetch_records(offset, 1..FETCH_BYTES_MAX, wait_ms)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(KafkaFault::Late(limit.as_millis())),
    }
}

/// The first offset that a partition still has.
///
/// # Errors
/// When there is no answer in time.
pub async fn first_offset(partition: &PartitionClient, limit: Duration) -> Result<i64, KafkaFault> {
    match timeout(limit, partition.get_offset(OffsetAt::Earliest)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(KafkaFault::Late(limit.as_millis())),
    }
}

/// Where Kafka's own clients would put the key.
fn partition_of(key: &[u8], partitions: usize) -> usize {
    let positive = murmur2(key) & 0x7fff_ffff;
    usize::try_from(positive).unwrap_or(0) % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte)).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u32, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafka_s_own_clients_put_them() {
        // From the tests of Kafka's Java client.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert!((0..1_000).all(|n: u32| partition_of(&n.to_be_bytes(), 6) < 6));
    }
}
