//! RabbitMQ: jobs for Celery workers, published with confirms.
//!
//! Guarantees: `Ok` means that the broker has it in a queue, on a majority of its copies. [`PublishFault`] says whether a
//! message that failed may be there all the same. One link, made anew with growing pauses; a message is sent once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::circuit::Circuit;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::span::{self, Kind};
use crate::store::fault::with_causes;
use crate::store::jobs::Job;

const EXCHANGE: &str = "platform.tasks";
/// Without a word for twice this long the other side is gone.
const HEARTBEAT_S: u16 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const CIRCUIT_FAILURES_MAX: u32 = 5;
const CIRCUIT_OPEN_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PublishFault {
    /// Never sent: no link, or the circuit is open.
    #[error("job was not sent: {0}")]
    NotSent(String),
    /// The broker has no queue for it.
    #[error("job was returned: {0}")]
    Returned(String),
    /// It may be in a queue.
    #[error("job was not confirmed: {0}")]
    Unknown(String),
}

impl PublishFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Returned(_) => "returned",
            Self::Unknown(_) => "unknown",
        }
    }
}

pub struct Broker {
    uri: AMQPUri,
    link: Mutex<Option<Arc<Link>>>,
    circuit: Circuit,
    publish_max: Duration,
    connect_max: Duration,
    lost: Notify,
    metrics: Arc<Metrics>,
}

struct Link {
    connection: Connection,
    channel: Channel,
}

impl Link {
    fn is_up(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

impl Broker {
    /// Connects later, in [`Self::keep`].
    ///
    /// # Errors
    /// A sentence, when the address cannot be understood. It never repeats the address: that may hold a password.
    pub fn new(url: &str, settings: &Settings, metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        let mut uri: AMQPUri = url.parse().map_err(|_| "AMQP_URL is not amqp://user@host:port/vhost")?;
        if let Some(password) = &settings.amqp_password {
            uri.authority.userinfo.password.clone_from(password);
        }
        uri.query.heartbeat = Some(HEARTBEAT_S);
        uri.query.connection_timeout =
            Some(u64::try_from(settings.connect_timeout.as_millis()).unwrap_or(u64::MAX));
        Ok(Arc::new(Self {
            uri,
            link: Mutex::new(None),
            circuit: Circuit::new(CIRCUIT_FAILURES_MAX, CIRCUIT_OPEN_FOR),
            publish_max: settings.publish_timeout,
            connect_max: settings.connect_timeout * 2,
            lost: Notify::new(),
            metrics,
        }))
    }

    /// Publishes a job and waits for the broker's confirmation.
    ///
    /// # Errors
    /// See [`PublishFault`].
    pub async fn publish(&self, job: &Job, limit: Duration) -> Result<(), PublishFault> {
        let result = if self.circuit.permit(Instant::now()) {
            let limit = limit.min(self.publish_max);
            let result = span::below(Kind::Producer, "publish job", "rabbitmq", self.send(job, limit)).await;
            match &result {
                // The broker is well; it is the routing that is not.
                Ok(()) | Err(PublishFault::Returned(_)) => self.circuit.success(),
                Err(_) => self.circuit.failure(Instant::now()),
            }
            result
        } else {
            Err(PublishFault::NotSent("circuit is open".into()))
        };
        let kind = result.as_ref().map_or_else(PublishFault::kind, |()| "confirmed");
        self.metrics.links.publishes.with_label_values(&[kind]).inc();
        result
    }

    async fn send(&self, job: &Job, limit: Duration) -> Result<(), PublishFault> {
        let link = self.lock().clone().filter(|link| link.is_up());
        let Some(link) = link else { return Err(PublishFault::NotSent("not connected".into())) };
        let traceparent = span::current().map(|context| context.to_string());
        let message = message(job, traceparent.as_deref());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = async {
            let body = message.body.as_bytes();
            let key = message.routing_key.as_str();
            let sent = link
                .channel
                .basic_publish(EXCHANGE.into(), key.into(), options, body, message.properties)
                .await
                .map_err(|error| refused(&error))?;
            match sent.await {
                Ok(Confirmation::Ack(None)) => Ok(()),
                // Mandatory, and there is no queue: the broker gives it back before it acknowledges.
                Ok(Confirmation::Ack(Some(returned))) => Err(PublishFault::Returned(format!("{returned:?}"))),
                // One of the queues may have taken it, and another not.
                Ok(Confirmation::Nack(_)) => Err(PublishFault::Unknown("the broker refused it".into())),
                Ok(Confirmation::NotRequested) => Err(PublishFault::Unknown("confirms are off".into())),
                Err(error) => Err(PublishFault::Unknown(with_causes(&error))),
            }
        };
        let result = match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(PublishFault::Unknown(format!("nothing within {} ms", limit.as_millis()))),
        };
        if matches!(result, Err(PublishFault::Unknown(_))) {
            self.leave(&link);
        }
        result
    }

    /// A link that left a message unanswered is not used again.
    fn leave(&self, left: &Arc<Link>) {
        let mut link = self.lock();
        if link.as_ref().is_some_and(|link| Arc::ptr_eq(link, left)) {
            *link = None;
            self.lost.notify_one();
        }
    }

    /// Keeps the link alive until the process ends.
    pub async fn keep(self: Arc<Self>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            if self.lock().as_ref().is_some_and(|link| link.is_up()) {
                let _ = timeout(LOOK_EVERY, self.lost.notified()).await;
                continue;
            }
            *self.lock() = None;
            match timeout(self.connect_max, self.connect()).await {
                Ok(Ok(link)) => {
                    *self.lock() = Some(Arc::new(link));
                    backoff = BACKOFF_MIN;
                    tracing::info!("connected to rabbitmq");
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %with_causes(&error), "failed to connect to rabbitmq");
                }
                Err(_) => tracing::warn!("failed to connect to rabbitmq in time"),
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(&self) -> Result<Link, lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name("platform".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Link { connection, channel })
    }

    /// Brings the circuit's gauge up to date.
    pub fn observe(&self) {
        let open = i64::from(self.circuit.is_open());
        self.metrics.links.circuit_open.with_label_values(&["rabbitmq"]).set(open);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        // One value: valid even if a holder panicked.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client refuses before it hands a frame over only when it knows that the channel is no more.
fn refused(error: &lapin::Error) -> PublishFault {
    match error.kind() {
        ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidConnectionState(_)
        | ErrorKind::InvalidChannel(_) => PublishFault::NotSent(with_causes(error)),
        _ => PublishFault::Unknown(with_causes(error)),
    }
}

struct Message {
    routing_key: String,
    properties: BasicProperties,
    body: String,
}

/// Version 2 of Celery's task message.
fn message(job: &Job, traceparent: Option<&str>) -> Message {
    let text = |value: &str| AMQPValue::LongString(LongString::from(value));
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("lang", text("py")),
        ("task", text("platform.infer")),
        ("id", text(&job.op_id)),
        ("root_id", text(&job.op_id)),
        ("parent_id", AMQPValue::Void),
        ("group", AMQPValue::Void),
        ("argsrepr", text("")),
        ("kwargsrepr", text("")),
        ("origin", text("platform")),
        ("shadow", AMQPValue::Void),
        ("eta", AMQPValue::Void),
        ("expires", AMQPValue::Void),
        ("retries", AMQPValue::LongInt(0)),
        ("timelimit", AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void, AMQPValue::Void]))),
    ] {
        headers.insert(name.into(), value);
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_correlation_id(job.op_id.as_str().into())
        .with_headers(headers);
    let options = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
    let named = traceparent.map_or(json!({}), |traceparent| json!({ "traceparent": traceparent }));
    // The input's text goes in as it is: parsing it again could print another number.
    let arguments = format!("[{},{},{}]", Value::from(job.op_id.as_str()), job.model_id, job.input);
    Message {
        routing_key: routing_key(&job.framework),
        properties,
        body: format!("[{arguments},{named},{options}]"),
    }
}

