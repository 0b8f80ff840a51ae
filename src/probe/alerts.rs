//! Asks Prometheus which alerts there are and how far each is, and Alertmanager which it was told of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::every::every;
use crate::cluster::{Dialer, PodCache, http_get};
use crate::model::{AlertState, Component, Observation};

const EVERY: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(2);
/// Label sets that are followed at each server.
const SETS_MAX: usize = 200;
const LABELS_MAX: usize = 8;
const LABEL_CHARS_MAX: usize = 80;

/// One alert's name and its further labels.
type Key = (String, BTreeMap<String, String>);
type States = BTreeMap<Key, AlertState>;

struct Server {
    component: Component,
    port: u16,
    path: &'static str,
    probe: &'static str,
    parse: fn(&[u8]) -> Option<Answer>,
}

const SERVERS: [Server; 2] = [
    Server {
        component: Component::Prometheus,
        port: 9090,
        path: "/api/v1/rules?type=alert",
        probe: "alerts",
        parse: rules,
    },
    Server {
        component: Component::Alertmanager,
        port: 9093,
        path: "/api/v2/alerts",
        probe: "alertmanager",
        parse: alerts,
    },
];

/// Every alert is told, and of those that are awaited also that they are known and silent. Runs until `end`.
pub async fn observe_alerts<S: Sink>(
    awaited: BTreeSet<String>,
    cache: PodCache,
    dialer: Dialer,
    sink: S,
    end: CancellationToken,
) {
    let all = SERVERS.iter().map(|server| {
        let told = Mutex::new(Told { by: server.component, states: States::new() });
        let (awaited, cache, dialer, sink, end) = (&awaited, &cache, &dialer, &sink, &end);
        async move {
            every(EVERY, end, |_| async {
                let Some(answer) = ask(server, cache, dialer).await else { return };
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.tell(answer, awaited, sink);
                sink.observe(Observation::Heartbeat { probe: server.probe.to_owned() });
            })
            .await;
        }
    });
    futures::future::join_all(all).await;
}

/// What a server says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Names that it could tell of; absent: whatever it is told.
    known: Option<BTreeSet<String>>,
    states: States,
}

/// Of all copies of a server together; absent when none answers.
async fn ask(server: &Server, cache: &PodCache, dialer: &Dialer) -> Option<Answer> {
    let pods = cache.members(server.component)?;
    let asked = pods.iter().map(|pod| async move {
        let answer = http_get(dialer, pod, server.port, server.path, DEADLINE).await.ok();
        answer.filter(|(status, _)| *status == 200).and_then(|(_, body)| (server.parse)(&body))
    });
    let mut all: Option<Answer> = None;
    for answer in futures::future::join_all(asked).await.into_iter().flatten() {
        let merged = all.get_or_insert_default();
        for (key, state) in answer.states {
            let known = merged.states.entry(key).or_insert(state);
            *known = (*known).max(state);
        }
        if let Some(names) = answer.known {
            merged.known.get_or_insert_default().extend(names);
        }
    }
    all
}

/// What was said last, so that only changes are said.
struct Told {
    by: Component,
    states: States,
}

impl Told {
    fn tell<S: Sink>(&mut self, answer: Answer, awaited: &BTreeSet<String>, sink: &S) {
        let mut now = answer.states;
        for name in awaited {
            let known = answer.known.as_ref().is_none_or(|known| known.contains(name));
            if known && !self.states.keys().any(|(told, _)| told == name) {
                // Said once without labels: there is such an alert.
                now.entry((name.clone(), BTreeMap::new())).or_insert(AlertState::Inactive);
            }
        }
        // What is no longer listed is over.
        for key in self.states.keys() {
            now.entry(key.clone()).or_insert(AlertState::Inactive);
        }
        for (key, state) in now {
            let room = self.states.len() < SETS_MAX || self.states.contains_key(&key);
            if room && self.states.insert(key.clone(), state) != Some(state) {
                let (alert, labels) = key;
                sink.observe(Observation::Alert { by: self.by, alert, labels, state });
            }
        }
    }
}

#[derive(Deserialize)]
struct Rules {
    data: Groups,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    name: String,
    #[serde(default)]
    alerts: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    labels: BTreeMap<String, String>,
    state: String,
}

