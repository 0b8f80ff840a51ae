//! Listener and graceful shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::cli::Role;
use crate::config::Settings;
use crate::http::app::{App, AppError};
use crate::http::inference;
use crate::http::router::router;
use crate::span::{self, Reporter};
use crate::stream::features;

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: u32 = 1024;
/// Requests in flight get so long once no new ones are accepted.
const FINISH_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum ServerError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error("failed to listen on {addr}: {error}")]
    Listen { addr: SocketAddr, error: io::Error },
    #[error("failed to install a signal handler: {0}")]
    Signal(io::Error),
    #[error("server stopped: {0}")]
    Serve(io::Error),
    #[error("requests were still in flight {} s after the drain", FINISH_MAX.as_secs())]
    Unfinished,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the server cannot start, or cannot finish its requests in time.
pub async fn run(role: Role, settings: Settings) -> Result<(), ServerError> {
    let addr = settings.listen_addr;
    let drain = settings.drain;
    let (app, reporter) = App::new(role, settings)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signal)?;
    let listener = listen(addr).map_err(|error| ServerError::Listen { addr, error })?;
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
    });
    start_tasks(&app, reporter);

    let (stop, stopped) = oneshot::channel::<()>();
    let serve = axum::serve(listener, router(role, &app))
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let mut serving = tokio::spawn(async move { serve.await });
    tracing::info!(role = role.label(), %addr, "serving");

    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        ended = &mut serving => return flatten(ended),
    };
    // Not ready first, and still serving: routers need time to notice.
    app.start_draining();
    tracing::info!(signal, drain_s = drain.as_secs(), "draining");
    sleep(drain).await;
    // The receiver is gone only when the server has ended already.
    let _ = stop.send(());
    match timeout(FINISH_MAX, &mut serving).await {
        Ok(ended) => {
            tracing::info!("stopped");
            flatten(ended)
        }
        Err(_) => {
            serving.abort();
            Err(ServerError::Unfinished)
        }
    }
}

/// What runs beside the requests; all of it ends with the process.
fn start_tasks(app: &Arc<App>, reporter: Option<Reporter>) {
    if let Some(reporter) = reporter {
        tokio::spawn(span::report(reporter));
    }
    if let Some(kv) = &app.kv {
        tokio::spawn(Arc::clone(kv).keep());
    }
    if let Some(broker) = &app.broker {
        tokio::spawn(Arc::clone(broker).keep());
        tokio::spawn(inference::sweep(Arc::clone(app)));
    }
    if let Some(relay) = &app.relay {
        tokio::spawn(Arc::clone(relay).run());
    }
    if let Some(features) = &app.features {
        let brokers = app.settings.kafka_brokers.clone();
        tokio::spawn(features::follow(brokers, Arc::clone(features), Arc::clone(&app.metrics)));
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn flatten(ended: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), ServerError> {
    ended.map_err(|error| ServerError::Serve(io::Error::other(error)))?.map_err(ServerError::Serve)
}
