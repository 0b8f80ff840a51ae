//! The real load child against a server that misbehaves.

#[path = "load_support/history.rs"]
mod history;
mod load_support;
#[path = "load/marks_and_steps.rs"]
mod marks_and_steps;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ErrorClass::{
    Assertion, ClientStatus, ConnectTimeout, ConnectionRefused, ConnectionReset, NotSent, ServerStatus,
    Timeout, TooManyFiles, UnexpectedEof,
};
use OperationOutcome::{Failed, Indeterminate, Ok as Done};
use load_support::{METTLE, Run, Server, alive, scenario};
use mettle::load::{LoadError, read_operations};
use mettle::model::{ErrorClass, Operation, OperationOutcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Want = (OperationOutcome, Option<ErrorClass>);

fn got(operation: &Operation) -> Want {
    (operation.outcome, operation.error)
}

fn step(name: &str, write: bool, path: &str, more: &str) -> String {
    if write {
        format!(
            "{{step: {name}, method: POST, path: '{path}', body: '{{\"op\":\"${{op}}\"}}', writes: postgres{more}}}"
        )
    } else {
        format!("{{step: {name}, method: GET, path: '{path}'{more}}}")
    }
}

#[tokio::test]
async fn a_token_is_sent_on_and_a_poll_is_one_operation() {
    let server = Server::start().await;
    let journey = "{step: token, method: GET, path: /token, extract: {token: /token}}, \
        {step: who, method: GET, path: /whoami, headers: {authorization: 'Bearer ${token}'}}, \
        {step: poll, method: GET, path: '/poll/${random}', accept: [200], extract: {v: /value}, \
        poll: {while: [202], everyMs: 20, timesMax: 10}}, \
        {step: never, method: GET, path: /pending, accept: [200], poll: {while: [202], everyMs: 20, timesMax: 3}}";
    let run = Run::new(&server.url, &scenario(1000, 50, &[journey]), 4);
    let finished = run.run(2.0).await;
    let of = |step: &str| -> Vec<&Operation> {
        finished.operations.iter().filter(|op| op.step == format!("j.{step}")).collect()
    };
    let failed = (Failed, Some(Assertion));
    for (name, want) in
        [("token", (Done, None)), ("who", (Done, None)), ("poll", (Done, None)), ("never", failed)]
    {
        assert!(of(name).len() >= 3, "{name}: {} operations", of(name).len());
        for operation in of(name) {
            assert_eq!(got(operation), want, "{operation:?}");
        }
    }
    assert!(of("poll").iter().all(|op| op.done_us - op.sent_us >= 40_000));
    let asked = server.state.seen.lock().expect("seen").iter().filter(|(_, path)| path == "/pending").count();
    assert_eq!(asked, 3 * of("never").len());
}

#[tokio::test]
async fn every_failure_has_its_class_and_outcome() {
    let server = Server::start().await;
    let table: [(&str, &str, &str, Want, Want); 12] = [
        // name, path, more, as a write, as a read
        ("ok", "/ok", "", (Done, None), (Done, None)),
        ("hang", "/hang", "", (Indeterminate, Some(Timeout)), (Failed, Some(Timeout))),
        ("eof", "/eof", "", (Indeterminate, Some(UnexpectedEof)), (Failed, Some(UnexpectedEof))),
        ("reset", "/reset", "", (Indeterminate, Some(ConnectionReset)), (Failed, Some(ConnectionReset))),
        ("cut", "/cut", "", (Indeterminate, Some(UnexpectedEof)), (Failed, Some(UnexpectedEof))),
        ("s400", "/status/400/plain", "", (Failed, Some(ClientStatus)), (Failed, Some(ClientStatus))),
        ("s503r", "/status/503/retryable", "", (Failed, Some(ServerStatus)), (Failed, Some(ServerStatus))),
        (
            "s503u",
            "/status/503/unsure",
            "",
            (Indeterminate, Some(ServerStatus)),
            (Failed, Some(ServerStatus)),
        ),
        ("s503p", "/status/503/plain", "", (Indeterminate, Some(ServerStatus)), (Failed, Some(ServerStatus))),
        (
            "s504",
            "/status/504/retryable",
            "",
            (Indeterminate, Some(ServerStatus)),
            (Failed, Some(ServerStatus)),
        ),
        ("odd", "/ok", ", accept: [202]", (Indeterminate, Some(Assertion)), (Failed, Some(Assertion))),
        ("wrong", "/ok", ", assert: {/n: 2}", (Indeterminate, Some(Assertion)), (Failed, Some(Assertion))),
    ];
    let mut steps = Vec::new();
    for (name, path, more, _, _) in table {
        steps.push(step(&format!("w-{name}"), true, path, more));
        steps.push(step(&format!("r-{name}"), false, path, more));
    }
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let run = Run::new(&server.url, &scenario(400, 300, &steps), 48);
    let finished = run.run(3.0).await;
    for (name, _, _, write, read) in table {
        for (prefix, want) in [("w", write), ("r", read)] {
            let of_step = format!("j.{prefix}-{name}");
            let all: Vec<_> = finished.operations.iter().filter(|op| op.step == of_step).collect();
            assert!(all.len() >= 3, "{of_step}: {} operations", all.len());
            for operation in all {
                assert_eq!(got(operation), want, "{operation:?}");
                assert_eq!(operation.id.is_some(), prefix == "w", "{operation:?}");
                assert!(operation.intended_us <= operation.sent_us && operation.sent_us <= operation.done_us);
            }
        }
    }
    let totals = finished.ended.totals;
    assert_eq!(totals.intended, totals.operations, "one operation for each intention");
    assert_eq!(totals.generators_own, 0);
}

#[tokio::test]
async fn what_was_never_sent_did_not_happen() {
    // A port that nobody listens on, and one whose queue of connections is full.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let refused = format!("http://{}", free.local_addr().expect("address"));
    drop(free);
    let socket = tokio::net::TcpSocket::new_v4().expect("socket");
    socket.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let full = socket.listen(1).expect("listen");
    let address = full.local_addr().expect("address");
    let mut fill = Vec::new();
    while fill.len() < 16 {
        let connect = tokio::net::TcpStream::connect(address);
        let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), connect).await else { break };
        fill.push(stream);
    }
    let steps = step("w", true, "/ok", "");
    for (url, class) in [(refused, ConnectionRefused), (format!("http://{address}"), ConnectTimeout)] {
        let finished = Run::new(&url, &scenario(5000, 500, &[&steps]), 10).run(1.0).await;
        assert!(finished.operations.len() >= 5, "{class:?}");
        for operation in &finished.operations {
            assert_eq!(got(operation), (Failed, Some(class)), "{operation:?}");
        }
    }
}

