//! Kafka's topics, read from their first record to their last: which operations' events are in them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{Record, RecordBatchDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{ClusterError, Dialer, PodAddress, Stream};
use crate::model::{OpId, RunId};

mod settings;

pub use settings::{TopicSettings, settings};

const PORT: u16 = 9092;
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// The topics of the platform's events. Each event has an id that never changes, `kind:operation`, in this header.
const TOPICS: [&str; 3] = ["model-events", "decisions", "inference-results"];
const EVENT_ID: &str = "event-id";
/// Versions that every Kafka from 2.4 on knows.
const METADATA_VERSION: i16 = 8;
const LIST_OFFSETS_VERSION: i16 = 5;
const FETCH_VERSION: i16 = 11;
const EARLIEST: i64 = -2;
const FETCH_BYTES_MAX: i32 = 4 << 20;
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Where the length of a batch of records is, and how long both that and what precedes it are.
const BATCH_LENGTH_AT: usize = 8;
const BATCH_HEAD: usize = 12;

/// Every operation of `run` whose event is in a topic, as often as it is there.
///
/// # Errors
/// When a partition has no leader, or cannot be read to its end: a ledger with a gap is none.
pub async fn found(
    dialer: &Dialer,
    pods: &[PodAddress],
    run: &RunId,
    deadline: Duration,
) -> Result<Vec<OpId>, ClusterError> {
    let what = "read the topics of kafka";
    match tokio::time::timeout(deadline, read_all(dialer, pods, run)).await {
        Ok(read) => read.map_err(|why| ClusterError::state(what, why)),
        Err(_) => Err(ClusterError::Deadline { what: what.to_owned(), seconds: deadline.as_secs() }),
    }
}

async fn read_all(dialer: &Dialer, pods: &[PodAddress], run: &RunId) -> Result<Vec<OpId>, String> {
    let topic = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let (cluster, _) = describe(dialer, pods, Some(TOPICS.map(topic).into())).await?;
    let mut events = Events { prefix: format!("{run}-"), found: Vec::new() };
    for (leader, partitions) in led_by(&cluster)? {
        let host = cluster.brokers.iter().find(|broker| broker.node_id == leader);
        let host = host.ok_or_else(|| format!("nobody knows broker {}", leader.0))?.host.as_str();
        // A broker is told apart by its own name, of which the first part is its pod's.
        let name = host.split('.').next().unwrap_or(host);
        let pod = pods.iter().find(|pod| pod.name == name);
        let pod = pod.ok_or_else(|| format!("broker {} at {host} is no pod", leader.0))?;
        let mut broker = Broker::open(dialer, pod).await?;
        for (topic, partition) in partitions {
            broker.read(&topic, partition, &mut events).await?;
        }
    }
    Ok(events.found)
}

