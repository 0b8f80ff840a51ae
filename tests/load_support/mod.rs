//! A small HTTP server that can misbehave, and short ways to run the real binary against it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mettle::load::{ChildLimits, ChildSpec, Ended, LoadChild, RunClock, read_operations};
use mettle::model::{LoadSecond, Operation, RunId, Seed, parse_yaml};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub const METTLE: &str = env!("CARGO_BIN_EXE_mettle");

/// What every connection of a server shares.
#[derive(Default)]
pub struct State {
    /// While set, nothing is answered.
    pub stalled: AtomicBool,
    /// While set, every answer is a 503.
    pub failing: AtomicBool,
    /// Before every answer, ms.
    pub delay_ms: AtomicU64,
    /// `x-operation-id` and path of every request.
    pub seen: Mutex<Vec<(String, String)>>,
    /// Requests for each path that polls.
    polled: Mutex<HashMap<String, u64>>,
    counter: AtomicU64,
    /// Connections that were taken.
    pub connections: AtomicU64,
    /// Users' lists, by the path of their reads.
    pub lists: Mutex<HashMap<String, Vec<String>>>,
    /// While set, lists are read without their last element, and nobody finds a prediction.
    pub forgets: AtomicBool,
}

pub struct Server {
    pub url: String,
    pub state: Arc<State>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }
}

