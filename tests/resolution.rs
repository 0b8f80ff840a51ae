//! A recovery time is only as good as it is right: outages whose ends are known exactly, against what is reported.

#[allow(dead_code)]
mod load_support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use load_support::{Run, Server, scenario};
use mettle::check::{STABLE_FOR_SECONDS, phases, resolution_ms};
use mettle::load::RunClock;
use mettle::model::{
    ErrorClass, Event, Experiment, Fact, FaultKind, FaultRecord, LoadSecond, Operation, OperationOutcome,
    Timeline, Window, Windows,
};
use proptest::prelude::*;

const WITHIN_MS: u64 = 50;
const BASELINE_END_MS: u64 = 12_000;
const END_MS: u64 = 40_000;
const LATENCY_US: u64 = 5_000;

fn experiment() -> Experiment {
    serde_json::from_value(serde_json::json!({
        "name": "x", "scenario": "x.yaml", "faults": [{"kind": "pod-kill", "target": {"component": "backend"}}],
        "expect": [{"check": "recovery-time", "maxSeconds": 30}],
    }))
    .expect("it is an experiment")
}

fn timeline(operations: Vec<Operation>, seconds: Vec<LoadSecond>, injected_ms: u64, end_ms: u64) -> Timeline {
    let span = |start_ms, end_ms| Window { start_ms, end_ms };
    let load = |second: LoadSecond| Event { at_ms: second.at_ms, fact: Fact::Load(second) };
    let fault = FaultRecord {
        kind: FaultKind::PodKill,
        targets: Vec::new(),
        injected_ms,
        effective_ms: Some(injected_ms),
        reverted_ms: Some(end_ms),
        evidence: Vec::new(),
    };
    Timeline {
        events: seconds.into_iter().map(load).collect(),
        operations,
        windows: Windows {
            baseline: span(0, injected_ms),
            fault: span(injected_ms, end_ms - 8000),
            recovery: span(end_ms - 8000, end_ms),
        },
        faults: vec![fault],
        ..Timeline::default()
    }
}

/// An open loop of one request each `gap_us`, give or take: `jitter` is drawn for each, and does not add up.
fn load(gap_us: u64, jitter: &[u64], answer: impl Fn(u64) -> (u64, Option<ErrorClass>)) -> Vec<Operation> {
    let wanted = |index: u64| index * gap_us + jitter[index as usize % jitter.len()] * gap_us / 200;
    let one = |index: u64| {
        let intended_us = wanted(index);
        let (done_us, error) = answer(intended_us);
        Operation {
            id: None,
            step: "j.s".into(),
            writes: None.into(),
            reads: None,
            intended_us,
            sent_us: intended_us,
            done_us,
            outcome: if error.is_none() { OperationOutcome::Ok } else { OperationOutcome::Failed },
            error,
            status: None,
            degraded: false,
            seen: None,
        }
    };
    (0..END_MS * 1000 / gap_us).map(one).collect()
}

fn seconds() -> Vec<LoadSecond> {
    (0..END_MS / 1000).map(|at| LoadSecond { at_ms: at * 1000, ..LoadSecond::default() }).collect()
}

/// What is reported of an outage, beside the truth; and how finely it could be seen.
fn assert_right(timeline: &Timeline, ends_ms: u64) {
    let client_ms = phases(timeline, STABLE_FOR_SECONDS).client.expect("they recovered");
    let truth_ms = ends_ms - timeline.faults[0].injected_ms;
    let resolution_ms = resolution_ms(&experiment(), timeline).expect("a resolution");
    let off_ms = client_ms.abs_diff(truth_ms);
    assert!(
        off_ms <= WITHIN_MS.max(resolution_ms),
        "{client_ms} ms are reported, {truth_ms} ms are true; resolution {resolution_ms} ms"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Refused from the first to the last moment, at 20 to 500 requests/s.
    #[test]
    fn an_outage_is_known_to_50_ms_or_to_one_gap(
        per_second in 20..=500_u64,
        begins_ms in BASELINE_END_MS..14_000,
        lasts_ms in 300..15_000_u64,
        jitter in proptest::collection::vec(0..100_u64, 97),
    ) {
        let (from_us, to_us) = (begins_ms * 1000, (begins_ms + lasts_ms) * 1000);
        let gap_us = 1_000_000 / per_second;
        let operations = load(gap_us, &jitter, |wanted_us| {
            let refused = (from_us..to_us).contains(&wanted_us);
            if refused { (wanted_us + 1000, Some(ErrorClass::ConnectionRefused)) } else { (wanted_us + LATENCY_US, None) }
        });
        let timeline = timeline(operations, seconds(), BASELINE_END_MS, END_MS);
        // Two neighbours of an even loop are at most one and a half gaps apart.
        let resolution_ms = resolution_ms(&experiment(), &timeline).expect("a resolution");
        prop_assert!(resolution_ms <= (gap_us * 3 / 2).div_ceil(1000) + 1, "{resolution_ms} ms at {per_second}/s");
        assert_right(&timeline, begins_ms + lasts_ms);
    }

    /// Nobody is answered; who waited for less than 2 s is when it ends, and was not refused.
    #[test]
    fn a_stall_ends_with_its_first_answer(
        per_second in 20..=500_u64,
        begins_ms in BASELINE_END_MS..14_000,
        lasts_ms in 2_500..15_000_u64,
        jitter in proptest::collection::vec(0..100_u64, 97),
    ) {
        const TIMEOUT_US: u64 = 2_000_000;
        let (from_us, to_us) = (begins_ms * 1000, (begins_ms + lasts_ms) * 1000);
        let operations = load(1_000_000 / per_second, &jitter, |wanted_us| match wanted_us {
            us if !(from_us..to_us).contains(&us) => (us + LATENCY_US, None),
            us if us + TIMEOUT_US < to_us => (us + TIMEOUT_US, Some(ErrorClass::Timeout)),
            _ => (to_us + LATENCY_US, None),
        });
        assert_right(&timeline(operations, seconds(), BASELINE_END_MS, END_MS), begins_ms + lasts_ms);
    }
}

/// The real load against a real server that notes itself when it began to fail and when it ended.
#[tokio::test]
async fn a_real_outage_under_the_real_load_is_known_to_50_ms() {
    for users in [10, 40] {
        let server = Server::start().await;
        let step = "{step: r, method: GET, path: /ok}";
        let run = Run::new(&server.url, &scenario(2000, 200, &[step]), users);
        let clock = RunClock::from_origin_ns(run.spec.clock_origin_ns);
        let (mut injected_us, mut ended_us, mut end_us) = (0, 0, 0);
        let state = &server.state;
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(4000)).await;
            state.failing.store(true, Ordering::SeqCst);
            injected_us = clock.now_us();
            tokio::time::sleep(Duration::from_millis(2345)).await;
            state.failing.store(false, Ordering::SeqCst);
            ended_us = clock.now_us();
            tokio::time::sleep(Duration::from_millis(6000)).await;
            end_us = clock.now_us();
        };
        let finished = run.finish(run.spawn(), meanwhile).await;
        let mut timeline = timeline(finished.operations, finished.seconds, injected_us / 1000, end_us / 1000);
        // Before it is prepared, nobody wants anything.
        let first_us = timeline.operations.iter().map(|one| one.intended_us).min().expect("requests");
        timeline.windows.baseline.start_ms = first_us / 1000;
        assert!(timeline.operations.iter().filter(|one| one.error.is_some()).count() > 50);
        assert_right(&timeline, ended_us / 1000);
    }
}
