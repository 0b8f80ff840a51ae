//! The step of the load: more users for a while, beside the faults or instead of them. It changes nothing in the cluster,
//! so nothing has to be undone; the load steps back whatever becomes of the window.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use super::experiment::Context;
use super::{Load, RunningLoad, World, WorldError};
use crate::model::{Fact, LoadStep};

/// Runs the window, and the step meanwhile. The window ends when it ends: no revert waits for a step.
pub(super) async fn with_step<W: World, L: Load, T>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    window: impl Future<Output = T>,
) -> (T, Result<(), WorldError>) {
    let Some(step) = context.experiment.load.step else { return (window.await, Ok(())) };
    let (mut up, mut failed) = (false, None);
    let done = tokio::select! {
        biased;
        done = window => done,
        never = stepping(context, load, step, &mut up, &mut failed) => match never {},
    };
    let back = if up { told(context, load, step, false).await } else { Ok(()) };
    (done, failed.map_or(back, Err))
}

/// Up, and down again; then nothing more.
async fn stepping<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    step: LoadStep,
    up: &mut bool,
    failed: &mut Option<WorldError>,
) -> Infallible {
    let seconds = |count: u32| Duration::from_secs(u64::from(count));
    if context.stop.sleep(seconds(step.at_seconds)).await.is_ok() {
        *up = true;
        *failed = told(context, load, step, true).await.err();
        // A stop ends the window, and that the step.
        if failed.is_none() && context.stop.sleep(seconds(step.hold_seconds)).await.is_ok() {
            *failed = told(context, load, step, false).await.err();
            *up = failed.is_some();
        }
    }
    std::future::pending().await
}

async fn told<W: World, L: Load>(
    context: &Context<'_, W, L>,
    load: &mut L::Running,
    step: LoadStep,
    up: bool,
) -> Result<(), WorldError> {
    load.step(up).await?;
    let users = if up { step.users } else { context.experiment.load.users };
    context.recorder.record(Fact::LoadStepped { users, up });
    Ok(())
}
