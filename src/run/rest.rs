//! Before a load begins: the autoscalers that the experiment judges are where no load leaves them.
//!
//! An autoscaler takes its replicas away minutes after the load that it answered. One that still does says nothing about the
//! next load, and the check would call that inconclusive; so an experiment in a suite waits for what the one before it left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Recorder;
use super::stop::{Stop, Stopped};
use crate::model::{Component, Event, Experiment, Fact, Observation, Watch};

const TICK: Duration = Duration::from_millis(250);
/// An autoscaler wants fewer only when it has for five minutes, unless its behaviour says otherwise.
const REST_MAX: Duration = Duration::from_secs(400);
/// Until each was seen once. One that is not there is the check's matter.
const SEEN_MAX: Duration = Duration::from_secs(10);

/// Waits until the autoscalers that are judged are at rest, for so long as that may take; the check says what it means when
/// they still are not.
///
/// # Errors
/// When the run is to stop.
pub(super) async fn rest(experiment: &Experiment, recorder: &Recorder, stop: &Stop) -> Result<(), Stopped> {
    let watched = Watch::of(&experiment.expect).scales;
    if watched.is_empty() {
        return Ok(());
    }
    let from_ms = recorder.clock().now_ms();
    let mut told = false;
    loop {
        let waited = Duration::from_millis(recorder.clock().now_ms() - from_ms);
        match recorder.look(0, |events| not_at_rest(events, &watched)) {
            None if waited >= SEEN_MAX => return Ok(()),
            Some(left) if left.is_empty() => return Ok(()),
            Some(left) if waited >= REST_MAX => {
                recorder.note(format!("not at rest after {} s: {}", REST_MAX.as_secs(), left.join("; ")));
                return Ok(());
            }
            Some(left) if !told => {
                let max = REST_MAX.as_secs();
                recorder
                    .note(format!("waits, at most {max} s, for autoscalers at rest: {}", left.join("; ")));
                told = true;
            }
            None | Some(_) => {}
        }
        stop.sleep(TICK).await?;
    }
}

/// The autoscalers of `watched` that want, or have, more than their least, one line each. None: one of them was not seen yet.
fn not_at_rest(events: &[Event], watched: &BTreeSet<Component>) -> Option<Vec<String>> {
    let mut scales: BTreeMap<Component, Option<String>> = BTreeMap::new();
    for event in events {
        let Fact::Observed(Observation::Scale { component, desired, ready, minimum, .. }) = &event.fact
        else {
            continue;
        };
        let line = || format!("{component} wants {desired} replicas, has {ready}, and may go to {minimum}");
        scales.insert(*component, (desired > minimum || ready != desired).then(line));
    }
    let lines: Option<Vec<_>> = watched.iter().map(|component| scales.get(component).cloned()).collect();
    Some(lines?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(component: Component, desired: u32, ready: u32) -> Event {
        let seen = Observation::Scale { component, desired, ready, minimum: 2, maximum: 4 };
        Event { at_ms: 0, fact: Fact::Observed(seen) }
    }

    #[test]
    fn an_autoscaler_is_at_rest_when_it_wants_its_least_and_has_it() {
        let (auth, model) = (Component::Auth, Component::Model);
        let of = |events: &[Event]| not_at_rest(events, &[auth].into());
        assert_eq!(of(&[]), None, "not seen yet");
        assert_eq!(of(&[scale(model, 2, 2)]), None, "another one");
        assert_eq!(of(&[scale(auth, 2, 2), scale(model, 4, 4)]), Some(Vec::new()));
        let grown = of(&[scale(auth, 2, 2), scale(auth, 4, 3)]);
        assert_eq!(grown, Some(vec!["auth wants 4 replicas, has 3, and may go to 2".to_owned()]));
        let going = of(&[scale(auth, 4, 4), scale(auth, 2, 3)]);
        assert_eq!(going.map(|left| left.len()), Some(1), "a replica goes yet");
        assert_eq!(of(&[scale(auth, 4, 4), scale(auth, 2, 2)]), Some(Vec::new()));
    }
}
