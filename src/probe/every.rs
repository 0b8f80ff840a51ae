//! The beat of probes that ask once in a while.

use std::future::Future;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Looks at once, and then each `period`, until `end`. A look that takes longer delays the next one.
pub async fn every<F: Future<Output = ()>>(
    period: Duration,
    end: &CancellationToken,
    mut look: impl FnMut(u64) -> F,
) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = look(number) => {}
        }
    }
}
