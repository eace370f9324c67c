//! `tokenhub-api`: flags, logs, signals; the rest is the library.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use anyhow::Context;
use clap::Parser;
use tokenhub_activities::FaultPoints;
use tokenhub_config::{Environment, ListenFlags, Live, Settings, SharedFlags};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves TokenHub's HTTP API.
#[derive(Parser)]
#[command(name = "tokenhub-api", version)]
struct Arguments {
    #[command(flatten)]
    shared: SharedFlags,
    #[command(flatten)]
    listen: ListenFlags,
}

// Serving has threads of its own; here is only what goes on beside it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tokenhub_providers::install_tls();
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    let faults = fault_points(&environment);
    let mut flags = arguments.shared.into_flags();
    arguments.listen.add_to(&mut flags);
    let (live, warnings) = Live::load(flags, environment)?;
    let settings = live.settings();
    tokenhub_telemetry::init(&settings.log_level, settings.log_format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let stop = CancellationToken::new();
    stop_on_signals(&settings, &stop)?;
    let address = settings.listen_addr;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    tracing::info!(address = %bound, "listening");
    // With port 0 whoever started the process learns the port here.
    writeln!(std::io::stdout(), "listening on http://{bound}")?;
    tokenhub_api::serve_with(Arc::clone(&live), faults, listener, stop).await
}

#[cfg(feature = "fault-points")]
fn fault_points(environment: &Environment) -> FaultPoints {
    environment.get("TOKENHUB_FAULT_POINTS").map_or_else(FaultPoints::none, FaultPoints::parse)
}

#[cfg(not(feature = "fault-points"))]
fn fault_points(_environment: &Environment) -> FaultPoints {
    FaultPoints::none()
}

/// SIGTERM and SIGINT drain the API; so does the end of standard input where a parent holds its other end.
fn stop_on_signals(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        on_signal.cancel();
    });
    if settings.stop_at_end_of_stdin {
        let on_end = stop.clone();
        // A thread of its own: the runtime would wait for a read that is stuck in it.
        std::thread::spawn(move || {
            let mut ignored = [0_u8; 64];
            let mut stdin = std::io::stdin();
            while stdin.read(&mut ignored).is_ok_and(|count| count > 0) {}
            on_end.cancel();
        });
    }
    Ok(())
}
