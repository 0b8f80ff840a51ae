//! What the load's recording costs over bare Goose, side by side against one local server.
//!
//! `cargo build && cargo run --example load_cost [PAIRS] [SECONDS]` runs, in turn, each in a process of its own:
//! bare Goose as anybody would use it, bare Goose with its metrics off, and `mettle`'s load child with the
//! timer wheel and every operation recorded. All make about 2,000 requests/s with 64 users or lanes, and read each
//! answer's body. CPU is the process' user and system time from /proc, divided by the requests that the server counted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use goose::goose::{GooseUser, Scenario, Transaction};
use mettle::load::{ChildLimits, ChildSpec, LoadChild, RunClock};
use mettle::model::{RunId, Seed, parse_yaml};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LANES: u64 = 64;
const RATE: u64 = 2000;
const WARM: Duration = Duration::from_secs(3);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n{\"id\":\"0123456789abcdef\",\"output\":\"good\"}\n";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, url] = arguments.as_slice()
        && mode.starts_with("bare")
    {
        return bare(url, mode == "bare-no-metrics").await;
    }
    let number = |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse::<u64>());
    let (pairs, seconds) = (number(0, 5)?, number(1, 8)?);
    let (url, served) = serve().await?;
    let kinds = ["bare", "bare-no-metrics", "mettle"];
    let mut cost = vec![Vec::new(); kinds.len()];
    for pair in 0..pairs {
        for (kind, costs) in kinds.iter().zip(&mut cost) {
            let (rate, cpu_us) = measure(kind, &url, &served, Duration::from_secs(seconds)).await?;
            println!("pair {pair} {kind:16} {rate:7.0} requests/s {cpu_us:6.1} µs CPU a request");
            costs.push(cpu_us);
        }
    }
    let median = |costs: &mut Vec<f64>| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    let medians: Vec<f64> = cost.iter_mut().map(median).collect();
    for (kind, us) in kinds.iter().zip(&medians) {
        let core = |us: f64| us * RATE as f64 / 1e4;
        println!(
            "median {kind:16} {us:6.1} µs a request, {:5.2} % of a core at {RATE}/s, {:+.2} % over bare",
            core(*us),
            core(us - medians[0])
        );
    }
    Ok(())
}

/// One process for a while: requests per second, and µs of CPU a request.
async fn measure(kind: &str, url: &str, served: &AtomicU64, time: Duration) -> Result<(f64, f64)> {
    let directory = tempfile::tempdir()?;
    let mut ours = None;
    let mut theirs: Option<Child> = None;
    let pid = if kind == "mettle" {
        let child = LoadChild::spawn_program(&mettle()?, &spec(url, directory.path())?, directory.path())?;
        ours.insert(child).pid() as u32
    } else {
        let me = std::env::current_exe()?;
        let quiet = || Stdio::null();
        theirs.insert(Command::new(me).args([kind, url]).stdout(quiet()).stderr(quiet()).spawn()?).id()
    };
    tokio::time::sleep(WARM).await;
    let (started, cpu, count) = (Instant::now(), cpu_us(pid)?, served.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let (seconds, cpu, count) =
        (started.elapsed().as_secs_f64(), cpu_us(pid)? - cpu, served.load(Ordering::Relaxed) - count);
    if let Some(child) = ours {
        let ended = child.stop(Duration::from_secs(20)).await?;
        if ended.totals.failed + ended.totals.indeterminate > 0 {
            bail!("requests failed: {:?}", ended.totals);
        }
    }
    if let Some(mut child) = theirs {
        child.kill()?;
        child.wait()?;
    }
    Ok((count as f64 / seconds, cpu / count as f64))
}

/// Goose alone: each of 64 users makes a request and waits.
async fn bare(url: &str, no_metrics: bool) -> Result<()> {
    let lanes = LANES.to_string();
    let mut arguments = vec!["--host", url, "--users", &lanes, "--increase-rate", "100000"];
    arguments.extend([
        "--no-reset-metrics",
        "--no-print-metrics",
        "--no-telnet",
        "--no-websocket",
        "--quiet",
    ]);
    if no_metrics {
        arguments.push("--no-metrics");
    }
    let wait = Duration::from_millis(LANES * 1000 / RATE - 1);
    let get = Transaction::new(Arc::new(|user: &mut GooseUser| {
        Box::pin(async move {
            let answer = user.get("/x").await?;
            answer.response?.bytes().await?;
            Ok(())
        })
    }));
    let client = goose::client::GooseClientBuilder::new().without_cookies();
    // The same kind of runtime as the child has: one thread.
    let runtime = std::thread::spawn({
        let configuration = goose::config::GooseConfiguration::parse_args_default(&arguments)?;
        move || -> Result<()> {
            let attack = goose::GooseAttack::initialize_with_config(configuration)?
                .set_client_builder_without_cookies(client)?
                .register_scenario(
                    Scenario::new("bare").register_transaction(get).set_wait_time(wait, wait)?,
                );
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(attack.execute())?;
            Ok(())
        }
    });
    runtime.join().map_err(|_| anyhow::anyhow!("goose panicked"))?
}

fn spec(url: &str, directory: &Path) -> Result<ChildSpec> {
    let scenario = "scenario: cost\nservice: n/s:80\nthink: {meanMs: 1000}\njourneys: \
        [{journey: a, weight: 1, steps: [{step: get, method: GET, path: /x}]}]";
    Ok(ChildSpec {
        step_users: None,
        tls: None,
        scenario: parse_yaml(Path::new("cost.yaml"), scenario)?,
        base_url: url.to_owned(),
        users: RATE as u32,
        lanes: Some(LANES as usize),
        seed: Seed(1),
        run: RunId("cost".to_owned()),
        clock_origin_ns: RunClock::start().origin_ns(),
        operations_path: directory.join("operations.jsonl"),
        limits: ChildLimits::default(),
    })
}

/// The `mettle` beside this example's directory.
fn mettle() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me.parent().and_then(Path::parent).context("no target directory")?.join("mettle");
    if !path.exists() {
        bail!("{} is not there: run cargo build first", path.display());
    }
    Ok(path)
}

/// User and system time of a process, µs. The kernel counts in ticks of 10 ms.
fn cpu_us(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("stat")?.split(' ').collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10_000.0)
}

/// Answers every request with the same 42 bytes, and counts.
async fn serve() -> Result<(String, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&count)));
        }
    });
    Ok((url, served))
}

async fn answer(mut stream: TcpStream, served: Arc<AtomicU64>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut length) = ([0_u8; 4096], 0);
    loop {
        let read = stream.read(&mut buffer[length..]).await?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        // Requests without a body, one at a time.
        if buffer[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            served.fetch_add(1, Ordering::Relaxed);
            stream.write_all(ANSWER).await?;
        }
    }
}
