//! The child process: prepares, runs the load until told to stop, drains, says what it wrote.
//!
//! In the field a generator has a machine of its own. On one machine with the stack it would wait for a processor just when the
//! stack is busiest, after a failover: measured on two cores, up to 860 ms. Those moments would say nothing, and the stack would be
//! spared the users that they cost it. So it comes first where it may: by nice, and by its session where the kernel shares
//! between sessions. It takes less than a tenth of a core.

use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::setsid;
use tokio::sync::Notify;

use super::LoadError;
use super::clock::RunClock;
use super::protocol::{Line, Totals};
use super::queue::DueQueue;
use super::script::Script;
use super::shared::{Gauges, Shared};
use super::spec::ChildSpec;
use super::vars::Vars;
use super::{attack, dispatch, prepare, recorder, send};

const AUTOGROUP_NICENESS: &str = "-10";
/// Beyond the scenario's timeout, for what is in flight at the stop.
const DRAIN_EXTRA: Duration = Duration::from_secs(2);
/// For the disk, at the end.
const WRITE_MAX: Duration = Duration::from_secs(20);

/// Runs the load that the file describes. Ends when standard input says `stop` or closes (the parent is gone),
/// at the spec's hard limit, or with the first error that would make its record incomplete.
///
/// # Errors
/// When the spec is wrong, preparing fails, or operations cannot be recorded.
pub fn run_child(spec: &Path) -> Result<Totals, LoadError> {
    let spec = ChildSpec::read(spec)?;
    let script = Script::compile(&spec.scenario)?;
    come_first();
    raise_descriptor_limit();
    // Goose would install a logger that writes to standard output, which is the parent's. One that is there first stays.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN);
    let _ = log.with_ansi(false).try_init();
    // One thread serves thousands of requests a second, and leaves the other core to the stack.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LoadError::Thread)?;
    let result = runtime.block_on(run(spec, script));
    runtime.shutdown_background();
    result
}

/// A session of its own, which the terminal's signals do not reach, before the other ones of the machine.
fn come_first() {
    // Refused only when it leads a group already: then it has one of its own.
    let _ = setsid();
    // Of root, where the kernel shares between sessions.
    let _ = std::fs::write("/proc/self/autogroup", AUTOGROUP_NICENESS);
}

async fn run(spec: ChildSpec, script: Script) -> Result<Totals, LoadError> {
    let lanes = spec.lanes_resolved();
    let clock = RunClock::from_origin_ns(spec.clock_origin_ns);
    let gauges = Arc::new(Gauges::new(lanes));
    let client = send::client(&spec, lanes)?;
    let (handle, thread) = recorder::start(&spec.operations_path, clock, &gauges)?;
    let vars = Vars::new(spec.users_most(), script.own_count);
    let limit = Duration::from_secs(spec.limits.seconds_max);
    let shared =
        Shared { spec, script, clock, client, vars, queue: DueQueue::default(), recorder: handle, gauges };
    let shared = Arc::new(shared);
    let stop = obey_stdin(&shared.gauges)?;

    let driven = tokio::select! {
        driven = drive(&shared, lanes, &stop) => driven,
        error = shared.gauges.fatal.raised() => Err(error),
        () = tokio::time::sleep(limit) => Err(LoadError::TooLong { seconds_max: limit.as_secs() }),
    };
    shared.recorder.finish();
    let joined = tokio::task::spawn_blocking(move || thread.join());
    let written = tokio::time::timeout(WRITE_MAX, joined).await;
    let lanes_lost = driven?;
    let waited_ms = WRITE_MAX.as_millis() as u64;
    let late = LoadError::Deadline { what: "finish writing operations", waited_ms };
    match written {
        Ok(Ok(Ok(Some(totals)))) => {
            let intended = shared.gauges.intended.load(Ordering::Relaxed);
            let totals = Totals { intended, lanes_lost, ..totals };
            recorder::tell(&Line::Ended(totals))?;
            Ok(totals)
        }
        _ => Err(shared.gauges.fatal.take().unwrap_or(late)),
    }
}

/// Prepares, loads, drains; answers how many lanes were lost.
async fn drive(shared: &Arc<Shared>, lanes: usize, stop: &Notify) -> Result<u64, LoadError> {
    let prepared = tokio::select! {
        prepared = prepare::prepare(shared) => prepared?,
        () = stop.notified() => return Ok(0),
    };
    recorder::tell(&Line::Prepared(prepared))?;
    let mut attack = attack::start(shared, lanes).await?;
    tokio::spawn(dispatch::dispatch(Arc::clone(shared)));
    tokio::select! {
        reason = attack.ended() => return Err(LoadError::Goose { lanes, reason }),
        () = stop.notified() => {}
    }
    drain(shared).await;
    attack.stop().await;
    Ok(shared.gauges.lanes_live.load(Ordering::Relaxed) as u64)
}

/// No new intentions; everybody who is waiting or being served is settled, or times out.
async fn drain(shared: &Shared) {
    shared.gauges.stopping.store(true, Ordering::Relaxed);
    let limit = Duration::from_micros(shared.script.timeout_us) + DRAIN_EXTRA;
    let started = Instant::now();
    while !shared.queue.is_closed() && started.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shared.queue.close();
}

/// `step` and `steady` move the load; a closed standard input means the same as `stop` (the dead man's switch).
fn obey_stdin(gauges: &Arc<Gauges>) -> Result<Arc<Notify>, LoadError> {
    let stop = Arc::new(Notify::new());
    let (told, gauges) = (Arc::clone(&stop), Arc::clone(gauges));
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref().map(str::trim) {
                Ok("stop") | Err(_) => break,
                Ok("step") => gauges.stepped.store(true, Ordering::Relaxed),
                Ok("steady") => gauges.stepped.store(false, Ordering::Relaxed),
                Ok(_) => {}
            }
        }
        told.notify_one();
    };
    std::thread::Builder::new().name("load-stdin".to_owned()).spawn(read).map_err(LoadError::Thread)?;
    Ok(stop)
}

/// Lanes are sockets: the soft limit is often 1,024. Not being allowed is told by EMFILE, later and only if it matters.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