/// Serves one connection until it misbehaves or the client goes.
async fn connection(stream: TcpStream, state: Arc<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (line, op, authorization, body) = request(&mut stream).await?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        state.seen.lock().expect("seen").push((op, path.clone()));
        tokio::time::sleep(Duration::from_millis(state.delay_ms.load(Ordering::Relaxed))).await;
        while state.stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let number = state.counter.fetch_add(1, Ordering::Relaxed);
        let mode = path.split('/').nth(1).unwrap_or_default();
        let (status, answer) = match mode {
            _ if state.failing.load(Ordering::Relaxed) => (503, refusal("/status/503/retryable")),
            "hang" => std::future::pending().await,
            "eof" => return None,
            "reset" => {
                stream.get_ref().set_zero_linger().ok()?;
                return None;
            }
            "cut" => {
                let part = b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"half\":";
                stream.write_all(part).await.ok()?;
                return None;
            }
            "whoami" => {
                (if authorization == "Bearer secret-7" { 200 } else { 401 }, r#"{"ok":true}"#.to_owned())
            }
            // Pending twice, then done.
            "poll" => {
                let mut polled = state.polled.lock().expect("polled");
                let times = polled.entry(path.clone()).or_default();
                *times += 1;
                (if *times > 2 { 200 } else { 202 }, r#"{"value":"v"}"#.to_owned())
            }
            "pending" => (202, "{}".to_owned()),
            "token" => (200, r#"{"token":"secret-7"}"#.to_owned()),
            "less" => (path.split('/').nth(2)?.parse().ok()?, r#"{"degraded":true}"#.to_owned()),
            "status" => (path.split('/').nth(2)?.parse().ok()?, refusal(&path)),
            "api" => api(&state, &method, &path, &body, number),
            _ => (200, r#"{"ok":true,"n":1}"#.to_owned()),
        };
        let mark = if mode == "less" { "x-less: redis\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} X\r\n{mark}content-length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(head.as_bytes()).await.ok()?;
    }
}

/// Request line, operation id, authorization, body.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, String, String, String)> {
    let (mut first, mut op, mut authorization, mut length) = (String::new(), String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if first.is_empty() {
            first = line.to_owned();
        } else if let Some(value) = line.strip_prefix("x-operation-id: ") {
            op = value.to_owned();
        } else if let Some(value) = line.strip_prefix("authorization: ") {
            value.clone_into(&mut authorization);
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, op, authorization, String::from_utf8(body).ok()?))
}

fn refusal(path: &str) -> String {
    match path.split('/').nth(3) {
        Some("retryable") => r#"{"error":"x","retryable":true}"#.to_owned(),
        Some("unsure") => r#"{"error":"x","retryable":true,"indeterminate":true}"#.to_owned(),
        _ => "plain".to_owned(),
    }
}

/// As much of the platform's API as its scenario reads.
fn api(state: &State, method: &str, path: &str, body: &str, number: u64) -> (u16, String) {
    let sent: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let forgets = state.forgets.load(Ordering::Relaxed);
    let mut lists = state.lists.lock().expect("lists");
    if let Some(list) = path.strip_suffix("/events") {
        let event = sent["op_id"].as_str().unwrap_or_default().to_owned();
        lists.entry(list.to_owned()).or_default().push(event);
    } else if path.contains("/sessions/") {
        let mut events = lists.get(path).cloned().unwrap_or_default();
        events.truncate(events.len() - usize::from(forgets && !events.is_empty()));
        return (200, serde_json::json!({ "events": events }).to_string());
    } else if forgets && method == "GET" && path.contains("/predictions/") {
        // Every other time it is somebody else who answers so.
        let what = if number.is_multiple_of(2) { "prediction" } else { "route" };
        return (404, serde_json::json!({ "error": format!("{what} not found") }).to_string());
    }
    let status = if method == "POST" { 201 } else { 200 };
    (status, serde_json::json!({ "id": number, "op_id": sent["op_id"] }).to_string())
}

/// A scenario of `steps` (YAML flow maps), each a journey of its own with equal weight.
pub fn scenario(timeout_ms: u64, think_ms: u64, steps: &[&str]) -> String {
    let head = format!(
        "scenario: t\nservice: n/s:80\ntimeoutMs: {timeout_ms}\nthink: {{meanMs: {think_ms}}}\njourneys:\n"
    );
    let journeys = steps.iter().map(|step| format!("  - {{journey: j, weight: 1, steps: [{step}]}}\n"));
    head + &journeys.collect::<String>()
}

pub struct Run {
    pub directory: tempfile::TempDir,
    pub spec: ChildSpec,
}

/// A finished run: what the child said and wrote.
pub struct Finished {
    pub ended: Ended,
    pub operations: Vec<Operation>,
    pub seconds: Vec<LoadSecond>,
}

impl Run {
    pub fn new(base_url: &str, scenario: &str, users: u32) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let spec = ChildSpec {
            step_users: None,
            scenario: parse_yaml(Path::new("test.yaml"), scenario).expect("test scenario"),
            base_url: base_url.to_owned(),
            tls: None,
            users,
            lanes: None,
            seed: Seed(42),
            run: RunId("r1".to_owned()),
            clock_origin_ns: RunClock::start().origin_ns(),
            operations_path: directory.path().join("operations.jsonl"),
            limits: ChildLimits::default(),
        };
        Self { directory, spec }
    }

    pub fn spawn(&self) -> LoadChild {
        self.spawn_program(Path::new(METTLE))
    }

    pub fn spawn_program(&self, program: &Path) -> LoadChild {
        LoadChild::spawn_program(program, &self.spec, self.directory.path()).expect("spawned")
    }

    /// Loads for `seconds`, during which `meanwhile` may do things.
    pub async fn finish(&self, mut child: LoadChild, meanwhile: impl Future<Output = ()>) -> Finished {
        let mut seconds = child.seconds().expect("first taker");
        child.prepared(Duration::from_secs(30)).await.expect("prepared");
        meanwhile.await;
        let pid = child.pid();
        let ended = child.stop(Duration::from_secs(30)).await.expect("stopped");
        assert!(!alive(pid), "the process is gone after stop");
        let mut all = Vec::new();
        while let Some(second) = seconds.recv().await {
            all.push(second);
        }
        let operations = read_operations(&self.spec.operations_path).expect("operations");
        assert_eq!(ended.totals.operations as usize, operations.len(), "the file is complete");
        assert_eq!(ended.totals.lanes_lost, 0);
        Finished { ended, operations, seconds: all }
    }

    pub async fn run(&self, seconds: f64) -> Finished {
        self.finish(self.spawn(), tokio::time::sleep(Duration::from_secs_f64(seconds))).await
    }
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
