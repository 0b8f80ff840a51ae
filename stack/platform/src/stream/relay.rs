//! Carries a topic's events from the outbox to Kafka. Every copy of the service runs one; the outbox lets one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::kafka::{KafkaFault, Outgoing, TopicLink};
use crate::deadline::Deadline;
use crate::metrics::Metrics;
use crate::span::{self, Kind, Tracer};
use crate::store::fault::DbFault;
use crate::store::outbox::{BACKLOG_MAX, Event, Topic};
use crate::store::sql::Database;
use crate::trace::TraceContext;

/// Another copy may have written events, and then have died.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

pub struct Relay {
    topic: Topic,
    brokers: Vec<String>,
    database: Arc<Database>,
    tracer: Arc<Tracer>,
    metrics: Arc<Metrics>,
    publish_max: Duration,
    wake: Notify,
}

#[derive(Debug, thiserror::Error)]
enum PassFault {
    #[error(transparent)]
    Database(#[from] DbFault),
    #[error(transparent)]
    Kafka(#[from] KafkaFault),
}

impl Relay {
    #[must_use]
    pub fn new(
        topic: Topic,
        brokers: Vec<String>,
        database: Arc<Database>,
        tracer: Arc<Tracer>,
        metrics: Arc<Metrics>,
        publish_max: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { topic, brokers, database, tracer, metrics, publish_max, wake: Notify::new() })
    }

    /// There is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Too many events wait: Kafka has been away for long.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.metrics.links.outbox_backlog.with_label_values(&[self.topic.name()]).get() >= BACKLOG_MAX
    }

    /// Until the process ends.
    pub async fn run(self: Arc<Self>) {
        let topic = self.topic.name();
        let (mut link, mut backoff) = (None, BACKOFF_MIN);
        loop {
            match self.pass(&mut link).await {
                Ok(sent) => {
                    backoff = BACKOFF_MIN;
                    self.count().await;
                    if sent == 0 {
                        // Early when this copy writes one.
                        let _ = timeout(LOOK_EVERY, self.wake.notified()).await;
                    }
                }
                Err(fault) => {
                    link = None;
                    self.metrics.links.outbox_failures.with_label_values(&[topic]).inc();
                    tracing::warn!(topic, %fault, "events were not relayed");
                    self.count().await;
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// One batch; says how many have arrived.
    async fn pass(&self, link: &mut Option<TopicLink>) -> Result<usize, PassFault> {
        let topic = self.topic.name();
        // Connected first: a transaction that waits for Kafka holds a connection of the database.
        let open = match link {
            Some(open) => open,
            None => link.insert(TopicLink::open(&self.brokers, topic, self.publish_max).await?),
        };
        let deadline = Deadline::after(self.publish_max * 2);
        let Some(batch) = self.database.take_events(self.topic, deadline).await? else { return Ok(0) };
        let context = TraceContext::resume(batch.events.iter().find_map(|e| e.traceparent.as_deref()));
        let records = batch.events.iter().map(outgoing).collect();
        let append = open.append(records, Deadline::after(self.publish_max));
        // The first event's trace gets the span: a batch may hold those of many.
        let name = format!("produce {topic}");
        let appended =
            span::enter(&self.tracer, context, span::below(Kind::Producer, &name, "kafka", append)).await;
        if let Err(fault) = appended {
            batch.give_back().await;
            return Err(fault.into());
        }
        let sent = batch.done().await?;
        let sent_u64 = u64::try_from(sent).unwrap_or(u64::MAX);
        self.metrics.links.outbox_sent.with_label_values(&[topic]).inc_by(sent_u64);
        Ok(sent)
    }

    async fn count(&self) {
        let deadline = Deadline::after(self.publish_max);
        if let Ok(waiting) = self.database.count_events(self.topic, deadline).await {
            self.metrics.links.outbox_backlog.with_label_values(&[self.topic.name()]).set(waiting);
        }
    }
}

fn outgoing(event: &Event) -> Outgoing {
    let mut headers = BTreeMap::new();
    if let Some(id) = event.payload["id"].as_str() {
        headers.insert("event-id".to_owned(), id.as_bytes().to_vec());
    }
    if let Some(traceparent) = &event.traceparent {
        headers.insert("traceparent".to_owned(), traceparent.as_bytes().to_vec());
    }
    Outgoing { key: event.key.clone(), value: event.payload.to_string().into_bytes(), headers }
}
