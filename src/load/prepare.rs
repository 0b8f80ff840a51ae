//! The steps that are made once, before the load.

use std::time::Duration;

use super::LoadError;
use super::script::ScriptStep;
use super::send::{Ask, send};
use super::shared::Shared;
use super::vars::{Value, mix};
use crate::model::OperationOutcome;

/// One request of a preparing step is tried this often.
const ATTEMPTS_MAX: u32 = 30;
const PAUSE: Duration = Duration::from_millis(500);

/// Makes all preparing steps, in order, and shares what they extracted. Each attempt is an operation
/// with an id of its own, so that the ledger can account for every one.
///
/// # Errors
/// When a request is not acknowledged in 30 attempts, or all together take longer than the limit.
pub async fn prepare(shared: &Shared) -> Result<u64, LoadError> {
    let limit = Duration::from_secs(shared.spec.limits.prepare_seconds_max);
    let waited_ms = limit.as_millis() as u64;
    let all = tokio::time::timeout(limit, prepare_all(shared));
    all.await.unwrap_or(Err(LoadError::Deadline { what: "prepare", waited_ms }))
}

async fn prepare_all(shared: &Shared) -> Result<u64, LoadError> {
    let mut lists = vec![Vec::new(); shared.script.shared_count];
    let (mut acknowledged, mut number) = (0, 0);
    for step in &shared.script.prepare {
        for _ in 0..step.repeat {
            for (index, value) in prepare_one(shared, step, &mut number).await? {
                lists[index as usize].push(value);
            }
            acknowledged += 1;
        }
        shared.vars.share(lists.clone());
    }
    Ok(acknowledged)
}

async fn prepare_one(
    shared: &Shared,
    step: &ScriptStep,
    number: &mut u64,
) -> Result<Vec<(u16, Value)>, LoadError> {
    let mut reason = String::new();
    for _ in 0..ATTEMPTS_MAX {
        let ask = Ask {
            step,
            op: format!("{}-p{number}", shared.spec.run),
            user: 0,
            draw: mix(shared.spec.seed.0, u64::MAX, *number),
            intended_us: shared.clock.now_us(),
        };
        *number += 1;
        let done = send(shared, &ask).await;
        let (outcome, error, status) = (done.operation.outcome, done.operation.error, done.operation.status);
        shared.recorder.record(done.operation).await;
        if outcome == OperationOutcome::Ok {
            return Ok(done.extracted);
        }
        reason = match (error, status) {
            (_, Some(status)) => format!("status {status}"),
            (Some(class), None) => format!("{class:?}"),
            (None, None) => "no answer".to_owned(),
        };
        tokio::time::sleep(PAUSE).await;
    }
    Err(LoadError::Prepare { step: step.name.to_string(), reason, attempts: ATTEMPTS_MAX })
}
