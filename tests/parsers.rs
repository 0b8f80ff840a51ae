//! Whatever is written in a file, reading it answers; it never panics, and never hangs.

use std::collections::BTreeMap;
use std::path::Path;

use mettle::model::{
    CheckKind, CheckSpec, Component, Direction, Experiment, FaultKind, FaultSpec, FileError, Limits,
    LoadSpec, On, Parameters, PhaseSeconds, Repeat, Role, Scenario, StopCondition, StopKind, Suite,
    TargetSpec, WindowName, parse_yaml,
};
use proptest::prelude::*;

const EXPERIMENT: &str = include_str!("../experiments/redis-primary-loss.yaml");
const SCENARIO: &str = include_str!("../scenarios/platform-api.yaml");
const SUITE: &str = include_str!("../experiments/suites/quick.yaml");

fn parse_as_everything(text: &str) {
    let path = Path::new("x.yaml");
    let experiment = parse_yaml::<Experiment>(path, text).map(|experiment| drop(experiment.problem()));
    let scenario = parse_yaml::<Scenario>(path, text).map(|scenario| drop(scenario.problem()));
    let suite = parse_yaml::<Suite>(path, text).map(drop);
    for error in [experiment, scenario, suite].into_iter().filter_map(Result::err) {
        let FileError::Parse { line, field, message, .. } = &error else { panic!("{error:?}") };
        assert!(*line >= 1 && !field.is_empty() && !message.is_empty(), "{error:?}");
        assert!(!error.to_string().contains(char::is_control), "one line: {error:?}");
    }
}

/// Cuts, doubles and replaces pieces of a file that is right.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let junk = prop_oneof![
        "[ -~\\n]{0,6}",
        Just("\u{0}".to_owned()),
        Just("\n---\n".to_owned()),
        Just("&a *a".to_owned()),
        Just("!!binary ".to_owned()),
        Just("{[".to_owned()),
        Just("\u{feff}é\u{2028}".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("-.inf".to_owned()),
        Just("<<: ".to_owned()),
    ];
    let edit = (0..places.len(), 0usize..12, junk);
    prop::collection::vec(edit, 1..5).prop_map(move |edits| {
        let mut text = text.to_owned();
        for (at, length, junk) in edits {
            let mut from = places[at].min(text.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            let mut to = (from + length).min(text.len());
            while !text.is_char_boundary(to) {
                to -= 1;
            }
            text.replace_range(from..to, &junk);
        }
        text
    })
}

fn target() -> impl Strategy<Value = TargetSpec> {
    let component = prop::sample::select(Component::ALL.to_vec());
    let role = prop::option::of(prop::sample::select(vec![Role::Primary, Role::Replica, Role::Any]));
    let labels = prop::collection::btree_map("[a-z.]{1,9}/?[a-z]{1,5}", "[a-z0-9:#'\" -]{1,9}", 1..3);
    let count = 1u32..=100;
    prop_oneof![
        (component, role, count.clone(), prop::option::of(any::<String>())).prop_map(
            |(component, role, count, key)| {
                let leader_of = match component {
                    Component::Kafka => Some("decisions/0".to_owned()),
                    Component::Rabbitmq => Some("inference.jobs".to_owned()),
                    _ => None,
                };
                TargetSpec {
                    component: Some(component),
                    role,
                    count,
                    of_key: key.filter(|_| component == Component::Redis),
                    leader_of,
                    ..TargetSpec::default()
                }
            }
        ),
        (labels, count).prop_map(|(labels, count)| TargetSpec { labels, count, ..TargetSpec::default() }),
    ]
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let numbers = (1u32..=1000, 1u16.., 1u8..=100, 200u16..=599);
    (numbers, prop::option::of("[a-z.]{1,9}"), any::<[u8; 4]>(), target()).prop_map(
        |((number, port, percent, status), domain, address, peers)| Parameters {
            replicas: Some(number),
            workers: Some(number),
            mib: Some(number),
            leave_mib: Some(number),
            path: Some("/data".to_owned()),
            port: Some(port),
            secret: Some("s".to_owned()),
            connections: Some(number),
            peers: Some(peers),
            api_server: true,
            direction: Some(Direction::Out),
            percent: Some(percent),
            delay_ms: Some(number),
            jitter_ms: Some(number),
            rate_kib: Some(number),
            status: Some(status),
            domain,
            address: Some(address.into()),
            header: BTreeMap::from([("x-a".to_owned(), "b".to_owned())]),
        },
    )
}

/// What its kind takes, and nothing else.
fn fitting(kind: FaultKind, all: Parameters) -> Parameters {
    let mut value = serde_json::to_value(all).unwrap();
    value.as_object_mut().unwrap().retain(|field, _| kind.shape().takes.contains(&field.as_str()));
    serde_json::from_value(value).unwrap()
}