fn rules(body: &[u8]) -> Option<Answer> {
    let rules: Rules = serde_json::from_slice(body).ok()?;
    let mut answer = Answer { known: Some(BTreeSet::new()), states: States::new() };
    for rule in rules.data.groups.into_iter().flat_map(|group| group.rules) {
        for instance in rule.alerts {
            let state = match instance.state.as_str() {
                "firing" => AlertState::Firing,
                "pending" => AlertState::Pending,
                _ => AlertState::Inactive,
            };
            answer.states.insert((rule.name.clone(), bounded(instance.labels)), state);
        }
        answer.known.get_or_insert_default().insert(rule.name);
    }
    Some(answer)
}

#[derive(Deserialize)]
struct Notice {
    labels: BTreeMap<String, String>,
}

/// What Alertmanager lists fires; inhibited and silenced ones have reached it, too.
fn alerts(body: &[u8]) -> Option<Answer> {
    let notices: Vec<Notice> = serde_json::from_slice(body).ok()?;
    let named = notices.into_iter().filter_map(|notice| {
        let name = notice.labels.get("alertname")?.clone();
        Some(((name, bounded(notice.labels)), AlertState::Firing))
    });
    Some(Answer { known: None, states: named.collect() })
}

/// Without the name, and without more than a timeline should carry.
fn bounded(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let others = labels.into_iter().filter(|(name, _)| name != "alertname");
    others
        .take(LABELS_MAX)
        .map(|(name, value)| (name, value.chars().take(LABEL_CHARS_MAX).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::probe::testing::Seen;

    fn rule(state: Option<&str>) -> Answer {
        let alerts: Vec<_> = state
            .map(
                |state| json!({ "labels": { "alertname": "BackendDown", "app": "backend" }, "state": state }),
            )
            .into_iter()
            .collect();
        let body = json!({ "data": { "groups": [{ "rules": [
            { "name": "BackendDown", "state": "inactive", "alerts": alerts }] }] } });
        rules(body.to_string().as_bytes()).unwrap()
    }

    fn states(seen: &Seen) -> Vec<(usize, AlertState)> {
        let all = seen.take();
        let states = all.into_iter().map(|seen| match seen {
            Observation::Alert { labels, state, .. } => (labels.len(), state),
            other => panic!("{other:?}"),
        });
        states.collect()
    }

    #[test]
    fn only_changes_are_told_and_what_is_no_longer_listed_is_over() {
        use AlertState::{Firing, Inactive, Pending};
        let (seen, awaited) = (Seen::default(), BTreeSet::from(["BackendDown".to_owned()]));
        let mut told = Told { by: Component::Prometheus, states: States::new() };
        told.tell(rule(None), &awaited, &seen);
        assert_eq!(states(&seen), [(0, Inactive)], "it is known");
        for state in ["pending", "pending", "firing", "firing"] {
            told.tell(rule(Some(state)), &awaited, &seen);
        }
        assert_eq!(states(&seen), [(1, Pending), (1, Firing)]);
        told.tell(rule(None), &awaited, &seen);
        told.tell(rule(None), &awaited, &seen);
        assert_eq!(states(&seen), [(1, Inactive)]);
    }

    #[test]
    fn a_name_that_prometheus_does_not_have_is_never_told() {
        let (seen, awaited) = (Seen::default(), BTreeSet::from(["Typo".to_owned()]));
        let mut told = Told { by: Component::Prometheus, states: States::new() };
        told.tell(rule(None), &awaited, &seen);
        assert_eq!(states(&seen), []);
        // Alertmanager has no list of what might come.
        let mut told = Told { by: Component::Alertmanager, states: States::new() };
        told.tell(alerts(b"[]").unwrap(), &awaited, &seen);
        assert_eq!(states(&seen), [(0, AlertState::Inactive)]);
    }

    #[test]
    fn alertmanager_lists_what_it_was_told() {
        let body =
            json!([{ "labels": { "alertname": "A", "app": "b" }, "status": { "state": "suppressed" } }]);
        let answer = alerts(body.to_string().as_bytes()).unwrap();
        let key = ("A".to_owned(), [("app".to_owned(), "b".to_owned())].into());
        assert_eq!(answer.states, [(key, AlertState::Firing)].into());
        assert_eq!(alerts(b"{}"), None);
        assert_eq!(rules(b"[]"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (rules(&body), alerts(&body));
        }

        #[test]
        fn labels_are_bounded(labels in prop::collection::btree_map("[a-z]{1,9}", ".{0,200}", 0..20)) {
            let bounded = bounded(labels);
            prop_assert!(bounded.len() <= LABELS_MAX);
            prop_assert!(bounded.values().all(|value| value.chars().count() <= LABEL_CHARS_MAX));
        }
    }
}
