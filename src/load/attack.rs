//! Goose: one attack a process, its users are our lanes.
//!
//! Guarantees: every lane uses the one shared client (goose's own client per user costs 112 kB and 3 ms of
//! CPU each), goose measures and prints nothing, no controller listens.
//! Caveats: goose's kill switch, logger and Ctrl-C handler are process-global, and it calls `process::exit` on the
//! second Ctrl-C; so it only ever runs in the child. Dropping `execute()` does not stop its users.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use goose::GooseAttack;
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{GooseUser, Scenario, Transaction, TransactionFunction};
use tokio::task::JoinHandle;

use super::LoadError;
use super::lane::serve_next;
use super::shared::Shared;

/// Starting a lane takes microseconds; this is for a machine that is busy with something else.
const START_MAX: Duration = Duration::from_secs(20);
/// From the kill switch until all lanes have ended: goose looks twice a second.
const STOP_MAX: Duration = Duration::from_secs(4);

/// A running attack.
#[derive(Debug)]
pub struct Attack {
    task: JoinHandle<Result<(), String>>,
}

/// Starts the lanes and waits until all of them take users.
///
/// # Errors
/// When goose refuses, or the lanes are not up in time.
pub async fn start(shared: &Arc<Shared>, lanes: usize) -> Result<Attack, LoadError> {
    let failed = |reason: String| LoadError::Goose { lanes, reason };
    let attack = build(shared, lanes).map_err(|error| failed(error.to_string()))?;
    let task =
        tokio::spawn(async move { attack.execute().await.map(drop).map_err(|error| error.to_string()) });
    let mut attack = Attack { task };
    let started = std::time::Instant::now();
    while shared.gauges.lanes_live.load(Ordering::Relaxed) < lanes {
        if attack.task.is_finished() || started.elapsed() > START_MAX {
            let live = shared.gauges.lanes_live.load(Ordering::Relaxed);
            let why = if attack.task.is_finished() { attack.ended().await } else { "too slow".to_owned() };
            return Err(failed(format!("{why}, {live} lanes were up")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(attack)
}

impl Attack {
    /// Why the attack ended, once it has.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "goose ended by itself".to_owned(),
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        }
    }

    /// Kill switch, then a deadline. The lanes must have nothing left to do.
    pub async fn stop(mut self) {
        goose::trigger_killswitch("the load was told to stop");
        if tokio::time::timeout(STOP_MAX, self.ended()).await.is_err() {
            tracing::warn!("goose did not end in time; the process ends without it");
        }
    }
}

fn build(shared: &Arc<Shared>, lanes: usize) -> Result<GooseAttack, goose::GooseError> {
    let lanes_text = lanes.to_string();
    let arguments = [
        "--host",
        &shared.spec.base_url,
        "--users",
        &lanes_text,
        // All lanes at once: the ramp is the users', not the lanes'.
        "--increase-rate",
        "100000",
        "--no-reset-metrics",
        "--no-metrics",
        "--no-print-metrics",
        "--no-telnet",
        "--no-websocket",
        "--quiet",
    ];
    let configuration = GooseConfiguration::parse_args_default(&arguments)?;
    let scenario = Scenario::new("lane")
        .register_transaction(on_start(shared))
        .register_transaction(Transaction::new(serve(shared)))
        .register_transaction(on_stop(shared));
    // Goose's own shared client: never used, but without it goose makes one for each lane.
    GooseAttack::initialize_with_config(configuration)?
        .set_client_builder_without_cookies(GooseClientBuilder::new().without_cookies())
        .map(|attack| attack.register_scenario(scenario))
}

fn on_start(shared: &Arc<Shared>) -> Transaction {
    let shared = Arc::clone(shared);
    let function: TransactionFunction = Arc::new(move |user: &mut GooseUser| {
        user.client = shared.client.clone();
        shared.gauges.lanes_live.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    });
    Transaction::new(function).set_on_start()
}

fn serve(shared: &Arc<Shared>) -> TransactionFunction {
    let shared = Arc::clone(shared);
    Arc::new(move |user: &mut GooseUser| {
        let (shared, lane) = (Arc::clone(&shared), user.weighted_users_index);
        Box::pin(async move {
            serve_next(shared, lane).await;
            Ok(())
        })
    })
}

fn on_stop(shared: &Arc<Shared>) -> Transaction {
    let shared = Arc::clone(shared);
    let function: TransactionFunction = Arc::new(move |_: &mut GooseUser| {
        shared.gauges.lanes_live.fetch_sub(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(())))
    });
    Transaction::new(function).set_on_stop()
}
