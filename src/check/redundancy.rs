//! When a component had all its members back.

use crate::model::{Component, Fact, Observation, Timeline};

use super::hit::Hit;
use super::pods::replaced_ms;

/// What the timeline says about a component's members after the injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    /// Nobody counted the members, or nobody did while they should have been full.
    NotObserved,
    /// The last count is below what is wanted (or was wanted before the fault).
    StillLower { have: u32, want: u32 },
    /// The loss of a member was never noticed, so its return cannot be vouched for.
    LossNotSeen,
    /// Full since then, ms on the run's clock, until the end of the timeline.
    At(u64),
}

/// Definition: a count is *full* when as many members serve and are in sync as are wanted, and as were
/// wanted before the fault. Restored is the first full count after the last one that was not full. When
/// the counts never showed the loss (they are taken every few hundred ms, a pod can be replaced in
/// between), new pods under new uids testify instead, one for each pod of the component that was hit,
/// provided that some probe still looked afterwards. Without either: the loss was not seen. Once it was full after its loss,
/// an autoscaler may want fewer; before that, fewer wanted is no recovery.
pub(super) fn restored(timeline: &Timeline, hit: &Hit, component: Component) -> Restored {
    let counts: Vec<(u64, u32, u32)> = timeline
        .observations(0)
        .filter_map(|(at_ms, observation)| match observation {
            Observation::Redundancy { component: of, have, want } if *of == component => {
                Some((at_ms, *have, *want))
            }
            _ => None,
        })
        .collect();
    let Some(&(_, have, want)) = counts.last() else {
        return Restored::NotObserved;
    };
    let before = counts.iter().filter(|(at_ms, ..)| *at_ms < hit.injection_ms);
    let Some(wanted) = before.map(|(_, _, want)| *want).max().filter(|want| *want > 0) else {
        return Restored::NotObserved;
    };
    let replaced = replaced_ms(timeline, hit, component);
    let (mut wanted, mut lost, mut full_since) = (wanted, false, None);
    for (at_ms, have, want) in counts.into_iter().filter(|(at_ms, ..)| *at_ms >= hit.injection_ms) {
        let was_complete = if lost { full_since.is_some() } else { replaced.is_some_and(|by| by <= at_ms) };
        if was_complete && have >= want {
            wanted = want;
        }
        if have >= want.max(wanted) {
            full_since = full_since.or(lost.then_some(at_ms));
        } else {
            (lost, full_since) = (true, None);
        }
    }
    match (lost, full_since, replaced) {
        (true, Some(at_ms), _) => Restored::At(at_ms),
        (true, None, _) => Restored::StillLower { have, want: want.max(wanted) },
        (false, _, Some(at_ms)) if looked_after(timeline, at_ms) => Restored::At(at_ms),
        (false, ..) => Restored::LossNotSeen,
    }
}

/// Whether any probe looked after a moment.
fn looked_after(timeline: &Timeline, at_ms: u64) -> bool {
    timeline.events.iter().any(|event| {
        event.at_ms > at_ms
            && matches!(
                event.fact,
                Fact::Observed(Observation::Heartbeat { .. } | Observation::Redundancy { .. })
            )
    })
}