/// The first broker that answers speaks for all. Without topics, of all there are.
async fn describe(
    dialer: &Dialer,
    pods: &[PodAddress],
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Result<(MetadataResponse, Broker), String> {
    let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
    let mut why = "there is no broker".to_owned();
    for pod in pods {
        let answer = async {
            let mut broker = Broker::open(dialer, pod).await?;
            broker.ask(ApiKey::Metadata, METADATA_VERSION, &request).await.map(|cluster| (cluster, broker))
        };
        match answer.await {
            Ok(answer) => return Ok(answer),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// The partitions of all topics by their leaders.
fn led_by(cluster: &MetadataResponse) -> Result<BTreeMap<BrokerId, Vec<(String, i32)>>, String> {
    let mut leaders: BTreeMap<BrokerId, Vec<(String, i32)>> = BTreeMap::new();
    for name in TOPICS {
        let named = |topic: &&MetadataResponseTopic| {
            topic.name.as_ref().is_some_and(|known| known.0.as_str() == name)
        };
        let topic = cluster.topics.iter().find(named).filter(|topic| topic.error_code == 0);
        let topic = topic.ok_or_else(|| format!("there is no topic {name}"))?;
        if topic.partitions.is_empty() {
            return Err(format!("topic {name} has no partition"));
        }
        for partition in &topic.partitions {
            let index = partition.partition_index;
            if partition.leader_id.0 < 0 {
                return Err(format!("{name}-{index} has no leader"));
            }
            leaders.entry(partition.leader_id).or_default().push((name.to_owned(), index));
        }
    }
    Ok(leaders)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The events of one run.
struct Events {
    /// How its operations' ids begin.
    prefix: String,
    found: Vec<OpId>,
}

impl Events {
    fn take(&mut self, record: &Record) {
        let named = record.headers.iter().find(|(name, _)| name.as_str() == EVENT_ID);
        let id = named.and_then(|(_, id)| std::str::from_utf8(id.as_deref()?).ok());
        let operation = id.and_then(|id| id.split_once(':')).map(|(_, operation)| operation);
        if let Some(operation) = operation.filter(|operation| operation.starts_with(&self.prefix)) {
            self.found.push(OpId::new(operation));
        }
    }
}

/// A connection to one broker.
struct Broker {
    stream: Box<dyn Stream>,
    name: String,
    asked: i32,
}

impl Broker {
    async fn open(dialer: &Dialer, pod: &PodAddress) -> Result<Self, String> {
        let stream = dialer.dial(pod, PORT, DIAL_DEADLINE).await.map_err(|error| error.to_string())?;
        Ok(Self { stream, name: pod.name.clone(), asked: 0 })
    }

    /// One request and its answer; nothing else is on its way meanwhile.
    async fn ask<Q: Encodable + HeaderVersion, A: Decodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Result<A, String> {
        self.asked += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.asked)
            .with_client_id(Some(StrBytes::from_static_str("mettle")));
        let mut body = BytesMut::new();
        let encoded = header.encode(&mut body, Q::header_version(version));
        encoded.and_then(|()| request.encode(&mut body, version)).map_err(|error| error.to_string())?;
        let mut answer = self.exchange(&body).await.map_err(|error| format!("{}: {error}", self.name))?;
        let odd = |error| format!("{} said something else: {error}", self.name);
        let header = ResponseHeader::decode(&mut answer, A::header_version(version)).map_err(odd)?;
        if header.correlation_id != self.asked {
            return Err(format!("{} answered another question", self.name));
        }
        A::decode(&mut answer, version).map_err(odd)
    }

    async fn exchange(&mut self, body: &[u8]) -> std::io::Result<Bytes> {
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        self.stream.write_u32(length).await?;
        self.stream.write_all(body).await?;
        self.stream.flush().await?;
        let length = self.stream.read_u32().await? as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer.into())
    }

    /// All records of a partition, to where its end was when it was first asked.
    async fn read(&mut self, topic: &str, partition: i32, events: &mut Events) -> Result<(), String> {
        let at = format!("{topic}-{partition}");
        let mut next = self.first(topic, partition).await?;
        let mut end = None;
        loop {
            let (records, watermark) = self.fetch(topic, partition, next).await?;
            let end = *end.get_or_insert(watermark);
            let before = next;
            for record in records.iter().filter(|record| record.offset >= before) {
                events.take(record);
                next = record.offset + 1;
            }
            if next >= end {
                return Ok(());
            }
            if next == before {
                return Err(format!("{at} ends at {end}, and gives nothing from {next} on"));
            }
        }
    }

    async fn first(&mut self, topic: &str, partition: i32) -> Result<i64, String> {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(EARLIEST);
        let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let answer: ListOffsetsResponse =
            self.ask(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request).await?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        match found {
            Some(found) if found.error_code == 0 => Ok(found.offset),
            Some(found) => Err(format!("{topic}-{partition}: error {} of {}", found.error_code, self.name)),
            None => Err(format!("{} says nothing of {topic}-{partition}", self.name)),
        }
    }

    /// The next records, and where the partition ends.
    async fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> Result<(Vec<Record>, i64), String> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from)
            .with_partition_max_bytes(FETCH_BYTES_MAX);
        let asked = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(500)
            .with_max_bytes(FETCH_BYTES_MAX)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        let answer: FetchResponse = self.ask(ApiKey::Fetch, FETCH_VERSION, &request).await?;
        let found = answer.responses.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| format!("{} says nothing of {topic}-{partition}", self.name))?;
        if found.error_code != 0 {
            return Err(format!("{topic}-{partition}: error {} of {}", found.error_code, self.name));
        }
        let records = batches(found.records.clone().unwrap_or_default());
        let records = records.map_err(|error| format!("{topic}-{partition} cannot be read: {error}"))?;
        Ok((records, found.high_watermark))
    }
}

/// All whole batches; the last one may be cut, and is then fetched again.
fn batches(mut bytes: Bytes) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    while bytes.len() >= BATCH_HEAD {
        let mut length = &bytes[BATCH_LENGTH_AT..BATCH_HEAD];
        let whole = usize::try_from(length.get_i32()).map_err(|_| "a batch of no length".to_owned())?;
        if bytes.len() < BATCH_HEAD + whole {
            break;
        }
        let mut batch = bytes.split_to(BATCH_HEAD + whole);
        let read = RecordBatchDecoder::decode(&mut batch).map_err(|error| error.to_string())?;
        records.extend(read.records.into_iter().filter(|record| !record.control));
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