fn fault() -> impl Strategy<Value = FaultSpec> {
    let kind = prop::sample::select(FaultKind::ALL.to_vec());
    let rest = (0u32..=1000, 1u32..=100, 0u32..600, prop::option::of("[a-z-]{1,12}"), 2u32..=16);
    (kind, target(), parameters(), rest).prop_map(|(kind, target, all, (at, hold, grace, process, times))| {
        let target = match (kind, kind.shape().on) {
            (_, On::Cluster) => TargetSpec::default(),
            (FaultKind::ZoneLoss, _) => {
                TargetSpec { zone: Some("a".to_owned()), count: 1, ..TargetSpec::default() }
            }
            _ => target,
        };
        let picks = matches!(kind, FaultKind::ProcessPause | FaultKind::ProcessKill);
        let repeat = Repeat { times, every_seconds: 150, jitter_seconds: 10 };
        FaultSpec {
            at_seconds: at,
            hold_seconds: hold,
            grace_seconds: if kind == FaultKind::PodKill { grace } else { 0 },
            process: process.filter(|_| picks),
            with: fitting(kind, all),
            repeat: Some(repeat).filter(|_| times > 2),
            ..FaultSpec::new(kind, target)
        }
    })
}

fn check() -> impl Strategy<Value = CheckSpec> {
    let window = prop::sample::select(WindowName::ALL.to_vec());
    prop_oneof![
        (window.clone(), 0.0..99.0f64).prop_map(|(window, percent)| CheckSpec {
            window: Some(window),
            max_percent: Some(percent),
            ..CheckSpec::new(CheckKind::ErrorRate)
        }),
        (window, 0.01..0.99f64, 1.0..1e6f64).prop_map(|(window, quantile, ms)| CheckSpec {
            window: Some(window),
            quantile: Some(quantile),
            max_ms: Some(ms),
            ..CheckSpec::new(CheckKind::Latency)
        }),
        (0.1..1e6f64).prop_map(|seconds| CheckSpec {
            max_seconds: Some(seconds),
            ..CheckSpec::new(CheckKind::RecoveryTime)
        }),
    ]
}

fn stop() -> impl Strategy<Value = StopCondition> {
    let kind = prop::sample::select(vec![StopKind::ErrorRate, StopKind::Latency, StopKind::LostLeader]);
    (kind, 0u8..=99, 1u32..=3600).prop_map(|(check, number, for_seconds)| {
        let of = |kind| (check == kind).then_some(f64::from(number));
        StopCondition {
            check,
            max_percent: of(StopKind::ErrorRate),
            quantile: of(StopKind::Latency).map(|_| 0.99),
            max_ms: of(StopKind::Latency).map(|ms| ms + 1.0),
            component: of(StopKind::LostLeader).map(|_| Component::Redis),
            for_seconds,
        }
    })
}

fn experiment() -> impl Strategy<Value = Experiment> {
    let text = (any::<String>(), "[a-z0-9-]{1,63}", prop::collection::vec("[A-Z][0-9]{1,2}", 0..4));
    let lists = (prop::collection::vec(fault(), 1..=4), prop::collection::vec(check(), 1..=4));
    let numbers = (1u32..1_000_000, prop::option::of(1u32..1000), 1u64..10_000, 0u32..5, 0u32..3);
    let stops = prop::collection::vec(stop(), 0..=4);
    (text, lists, stops, numbers).prop_map(
        |(
            (description, name, proves),
            (faults, expect),
            stop_when,
            (users, lanes, requests_min, pods, nodes),
        )| {
            Experiment {
                name,
                description,
                scenario: "../scenarios/platform-api.yaml".into(),
                proves,
                load: LoadSpec { users, lanes, requests_min, step: None },
                phases: PhaseSeconds::default(),
                faults,
                expect,
                limits: Limits {
                    pods,
                    nodes,
                    deadline_seconds: Some(lanes.unwrap_or(9)),
                    ..Limits::default()
                },
                stop_when,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        parse_as_everything(&text);
    }

    #[test]
    fn anything_like_yaml_is_answered(text in "([a-zA-Z]{1,6}(:|: |-|\\[|\\{|\\}|\\]|\\n|\\n  |\"|'|&|\\*|!|>|\\|){1,3}){0,40}") {
        parse_as_everything(&text);
    }

    #[test]
    fn a_file_that_was_right_is_answered_whatever_became_of_it(
        text in prop_oneof![mutated(EXPERIMENT), mutated(SCENARIO), mutated(SUITE)]
    ) {
        parse_as_everything(&text);
    }

    #[test]
    fn a_valid_experiment_is_read_back_as_it_was(experiment in experiment()) {
        prop_assert_eq!(experiment.problem(), None);
        let text = serde_json::to_string_pretty(&experiment).expect("it is JSON");
        let again: Experiment = parse_yaml(Path::new("x.json"), &text).expect("it is read");
        prop_assert_eq!(again, experiment);
    }
}

#[test]
fn the_files_that_are_mutated_are_right() {
    let path = Path::new("x.yaml");
    let experiment: Experiment = parse_yaml(path, EXPERIMENT).expect("an experiment");
    assert_eq!(experiment.problem(), None);
    let scenario: Scenario = parse_yaml(path, SCENARIO).expect("a scenario");
    assert_eq!(scenario.problem(), None);
    parse_yaml::<Suite>(path, SUITE).expect("a suite");
}
