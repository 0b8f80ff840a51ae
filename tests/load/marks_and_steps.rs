//! Answers that say they are less, and a load that steps up and back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mettle::model::OperationOutcome::Ok as Done;

use crate::load_support::{Run, Server, scenario};

#[tokio::test]
async fn an_answer_with_less_is_told_by_its_header_or_its_body_and_only_when_it_is_one() {
    let server = Server::start().await;
    let journey = "{step: header, method: GET, path: /less/200, degraded: {header: x-less}}, \
        {step: body, method: GET, path: /less/200, degraded: {pointer: /degraded}}, \
        {step: whole, method: GET, path: /ok, degraded: {pointer: /degraded}}, \
        {step: refused, method: GET, path: /less/503, degraded: {header: x-less}}, \
        {step: unasked, method: GET, path: /less/200}";
    let run = Run::new(&server.url, &scenario(1000, 50, &[journey]), 4);
    let finished = run.run(1.5).await;
    for (name, want) in
        [("header", true), ("body", true), ("whole", false), ("refused", false), ("unasked", false)]
    {
        let mut of = finished.operations.iter().filter(|op| op.step == format!("j.{name}")).peekable();
        assert!(of.peek().is_some(), "{name}");
        assert!(of.all(|op| op.degraded == want && (op.outcome == Done) == (name != "refused")), "{name}");
    }
}

#[tokio::test]
async fn requests_share_connections_unless_the_scenario_wants_one_for_each() {
    for (keep_alive, each) in [(true, false), (false, true)] {
        let server = Server::start().await;
        let text = scenario(1000, 50, &["{step: get, method: GET, path: /ok}"]);
        let run = Run::new(&server.url, &format!("keepAlive: {keep_alive}\n{text}"), 2);
        let requests = run.run(1.5).await.operations.len() as u64;
        let connections = server.state.connections.load(Ordering::Relaxed);
        assert!(requests > 20, "{requests}");
        assert_eq!(connections >= requests, each, "{connections} connections for {requests} requests");
    }
}

#[tokio::test]
async fn a_step_brings_more_users_and_lets_them_go() {
    let server = Server::start().await;
    let mut run = Run::new(&server.url, &scenario(1000, 100, &["{step: get, method: GET, path: /ok}"]), 10);
    run.spec.step_users = Some(50);
    let mut child = run.spawn();
    child.prepared(Duration::from_secs(10)).await.expect("prepared");
    for up in [true, false] {
        tokio::time::sleep(Duration::from_secs(3)).await;
        child.step(up).await.expect("it takes the word");
    }
    let finished = run.finish(child, tokio::time::sleep(Duration::from_secs(3))).await;
    let first_us = finished.operations.iter().map(|op| op.intended_us).min().expect("operations");
    // 100 a second, then 500, then 100; each part without its first second.
    let of = |from: u64| {
        let span = first_us + from * 1_000_000..first_us + (from + 2) * 1_000_000;
        finished.operations.iter().filter(|op| span.contains(&op.intended_us)).count()
    };
    let (before, during, after) = (of(1), of(4), of(7));
    assert!((150..260).contains(&before), "{before}");
    assert!((800..1200).contains(&during), "{during}");
    assert!((150..260).contains(&after), "{after}");
    assert!(finished.operations.iter().all(|op| op.outcome == Done), "nobody is cut off by leaving");
}
