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
/// provided that some probe still looked afterwards. Without either: the loss was not seen.
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
    let full = |have: u32, want: u32| have >= want.max(wanted);
    if !full(have, want) {
        return Restored::StillLower { have, want: want.max(wanted) };
    }
    let after: Vec<_> = counts.into_iter().filter(|(at_ms, ..)| *at_ms >= hit.injection_ms).collect();
    if let Some(lower) = after.iter().rposition(|(_, have, want)| !full(*have, *want)) {
        // The last count is full, so one follows the last that is not.
        return after.get(lower + 1).map_or(Restored::NotObserved, |(at_ms, ..)| Restored::At(*at_ms));
    }
    match replaced_ms(timeline, hit, component) {
        Some(at_ms) if looked_after(timeline, at_ms) => Restored::At(at_ms),
        _ => Restored::LossNotSeen,
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