#[tokio::test]
async fn a_stall_shows_in_full_and_is_never_excused() {
    let server = Server::start().await;
    let read = step("r", false, "/ok", "");
    let mut run = Run::new(&server.url, &scenario(5000, 500, &[&read]), 50);
    // Far fewer lanes than users who wait: the queue holds the rest.
    run.spec.lanes = Some(8);
    let state = &server.state;
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        state.stalled.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(2)).await;
        state.stalled.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    };
    let finished = run.finish(run.spawn(), meanwhile).await;
    assert!(finished.operations.iter().all(|operation| operation.outcome == Done));
    let worst = finished.seconds.iter().map(|second| second.p99_us).max().unwrap_or(0);
    assert!((1_500_000..2_600_000).contains(&worst), "p99 of the worst second {worst} µs");
    let waited = finished.operations.iter().filter(|op| op.latency_us() > 1_000_000).count();
    assert!(waited > 50, "everybody who wanted something in the first second waited: {waited}");
    assert!(finished.seconds.iter().all(|second| !second.generator_limited), "{:?}", finished.seconds);
    assert_eq!(finished.ended.totals.generators_own, 0);
}

#[tokio::test]
async fn users_whom_a_hanging_stack_leaves_no_lane_for_time_out() {
    let server = Server::start().await;
    let write = step("w", true, "/ok", "");
    let mut run = Run::new(&server.url, &scenario(1000, 500, &[&write]), 50);
    run.spec.lanes = Some(8);
    let state = &server.state;
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        state.stalled.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(4)).await;
    };
    let finished = run.finish(run.spawn(), meanwhile).await;
    let count = |want: Want| finished.operations.iter().filter(|op| got(op) == want).count();
    assert!(count((Done, None)) > 100);
    let (sent, unsent) = (count((Indeterminate, Some(Timeout))), count((Failed, Some(Timeout))));
    assert!(sent >= 16, "sent and not answered: {sent}");
    assert!(unsent > 10, "never sent, charged to the stack: {unsent}");
    assert!(sent + unsent > 250, "everybody who wanted something: {sent} + {unsent}");
    assert_eq!(count((Failed, Some(NotSent))), 0, "not the generator's");
    assert!(finished.seconds.iter().all(|second| !second.generator_limited), "{:?}", finished.seconds);
}

