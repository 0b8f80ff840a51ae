//! Calls of other services: pooled connections, a deadline, a circuit, and retries within a budget.
//!
//! Everything that is called here is safe to call twice: reads, pure computations, and writes that carry an operation id.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::circuit::Circuit;
use crate::config::Endpoint;
use crate::deadline::Deadline;
use crate::metrics::Metrics;
use crate::span;
use crate::store::fault::with_causes;

const BODY_MAX: usize = 1 << 20;
const IDLE_MAX: Duration = Duration::from_secs(20);
const IDLE_CONNECTIONS_MAX: usize = 64;

const CIRCUIT_FAILURES_MAX: u32 = 5;
const CIRCUIT_OPEN_FOR: Duration = Duration::from_secs(1);

/// Attempts of one call, at most.
const ATTEMPTS_MAX: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(40);
/// A retry is worth making with so much time left.
const RETRY_LEFT_MIN: Duration = Duration::from_millis(100);

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CallFault {
    /// Never sent: the circuit is open, or no connection was to be had.
    #[error("{dependency} was not asked: {reason}")]
    NotSent { dependency: &'static str, reason: String },
    /// Sent, and no whole answer in time; or the answer was 5xx.
    #[error("{dependency} did not answer: {reason}")]
    NoAnswer { dependency: &'static str, reason: String },
}

impl CallFault {
    #[must_use]
    pub fn dependency(&self) -> &'static str {
        match self {
            Self::NotSent { dependency, .. } | Self::NoAnswer { dependency, .. } => dependency,
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Connections, without any policy.
pub struct Wire(Client<HttpConnector, Full<Bytes>>);

#[derive(Debug, Error)]
pub enum WireError {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("{0}")]
    Broken(String),
}

impl Wire {
    #[must_use]
    pub fn new(connect_max: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(connect_max));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self(client)
    }

    /// One exchange, read to its end.
    ///
    /// # Errors
    /// When there is no whole answer within `limit`.
    pub async fn send(
        &self,
        to: &Endpoint,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Reply, WireError> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{}{path}", to.authority, to.path));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| WireError::Connect(error.to_string()))?;
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| {
                let text = with_causes(&error);
                if error.is_connect() { WireError::Connect(text) } else { WireError::Broken(text) }
            })?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(|error| WireError::Broken(error.to_string()))?;
            Ok(Reply { status, body: body.to_bytes() })
        };
        match timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(WireError::Broken(format!("nothing within {} ms", limit.as_millis()))),
        }
    }
}

/// Retries may be a tenth of all calls, and ten at once: a service that is down is not hit harder for being down.
#[derive(Debug)]
struct RetryBudget(AtomicI64);

impl RetryBudget {
    const TENTHS_MAX: i64 = 100;

    fn new() -> Self {
        Self(AtomicI64::new(Self::TENTHS_MAX))
    }

