//! Features of models: what `model-events` says about them, kept in memory.
//!
//! Every copy reads all partitions from their beginning; the topic is compacted, so that is as long as there are models.
//! Guarantees: bounded memory; an event that comes twice changes nothing. Caveats: a copy that has just started knows
//! less until it has caught up (`platform_consumer_lag`), and so does one whose map is full.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rskafka::client::partition::PartitionClient;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::kafka::{KafkaFault, TopicLink, fetch, first_offset};
use crate::metrics::Metrics;
use crate::store::outbox::Topic;

const MODELS_MAX: usize = 100_000;
const FETCH_WAIT: Duration = Duration::from_secs(1);
const FETCH_MAX: Duration = Duration::from_secs(6);
const OPEN_MAX: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a decision can stand on when inference is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    pub name: String,
    pub framework: String,
}

#[derive(Debug, Default)]
pub struct FeatureStore(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    models: HashMap<i64, Features>,
    order: VecDeque<i64>,
}

impl FeatureStore {
    #[must_use]
    pub fn get(&self, model_id: i64) -> Option<Features> {
        self.lock().models.get(&model_id).cloned()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().models.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes an event; what is none of ours is passed over.
    pub fn apply(&self, event: &Value) {
        self.apply_bounded(event, MODELS_MAX);
    }

    fn apply_bounded(&self, event: &Value, models_max: usize) {
        let model = &event["model"];
        let (Some(id), Some(name), Some(framework)) =
            (model["id"].as_i64(), model["name"].as_str(), model["framework"].as_str())
        else {
            return;
        };
        let mut known = self.lock();
        let features = Features { name: name.to_owned(), framework: framework.to_owned() };
        if known.models.insert(id, features).is_some() {
            return;
        }
        known.order.push_back(id);
        // The oldest goes: the latest models are asked about most.
        if known.order.len() > models_max
            && let Some(oldest) = known.order.pop_front()
        {
            known.models.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // At worst an entry lacks its place in `order`, and stays.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the process ends. Where it was is kept over a lost link.
pub async fn follow(brokers: Vec<String>, store: Arc<FeatureStore>, metrics: Arc<Metrics>) {
    let mut backoff = BACKOFF_MIN;
    let mut offsets: HashMap<i32, i64> = HashMap::new();
    loop {
        match TopicLink::open(&brokers, Topic::ModelEvents.name(), OPEN_MAX).await {
            Ok(link) => {
                if read_all(&link, &mut offsets, &store, &metrics).await {
                    backoff = BACKOFF_MIN;
                }
            }
            Err(fault) => tracing::warn!(%fault, "failed to follow model-events"),
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// All partitions side by side, until one of them fails; whether anything was read.
async fn read_all(
    link: &TopicLink,
    offsets: &mut HashMap<i32, i64>,
    store: &Arc<FeatureStore>,
    metrics: &Arc<Metrics>,
) -> bool {
    let places = Arc::new(Mutex::new(std::mem::take(offsets)));
    let before = metrics.links.consumer_records.with_label_values(&[Topic::ModelEvents.name()]).get();
    let mut readers = JoinSet::new();
    for partition in link.partitions() {
        let reader = Reader {
            partition: Arc::clone(partition),
            places: Arc::clone(&places),
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
        };
        readers.spawn(reader.read());
    }
    if let Some(Ok(fault)) = readers.join_next().await {
        tracing::warn!(%fault, "stopped following model-events");
    }
    // The others hold links to the same cluster, whose leaders may have changed, too.
    readers.shutdown().await;
    *offsets = std::mem::take(&mut *places.lock().unwrap_or_else(PoisonError::into_inner));
    metrics.links.consumer_records.with_label_values(&[Topic::ModelEvents.name()]).get() > before
}

struct Reader {
    partition: Arc<PartitionClient>,
    places: Arc<Mutex<HashMap<i32, i64>>>,
    store: Arc<FeatureStore>,
    metrics: Arc<Metrics>,
}

impl Reader {
    async fn read(self) -> KafkaFault {
        let number = self.partition.partition();
        loop {
            let known = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
            let offset = match known {
                Some(offset) => offset,
                None => match first_offset(&self.partition, FETCH_MAX).await {
                    Ok(offset) => offset,
                    Err(fault) => return fault,
                },
            };
            let next = match fetch(&self.partition, offset, FETCH_WAIT, FETCH_MAX).await {
                Ok((records, end)) => self.take(offset, &records, end),
                // The topic was made anew, or compacted past us: begin again, events may come twice.
                Err(KafkaFault::OffsetGone) => None,
                Err(fault) => return fault,
            };
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            match next {
                Some(next) => places.insert(number, next),
                None => places.remove(&number),
            };
        }
    }

    fn take(&self, offset: i64, records: &[rskafka::record::RecordAndOffset], end: i64) -> Option<i64> {
        let topic = Topic::ModelEvents.name();
        for record in records {
            // A tombstone, or not ours: nothing to learn from it.
            let value = record.record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
            if let Some(event) = value {
                self.store.apply(&event);
            }
        }
        let next = records.last().map_or(offset, |last| last.offset + 1);
        let read = u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.metrics.links.consumer_records.with_label_values(&[topic]).inc_by(read);
        let number = self.partition.partition().to_string();
        let lag = (end - next).max(0);
        self.metrics.links.consumer_lag.with_label_values(&[topic, &number]).set(lag);
        self.metrics.links.features.set(i64::try_from(self.store.len()).unwrap_or(i64::MAX));
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: i64, framework: &str) -> Value {
        json!({"event": "model-registered", "model": {"id": id, "name": "n", "framework": framework}})
    }

    #[test]
    fn an_event_is_known_once_and_the_last_word_counts() {
        let store = FeatureStore::default();
        assert!(store.is_empty());
        for framework in ["onnx", "onnx", "torch"] {
            store.apply(&event(7, framework));
        }
        store.apply(&json!({"model": {"id": "seven"}}));
        store.apply(&Value::Null);
        assert_eq!(store.len(), 1);
        assert_eq!(store.get(7).map(|f| f.framework), Some("torch".into()));
    }

    #[test]
    fn the_oldest_leave_a_full_store() {
        let store = FeatureStore::default();
        for id in 0..10 {
            store.apply_bounded(&event(id, "onnx"), 3);
            store.apply_bounded(&event(id, "onnx"), 3);
        }
        assert_eq!(store.len(), 3);
        assert!(store.get(6).is_none() && store.get(7).is_some());
    }
}
