//! Against a broker that holds its records in memory and speaks the protocol itself.

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::records::{Compression, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use tokio::io::DuplexStream;

use super::*;

fn record(offset: i64, event: Option<&str>) -> Record {
    let header = |id: &str| (StrBytes::from_static_str(EVENT_ID), Some(Bytes::from(id.to_owned())));
    let headers: IndexMap<_, _> = event.into_iter().map(header).collect();
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: 0,
        key: None,
        value: Some(Bytes::from_static(b"{}")),
        headers,
    }
}

fn batch(records: &[Record]) -> Bytes {
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, records.iter(), &options).unwrap();
    bytes.freeze()
}

/// A partition's batches, each with its first offset.
struct Log {
    first: i64,
    end: i64,
    batches: Vec<(i64, Bytes)>,
    /// What every fetch is answered with instead.
    error: i16,
}

impl Log {
    fn of(first: i64, batches: &[&[Record]]) -> Self {
        let end = batches.iter().flat_map(|records| records.iter()).map(|record| record.offset + 1).max();
        let batches = batches.iter().map(|records| (records[0].offset, batch(records)));
        Self { first, end: end.unwrap_or(first), batches: batches.collect(), error: 0 }
    }

    /// The batch in which `from` lies, and half of the one after it.
    fn fetch(&self, from: i64) -> Bytes {
        let at = self.batches.iter().rposition(|(first, _)| *first <= from).unwrap_or(0);
        let mut bytes = BytesMut::new();
        for (index, (_, batch)) in self.batches.iter().enumerate().skip(at).take(2) {
            let length = if index == at { batch.len() } else { batch.len() / 2 };
            bytes.extend_from_slice(&batch[..length]);
        }
        bytes.freeze()
    }
}

async fn serve(mut stream: DuplexStream, log: Log) {
    while let Ok(length) = stream.read_u32().await {
        let mut request = vec![0; length as usize];
        stream.read_exact(&mut request).await.unwrap();
        let mut request = Bytes::from(request);
        let key = ApiKey::try_from((&request[..]).get_i16()).unwrap();
        let version = (&request[2..]).get_i16();
        let header = RequestHeader::decode(&mut request, key.request_header_version(version)).unwrap();
        let mut answer = BytesMut::new();
        let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
        head.encode(&mut answer, key.response_header_version(version)).unwrap();
        if key == ApiKey::Fetch {
            let asked = FetchRequest::decode(&mut request, version).unwrap();
            let from = asked.topics[0].partitions[0].fetch_offset;
            let data = PartitionData::default().with_error_code(log.error).with_high_watermark(log.end);
            let data = data.with_records(Some(log.fetch(from)));
            let topic = FetchableTopicResponse::default().with_partitions(vec![data]);
            FetchResponse::default().with_responses(vec![topic]).encode(&mut answer, version).unwrap();
        } else {
            let partition = ListOffsetsPartitionResponse::default().with_offset(log.first);
            let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
            ListOffsetsResponse::default().with_topics(vec![topic]).encode(&mut answer, version).unwrap();
        }
        stream.write_u32(answer.len() as u32).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

async fn read(log: Log) -> Result<String, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(serve(far, log));
    let mut broker = Broker { stream: Box::new(near), name: "kafka-0".into(), asked: 0 };
    let mut events = Events { prefix: "r1-".into(), found: Vec::new() };
    broker.read("decisions", 0, &mut events).await?;
    Ok(events.found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn every_event_of_the_run_is_found_as_often_as_it_is_there() {
    let first = [record(3, Some("decision:r1-7")), record(4, Some("decision:r1-8"))];
    let second = [record(5, Some("decision:r10-7")), record(6, None), record(9, Some("decision:r1-7"))];
    let third = [record(10, Some("model:r1-p1"))];
    assert_eq!(read(Log::of(3, &[&first, &second, &third])).await.unwrap(), "r1-7 r1-8 r1-7 r1-p1");
    assert_eq!(read(Log::of(12, &[])).await.unwrap(), "");
    // From the middle of a batch on: what is before was taken, or is gone.
    assert_eq!(read(Log::of(4, &[&first])).await.unwrap(), "r1-8");
}

#[tokio::test]
async fn what_cannot_be_read_to_its_end_is_no_answer() {
    let one = [record(0, Some("decision:r1-7"))];
    let gap = Log { end: 5, ..Log::of(0, &[&one]) };
    assert!(read(gap).await.unwrap_err().contains("decisions-0 ends at 5, and gives nothing from 1 on"));
    let moved = Log { error: 6, ..Log::of(0, &[&one]) };
    assert!(read(moved).await.unwrap_err().contains("error 6 of kafka-0"));
    let mut damaged = Log::of(0, &[&one]);
    let mut bytes = damaged.batches[0].1.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    damaged.batches[0].1 = bytes.into();
    assert!(read(damaged).await.unwrap_err().contains("cannot be read"));
}

#[test]
fn a_partition_without_a_leader_and_a_topic_that_is_not_there_are_told() {
    let topic = |name: &str, leaders: &[i32]| {
        let partition = |(index, leader): (usize, &i32)| {
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(BrokerId(*leader))
        };
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(name)))
            .with_partitions(leaders.iter().enumerate().map(partition).collect())
    };
    let cluster = |topics| MetadataResponse::default().with_topics(topics);
    let whole = vec![topic(TOPICS[0], &[0, 1]), topic(TOPICS[1], &[1]), topic(TOPICS[2], &[2])];
    let led = led_by(&cluster(whole.clone())).unwrap();
    assert_eq!(led[&BrokerId(1)], [(TOPICS[0].to_owned(), 1), (TOPICS[1].to_owned(), 0)]);
    let mut headless = whole.clone();
    headless[1] = topic(TOPICS[1], &[-1]);
    assert_eq!(led_by(&cluster(headless)).unwrap_err(), "decisions-0 has no leader");
    assert_eq!(led_by(&cluster(whole[..2].to_vec())).unwrap_err(), "there is no topic inference-results");
    let empty = vec![topic(TOPICS[0], &[])];
    assert_eq!(led_by(&cluster(empty)).unwrap_err(), "topic model-events has no partition");
}