#[tokio::test]
async fn too_few_lanes_for_a_healthy_stack_are_the_generators_own_fault() {
    let server = Server::start().await;
    server.state.delay_ms.store(100, Ordering::Relaxed);
    let read = step("r", false, "/ok", "");
    let mut run = Run::new(&server.url, &scenario(5000, 500, &[&read]), 50);
    run.spec.lanes = Some(2); // 100 requests/s want 10
    let finished = run.run(6.0).await;
    let own = finished.operations.iter().filter(|op| op.error == Some(NotSent)).count();
    assert!(own > 100, "{own}");
    assert_eq!(finished.ended.totals.generators_own as usize, own);
    assert!(finished.operations.iter().all(|op| matches!(op.error, None | Some(NotSent))));
    let limited = finished.seconds.iter().filter(|second| second.generator_limited).count();
    assert!(limited >= 4, "{:?}", finished.seconds);
    assert_eq!(finished.seconds.iter().map(|second| second.failed).sum::<u64>(), 0, "not charged");
}

#[tokio::test]
async fn too_few_descriptors_are_the_generators_own_fault() {
    let server = Server::start().await;
    server.state.delay_ms.store(400, Ordering::Relaxed);
    let read = step("r", false, "/ok", "");
    let run = Run::new(&server.url, &scenario(5000, 500, &[&read]), 100);
    let limited = run.directory.path().join("limited");
    std::fs::write(&limited, format!("#!/bin/sh\nulimit -n 40\nexec {METTLE} \"$@\"\n")).expect("script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&limited, mode).expect("executable");
    let child = run.spawn_program(&limited);
    let finished = run.finish(child, tokio::time::sleep(Duration::from_secs(2))).await;
    let own = finished.operations.iter().filter(|op| op.error == Some(TooManyFiles)).count();
    assert!(own > 20, "{own}");
    assert!(finished.seconds.iter().any(|second| second.generator_limited), "{:?}", finished.seconds);
    assert!(finished.operations.iter().all(|op| matches!(op.error, None | Some(TooManyFiles))));
}

#[tokio::test]
async fn a_generator_without_cpu_says_so() {
    let server = Server::start().await;
    let read = step("r", false, "/ok", "");
    let run = Run::new(&server.url, &scenario(5000, 500, &[&read]), 20);
    let child = run.spawn();
    let pid = Pid::from_raw(child.pid());
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        kill(pid, Signal::SIGSTOP).expect("stopped");
        tokio::time::sleep(Duration::from_secs(2)).await;
        kill(pid, Signal::SIGCONT).expect("continued");
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let finished = run.finish(child, meanwhile).await;
    let limited: Vec<u64> = finished
        .seconds
        .iter()
        .filter(|second| second.generator_limited)
        .map(|second| second.at_ms)
        .collect();
    assert!((2..=4).contains(&limited.len()), "{limited:?}");
    assert!(limited.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{limited:?}");
}

#[tokio::test]
async fn the_same_seed_makes_the_same_users_want_the_same_things() {
    let text = "scenario: t\nservice: n/s:80\nthink: {meanMs: 200}\njourneys:\n  - journey: a\n    weight: 2\n    steps:\n      \
        - {step: x, method: GET, path: '/ok/x/${user}/${random}'}\n      - {step: y, method: GET, path: '/ok/y/${user}'}\n  \
        - journey: b\n    weight: 1\n    steps: [{step: z, method: GET, path: '/ok/z/${user}'}]\n";
    let mut intents = Vec::new();
    for (seed, delay_ms) in [(1, 0), (1, 30), (2, 0)] {
        let server = Server::start().await;
        server.state.delay_ms.store(delay_ms, Ordering::Relaxed);
        let mut run = Run::new(&server.url, text, 30);
        run.spec.seed = mettle::model::Seed(seed);
        run.run(2.0).await;
        let mut seen: Vec<(u64, String)> = Vec::new();
        for (op, path) in server.state.seen.lock().expect("seen").iter() {
            seen.push((op.trim_start_matches("r1-").parse().expect("counter"), path.clone()));
        }
        seen.sort();
        seen.truncate(200);
        assert_eq!(seen.len(), 200);
        intents.push(seen);
    }
    assert_eq!(intents[0], intents[1], "however fast the stack answers");
    assert_ne!(intents[0], intents[2]);
}

#[tokio::test]
async fn a_full_disk_ends_the_child_with_a_sentence() {
    let server = Server::start().await;
    let mut run = Run::new(&server.url, &scenario(5000, 100, &[&step("r", false, "/ok", "")]), 10);
    run.spec.operations_path = "/dev/full".into();
    let mut child = run.spawn();
    let died = tokio::time::timeout(Duration::from_secs(20), child.died_by_itself()).await.expect("in time");
    let message = died.to_string();
    assert!(message.contains("No space left on device") && message.contains("/dev/full"), "{message}");
    assert!(message.contains("exit status: 4"), "{message}");
}

#[tokio::test]
async fn a_preparing_step_stands_on_the_ones_before_it() {
    let server = Server::start().await;
    let text = "scenario: t\nservice: n/s:80\nthink: {meanMs: 200}\nprepare: \
        [{step: t, method: GET, path: /token, extract: {token: /token}, repeat: 2}, \
        {step: w, method: GET, path: /whoami, headers: {authorization: 'Bearer ${token}'}}]\n\
        journeys: [{journey: j, weight: 1, steps: [{step: r, method: GET, path: /ok}]}]";
    let run = Run::new(&server.url, text, 1);
    let finished = run.run(0.5).await;
    let prepared =
        finished.operations.iter().filter(|operation| operation.step.to_string().starts_with("prepare."));
    assert_eq!(prepared.map(got).collect::<Vec<_>>(), [(Done, None); 3]);
}

#[tokio::test]
async fn the_generator_comes_first_where_it_may() {
    let server = Server::start().await;
    let run = Run::new(&server.url, &scenario(5000, 50, &[&step("r", false, "/ok", "")]), 4);
    let mut child = run.spawn();
    child.prepared(Duration::from_secs(20)).await.expect("prepared");
    let pid = child.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    child.stop(Duration::from_secs(20)).await.expect("stopped");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let fields: Vec<i32> = after_name.split(' ').filter_map(|field| field.parse().ok()).collect();
    // Without the state, which is a letter: 0 parent, 1 group, 2 session, 15 niceness.
    assert_eq!([fields[1], fields[2]], [pid; 2], "a group and a session of its own");
    assert_eq!(fields[15], if nix::unistd::geteuid().is_root() { -10 } else { 0 });
}

#[tokio::test]
async fn a_failing_preparation_is_told() {
    let text = "scenario: t\nservice: n/s:80\nthink: {meanMs: 200}\nprepare: [{step: p, method: POST, path: /status/500/plain, \
        extract: {id: /id}}]\njourneys: [{journey: a, weight: 1, steps: [{step: x, method: GET, path: '/${id}'}]}]";
    let server = Server::start().await;
    let mut run = Run::new(&server.url, text, 10);
    run.spec.limits.prepare_seconds_max = 2;
    let mut child = run.spawn();
    let message = child.prepared(Duration::from_secs(20)).await.expect_err("fails").to_string();
    assert!(message.contains("did not prepare within 2000 ms"), "{message}");
}

#[tokio::test]
async fn a_killed_child_is_noticed_and_what_it_wrote_can_be_read() {
    let server = Server::start().await;
    let run = Run::new(&server.url, &scenario(5000, 50, &[&step("r", false, "/ok", "")]), 10);
    let mut child = run.spawn();
    child.prepared(Duration::from_secs(20)).await.expect("prepared");
    tokio::time::sleep(Duration::from_secs(1)).await;
    kill(Pid::from_raw(child.pid()), Signal::SIGKILL).expect("killed");
    let died = tokio::time::timeout(Duration::from_secs(5), child.died_by_itself()).await.expect("noticed");
    assert!(died.to_string().contains("signal: 9"), "{died}");
    assert!(matches!(child.stop(Duration::from_secs(5)).await, Err(LoadError::Died { .. })));
    assert!(read_operations(&run.spec.operations_path).expect("readable").len() > 50);
}

#[tokio::test]
async fn a_child_that_does_not_stop_is_killed() {
    let server = Server::start().await;
    let run = Run::new(&server.url, &scenario(30_000, 100, &[&step("r", false, "/hang", "")]), 10);
    let mut child = run.spawn();
    child.prepared(Duration::from_secs(20)).await.expect("prepared");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pid = child.pid();
    let stopped = child.stop(Duration::from_secs(1)).await;
    assert!(matches!(stopped, Err(LoadError::Deadline { what: "stop", .. })), "{stopped:?}");
    assert!(!alive(pid));
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "helper process of the_child_does_not_outlive_its_parent"]
async fn helper_parent() {
    let Ok(file) = std::env::var("METTLE_TEST_PID_FILE") else { return };
    let server = Server::start().await;
    let run = Run::new(&server.url, &scenario(5000, 100, &[&step("r", false, "/ok", "")]), 10);
    let mut child = run.spawn();
    child.prepared(Duration::from_secs(20)).await.expect("prepared");
    std::fs::write(file, child.pid().to_string()).expect("written");
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn the_child_does_not_outlive_its_parent() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("pid");
    let mut parent = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "helper_parent"])
        .env("METTLE_TEST_PID_FILE", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("helper");
    let started = Instant::now();
    let pid: i32 = loop {
        assert!(started.elapsed() < Duration::from_secs(30), "the helper started its child");
        match std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
            Some(pid) => break pid,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert!(alive(pid));
    parent.kill().await.expect("killed");
    let started = Instant::now();
    while alive(pid) {
        assert!(started.elapsed() < Duration::from_secs(10), "the child ended after its parent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