    fn deposit(&self) {
        let add = |tenths: i64| (tenths < Self::TENTHS_MAX).then_some(tenths + 1);
        // Full is fine.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn withdraw(&self) -> bool {
        let take = |tenths: i64| (tenths >= 10).then_some(tenths - 10);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Another service.
pub struct Peer {
    dependency: &'static str,
    endpoint: Endpoint,
    wire: Wire,
    call_max: Duration,
    circuit: Circuit,
    budget: RetryBudget,
    metrics: Arc<Metrics>,
}

impl Peer {
    #[must_use]
    pub fn new(
        dependency: &'static str,
        endpoint: Endpoint,
        call_max: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            dependency,
            endpoint,
            wire: Wire::new(call_max / 2),
            call_max,
            circuit: Circuit::new(CIRCUIT_FAILURES_MAX, CIRCUIT_OPEN_FOR),
            budget: RetryBudget::new(),
            metrics,
        }
    }

    /// Any answer below 500 is one. `authorization` is passed on.
    ///
    /// # Errors
    /// When there was none in time, after retries.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        authorization: Option<&str>,
        body: Option<&Value>,
        deadline: Deadline,
    ) -> Result<Reply, CallFault> {
        self.budget.deposit();
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let fault = match self.attempt(&method, path, authorization, body.clone(), deadline).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            let again = attempt < ATTEMPTS_MAX
                && deadline.left() > RETRY_LEFT_MIN + RETRY_PAUSE
                && !self.circuit.is_open()
                && self.budget.withdraw();
            if !again {
                return Err(fault);
            }
            self.metrics.links.call_retries.with_label_values(&[self.dependency]).inc();
            sleep(RETRY_PAUSE * attempt).await;
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        authorization: Option<&str>,
        body: Option<Bytes>,
        deadline: Deadline,
    ) -> Result<Reply, CallFault> {
        let dependency = self.dependency;
        if !self.circuit.permit(Instant::now()) {
            self.count("circuit_open");
            return Err(CallFault::NotSent { dependency, reason: "circuit is open".into() });
        }
        let name = format!("{} {dependency}", method.as_str().to_ascii_lowercase());
        let result = span::client(&name, dependency, async {
            let mut headers: Vec<(&str, String)> = Vec::with_capacity(7);
            headers.extend(span::current().iter().flat_map(|context| context.headers()));
            headers.extend(authorization.map(|value| ("authorization", value.to_owned())));
            if body.is_some() {
                headers.push(("content-type", "application/json".into()));
            }
            let (body, limit) = (body.unwrap_or_default(), deadline.cap(self.call_max));
            let sent = self.wire.send(&self.endpoint, method.clone(), path, &headers, body, limit).await;
            match sent {
                Ok(reply) if reply.status < 500 => Ok(reply),
                Ok(reply) => {
                    Err(CallFault::NoAnswer { dependency, reason: format!("status {}", reply.status) })
                }
                Err(WireError::Connect(reason)) => Err(CallFault::NotSent { dependency, reason }),
                Err(WireError::Broken(reason)) => Err(CallFault::NoAnswer { dependency, reason }),
            }
        })
        .await;
        match &result {
            Ok(_) => self.circuit.success(),
            Err(_) => self.circuit.failure(Instant::now()),
        }
        self.count(match &result {
            Ok(_) => "answered",
            Err(CallFault::NotSent { .. }) => "not_sent",
            Err(CallFault::NoAnswer { .. }) => "no_answer",
        });
        result
    }

    fn count(&self, result: &str) {
        self.metrics.links.calls.with_label_values(&[self.dependency, result]).inc();
    }

    /// Brings the circuit's gauge up to date.
    pub fn observe(&self) {
        let open = i64::from(self.circuit.is_open());
        self.metrics.links.circuit_open.with_label_values(&[self.dependency]).set(open);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives these answers, one a connection, then hangs up.
    async fn answering(answers: Vec<&'static str>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2048];
                let _ = stream.read(&mut request).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Endpoint { authority, path: String::new() }
    }

    fn peer(endpoint: Endpoint) -> Peer {
        Peer::new("model", endpoint, Duration::from_millis(500), Arc::new(Metrics::new("decision").unwrap()))
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const AWAY: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}";

    async fn get(peer: &Peer) -> Result<Reply, CallFault> {
        peer.call(Method::GET, "/x", None, None, Deadline::after(Duration::from_secs(5))).await
    }

    #[tokio::test]
    async fn a_refusal_and_a_cut_answer_are_tried_again() {
        let peer = peer(answering(vec![AWAY, CUT, OK]).await);
        let reply = get(&peer).await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, serde_json::json!({})));
        let retries = peer.metrics.links.call_retries.with_label_values(&["model"]).get();
        assert_eq!(retries, 2);
    }

    #[tokio::test]
    async fn nobody_there_opens_the_circuit_and_the_circuit_answers_at_once() {
        let endpoint = answering(Vec::new()).await;
        let peer = peer(endpoint);
        for _ in 0..2 {
            assert!(matches!(get(&peer).await, Err(CallFault::NotSent { .. })));
        }
        let started = Instant::now();
        let fault = get(&peer).await.unwrap_err();
        assert!(fault.to_string().contains("circuit is open"), "{fault}");
        assert!(started.elapsed() < Duration::from_millis(50));
        peer.observe();
        assert_eq!(peer.metrics.links.circuit_open.with_label_values(&["model"]).get(), 1);
    }

    #[test]
    fn the_budget_is_a_tenth_after_the_first_ten() {
        let budget = RetryBudget::new();
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
        let granted = (0..100)
            .filter(|_| {
                budget.deposit();
                budget.withdraw()
            })
            .count();
        assert_eq!(granted, 10);
    }
}
