//! `tokenhub-worker`: flags, logs, signals; the rest is the library.

use std::{io::Read as _, sync::Arc};

use clap::Parser;
use tokenhub_activities::FaultPoints;
use tokenhub_config::{Environment, Live, Settings, SharedFlags};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries out the workflows and activities of TokenHub.
#[derive(Parser)]
#[command(name = "tokenhub-worker", version)]
struct Arguments {
    #[command(flatten)]
    shared: SharedFlags,
}

fn main() -> anyhow::Result<()> {
    tokenhub_providers::install_tls();
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    let faults = fault_points(&environment);
    #[cfg(feature = "fault-points")]
    let core_panics_after = environment.get("TOKENHUB_FAULT_CORE_PANIC_MS").and_then(|millis| millis.parse().ok());
    let (live, warnings) = Live::load(arguments.shared.into_flags(), environment)?;
    let settings = live.settings();
    tokenhub_telemetry::init(&settings.log_level, settings.log_format)?;
    tokenhub_worker::end_with_core_thread();
    #[cfg(feature = "fault-points")]
    panic_in_core_thread(core_panics_after.map(std::time::Duration::from_millis))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = runtime(settings.worker.threads)?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(&settings, &stop)?;
        tokenhub_worker::serve(Arc::clone(&live), faults, stop).await
    });
    // What still runs beside the runtime, and cannot be stopped, is not waited for.
    runtime.shutdown_background();
    served
}

/// With one thread everything runs where Temporal's own futures are polled, and no step wakes another thread.
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let builder = if threads == 1 { Builder::new_current_thread } else { Builder::new_multi_thread };
    builder().worker_threads(threads).enable_all().build()
}

#[cfg(feature = "fault-points")]
fn fault_points(environment: &Environment) -> FaultPoints {
    if let Some(step) = environment.get("TOKENHUB_FAULT_PANIC") {
        tokenhub_workflows::fault::panic_at(step);
    }
    environment.get("TOKENHUB_FAULT_POINTS").map_or_else(FaultPoints::none, FaultPoints::parse)
}

#[cfg(not(feature = "fault-points"))]
fn fault_points(_environment: &Environment) -> FaultPoints {
    FaultPoints::none()
}

/// Does what a mistake in Temporal's core would do, where a crash test wants it.
#[cfg(feature = "fault-points")]
#[expect(clippy::panic, reason = "it is what is tried out")]
fn panic_in_core_thread(delay: Option<std::time::Duration>) -> std::io::Result<()> {
    let Some(delay) = delay else { return Ok(()) };
    let named = std::thread::Builder::new().name(tokenhub_worker::CORE_THREAD.to_owned());
    named.spawn(move || {
        std::thread::sleep(delay);
        panic!("a crash test has chosen the thread of the core");
    })?;
    Ok(())
}

/// SIGTERM and SIGINT stop the worker; so does the end of standard input where a parent holds its other end.
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
