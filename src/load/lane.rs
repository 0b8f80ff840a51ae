//! A lane: takes the user who has waited longest, makes their step, records it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::classify::Judged;
use super::queue::Due;
use super::send::{Ask, Done, send};
use super::shared::Shared;
use crate::model::{ErrorClass, Operation, OperationOutcome};

/// How long a lane rests when there is nothing left to do. Goose calls again at once, and a
/// transaction that never awaits would hang the runtime.
const CLOSED_PAUSE: Duration = Duration::from_millis(20);

/// Serves one user. Never fails and never panics: a lane that ends is one that goose does not miss.
pub async fn serve_next(shared: Arc<Shared>, lane: usize) {
    let Some(due) = shared.queue.next().await else {
        tokio::time::sleep(CLOSED_PAUSE).await;
        return;
    };
    shared.gauges.set_in_flight(lane, shared.clock.now_us().max(1));
    let served = AssertUnwindSafe(serve(&shared, &due)).catch_unwind().await;
    shared.gauges.set_in_flight(lane, 0);
    let operation = match served {
        Ok(operation) => operation,
        Err(_) => {
            tracing::error!(lane, step = due.step, "request panicked");
            panicked(&shared, &due, shared.clock.now_us())
        }
    };
    if operation.error.is_some_and(|class| class.is_generators_own()) {
        shared.gauges.board.limit(operation.intended_us, operation.done_us);
    }
    shared.recorder.record(operation).await;
    shared.queue.settle();
}

async fn serve(shared: &Shared, due: &Due) -> Operation {
    let script = &shared.script;
    let intended = &script.steps[due.step as usize];
    // Without the answer that this step builds on, the user begins the journey again.
    let has_all = shared.vars.has_own(due.user, &intended.needs);
    let step = if has_all { intended } else { &script.steps[script.restart(due.step) as usize] };
    let ask = Ask {
        step,
        op: operation_id(shared, due),
        user: due.user,
        draw: due.draw,
        intended_us: due.intended_us,
    };
    let Done { operation, extracted } = send(shared, &ask).await;
    for (index, value) in extracted {
        shared.vars.set_own(due.user, index, value);
    }
    operation
}

/// The operation of a request that was given up before any lane took it.
pub fn unserved(shared: &Shared, due: &Due, class: ErrorClass, done_us: u64) -> Operation {
    let step = &shared.script.steps[due.step as usize];
    Operation {
        id: (!step.writes.is_empty()).then(|| operation_id(shared, due).into()),
        step: step.name,
        writes: step.writes,
        reads: None,
        intended_us: due.intended_us,
        sent_us: done_us,
        done_us,
        outcome: OperationOutcome::Failed,
        error: Some(class),
        status: None,
        degraded: false,
        seen: None,
    }
}

/// Our own bug, in the middle of a request: a write may have happened.
fn panicked(shared: &Shared, due: &Due, done_us: u64) -> Operation {
    let operation = unserved(shared, due, ErrorClass::Other, done_us);
    let judged = Judged::unsure(ErrorClass::Other, !operation.writes.is_empty());
    Operation { outcome: judged.outcome, ..operation }
}

fn operation_id(shared: &Shared, due: &Due) -> String {
    format!("{}-{}", shared.spec.run, due.sequence)
}