/// `inference.<framework>`: one word of the topic, so that a binding sees it as one.
fn routing_key(framework: &str) -> String {
    let word: String = framework
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    format!("inference.{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(input: &str) -> Job {
        Job {
            op_id: "run-1".into(),
            model_id: 7,
            input: input.into(),
            framework: "onnx".into(),
            traceparent: None,
            confirmed: false,
        }
    }

    #[test]
    fn the_body_is_what_celery_reads() {
        let message = message(&job(r#"{"x":1e2}"#), Some("00-aa-bb-01"));
        assert!(message.body.starts_with(r#"[["run-1",7,{"x":1e2}],"#), "{}", message.body);
        let body: Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(body[1], json!({"traceparent": "00-aa-bb-01"}));
        assert_eq!(body[2]["chord"], Value::Null);
        assert_eq!(message.routing_key, "inference.onnx");
        let headers = message.properties.headers().clone().unwrap();
        assert_eq!(headers.inner().len(), 14);
        assert_eq!(headers.inner().get("id"), Some(&AMQPValue::LongString("run-1".into())));
    }

    #[test]
    fn a_framework_is_one_word_of_the_routing_key() {
        for (framework, key) in
            [("Sci.Kit learn", "inference.sci-kit-learn"), ("#", "inference.-"), ("é", "inference.-")]
        {
            assert_eq!(routing_key(framework), key);
        }
        assert!(routing_key(&"x".repeat(200)).len() < 100);
    }
}
