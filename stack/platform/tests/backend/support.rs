//! A running backend, a small HTTP client, and a proxy that cuts connections at a chosen word.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_platform");

/// A variable that an ignored test needs. Asked for and absent is a failure, never a pass.
pub fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("this test needs {name}"))
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One process of the service, killed at the end of the test.
pub struct Backend {
    child: Child,
    pub addr: SocketAddr,
}

impl Backend {
    /// Starts the backend and waits until it is alive (not: ready).
    pub fn start(env: &[(&str, &str)]) -> Self {
        Self::start_as("backend", env)
    }

    /// The same for any role.
    pub fn start_as(role: &str, env: &[(&str, &str)]) -> Self {
        let addr = free_addr();
        let child =
            platform(role, env).env("LISTEN_ADDR", addr.to_string()).spawn().expect("the binary starts");
        let backend = Self { child, addr };
        eventually("livez", || backend.try_send("GET", "/livez", &[], "").is_some_and(|a| a.status == 200));
        backend
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], &body.to_string())
    }

    /// As a user with this token.
    pub fn get_as(&self, token: &str, path: &str) -> Answer {
        self.send("GET", path, &[("authorization", &format!("Bearer {token}"))], "")
    }

    pub fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("authorization", &format!("Bearer {token}"))], &body.to_string())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    pub fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.addr, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Answer { status, headers, text: body.to_owned() })
    }

    /// The value of a series (a name with its labels) in `/metrics`; 0 when it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|s| s.success()), "kill");
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the process ends").code()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn platform(role: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg(role).env_clear().stdout(Stdio::null()).envs(env.iter().copied());
    command
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(15), "{what}: not within 15 s");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An address where nothing listens.
pub fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// Ids that no other run has used.
pub fn unique(name: &str) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    format!("{name}-{}-{}", std::process::id(), since.as_nanos())
}

/// What the proxy does once it has seen its word.
#[derive(Clone, Copy)]
pub enum Cut {
    /// Forward the word, then close both sides at once.
    After,
    /// Close without forwarding it.
    Before,
}

/// A proxy in front of PostgreSQL that cuts the first connection that sends `word`; returns its address.
pub fn cutting_proxy(upstream: SocketAddr, word: &'static [u8], cut: Cut) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let armed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let armed = std::sync::Arc::clone(&armed);
            let Ok(server) = TcpStream::connect(upstream) else { continue };
            let (mut from, mut to) = (server.try_clone().expect("clone"), client.try_clone().expect("clone"));
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || relay(client, server, word, cut, &armed));
        }
    });
    addr
}

fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    word: &[u8],
    cut: Cut,
    armed: &std::sync::atomic::AtomicBool,
) {
    let mut buffer = [0_u8; 16 * 1024];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let seen = buffer[..n].windows(word.len()).any(|window| window == word)
            && armed.swap(false, std::sync::atomic::Ordering::SeqCst);
        if seen {
            // The client must not see the answer.
            let _ = client.shutdown(Shutdown::Both);
            if matches!(cut, Cut::After) {
                let _ = server.write_all(&buffer[..n]);
                // Time for the server to execute it.
                thread::sleep(Duration::from_millis(200));
            }
            break;
        }
        if server.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
