//! Laws that hold for every check, over generated specs and timelines.

use proptest::prelude::*;

use super::testing::{Build, INJECTED_MS, experiment, fail};
use super::{judge, judge_all};
use crate::model::Verdict::{Fail, Pass};
use crate::model::{
    CheckKind, CheckSpec, Component, ErrorClass, Fact, LoadSpec, Observation, Store, Timeline, Verdict,
    WindowName,
};

fn any_spec() -> impl Strategy<Value = CheckSpec> {
    let kind = proptest::sample::select(CheckKind::ALL.to_vec());
    let window = proptest::sample::select(WindowName::ALL.to_vec());
    let store = proptest::sample::select(Store::ALL.to_vec());
    let component = proptest::option::of(proptest::sample::select(Component::ALL.to_vec()));
    let figures = (0.0..50.0_f64, 0.01..0.999_f64, 0.1..2000.0_f64, 0.1..60.0_f64, 1.0..20.0_f64);
    let some = proptest::bool::weighted(0.8);
    ((kind, window, store, component), figures, (some, 0..5_u64)).prop_map(
        |((check, window, store, component), (percent, q, ms, seconds, ratio), (some, max))| CheckSpec {
            window: Some(window),
            max_percent: some.then_some(percent),
            quantile: Some(q),
            max_ms: some.then_some(ms),
            max_ratio_to_baseline: (max == 0).then_some(ratio),
            max_seconds: some.then_some(seconds),
            stable_for_seconds: (max < 3).then_some(1.0 + seconds / 10.0),
            store: some.then_some(store),
            max: Some(max),
            component,
            alert: some.then(|| "A".to_owned()),
            resolved_max_seconds: Some(seconds),
            opens_within_seconds: Some(seconds),
            closes_within_seconds: Some(seconds),
            step: some.then(|| "shop.step".to_owned()),
            min_percent: Some(percent),
            max_ratio: Some(ratio),
            out_within_seconds: Some(seconds),
            in_within_seconds: Some(seconds),
            ..CheckSpec::new(check)
        },
    )
}

fn error() -> impl Strategy<Value = ErrorClass> {
    proptest::sample::select(vec![
        ErrorClass::Timeout,
        ErrorClass::ServerStatus,
        ErrorClass::ConnectionRefused,
        ErrorClass::NotSent,
    ])
}

/// A steady run with spans of errors, slowness, silence and generator trouble.
fn any_build() -> impl Strategy<Value = Build> {
    let span = || (0..40_000_u64, 0..8_000_u64);
    let troubles = proptest::collection::vec((0..5_u8, span(), error()), 0..5);
    troubles.prop_map(|troubles| {
        troubles.into_iter().fold(Build::steady(), |build, (kind, (from, length), error)| match kind {
            0 => build.errors(from, from + length, error),
            1 => build.slow(from, from + length, length),
            2 => build.silence(from, from + length / 4),
            3 => build.degraded(from, from + length),
            _ => build.limited(from, from + length / 4),
        })
    })
}

fn add_failed(mut timeline: Timeline, at_ms: &[u64], error: ErrorClass) -> Timeline {
    let Some(like) = timeline.operations.first().cloned() else { return timeline };
    for at_ms in at_ms {
        let mut operation = like.clone();
        operation.intended_us = (INJECTED_MS + at_ms) * 1000;
        fail(&mut operation, error);
        timeline.operations.push(operation);
    }
    timeline
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_empty_timeline_never_passes(spec in any_spec()) {
        let finding = judge(&spec, &LoadSpec::default(), &Timeline::default());
        prop_assert_eq!(finding.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_timeline_without_operations_never_passes_what_looks_at_clients(spec in any_spec()) {
        let mut timeline = Build::steady().timeline();
        timeline.operations.clear();
        let finding = judge(&spec, &LoadSpec::default(), &timeline);
        prop_assert!(finding.verdict != Pass || spec.check == CheckKind::ReplicasRestored);
        let mut experiment = experiment();
        experiment.expect = vec![spec];
        let (findings, _) = judge_all(&experiment, &timeline);
        prop_assert!(Verdict::worst(findings.iter().map(|finding| finding.verdict)) != Pass);
    }

    #[test]
    fn more_failures_never_turn_a_fail_into_a_pass(
        spec in any_spec(),
        build in any_build(),
        at_ms in proptest::collection::vec(0..28_000_u64, 1..200),
        error in error(),
    ) {
        let timeline = build.timeline();
        let before = judge(&spec, &LoadSpec::default(), &timeline);
        let after = judge(&spec, &LoadSpec::default(), &add_failed(timeline, &at_ms, error));
        prop_assert!(!(before.verdict == Fail && after.verdict == Pass), "{} then {}", before.reason, after.reason);
    }

    #[test]
    fn what_passes_passes_without_a_fault_seen_only_when_evidence_is_there(spec in any_spec(), build in any_build()) {
        let timeline = build.fault(|fault| fault.effective_ms = None).timeline();
        let mut experiment = experiment();
        experiment.expect = vec![spec];
        let (findings, _) = judge_all(&experiment, &timeline);
        prop_assert!(Verdict::worst(findings.iter().map(|finding| finding.verdict)) != Pass);
    }

    #[test]
    fn blaming_the_generator_never_makes_a_pass(spec in any_spec(), build in any_build(), from in 0..40_u64) {
        let before = judge(&spec, &LoadSpec::default(), &build.clone().timeline());
        let limited = build.limited(from * 1000, from * 1000 + 2000).timeline();
        let after = judge(&spec, &LoadSpec::default(), &limited);
        prop_assert!(before.verdict == Pass || after.verdict != Pass, "{} then {}", before.reason, after.reason);
    }

    #[test]
    fn probes_that_see_nothing_never_restore_replicas(keep in 0..40_000_u64) {
        let spec = CheckSpec { max_seconds: Some(60.0), ..CheckSpec::new(CheckKind::ReplicasRestored) };
        let mut timeline = Build::steady().timeline();
        timeline.events.retain(|event| {
            let observed = matches!(&event.fact, Fact::Observed(o) if !matches!(o, Observation::Heartbeat { .. }));
            !observed || event.at_ms < keep
        });
        let finding = judge(&spec, &LoadSpec::default(), &timeline);
        prop_assert!(finding.verdict != Pass || keep > 15_500, "{}", finding.reason);
    }
}
