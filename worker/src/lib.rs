//! The worker process: polls Temporal and carries out workflows and activities.
//!
//! Wiring only. Owns the order of start and stop; what a workflow or an activity does is elsewhere.

mod connection;
mod core_thread;
mod figures;
mod options;
mod paced;
mod promotion;
mod reload;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use temporalio_common::telemetry::TelemetryOptions;
use temporalio_sdk::{Runtime, Worker, runtime::RuntimeOptions};
use tokenhub_activities::{Activities, Curator, FaultPoints, PayloadCodec, World, WorldError, WorldParts};
use tokenhub_config::{Live, Settings, TemporalSettings};
use tokenhub_telemetry::TemporalFigures;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use core_thread::{CORE_THREAD, end_with_core_thread};

/// Between two tries to start polling again.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// How long the start waits for providers to list their models.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(5);

/// Polls until `stop`; then finishes the steps it is in, within the grace period.
pub async fn serve(live: Arc<Live>, faults: FaultPoints, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = live.settings();
    let temporal = settings.temporal.clone().context("a worker needs Temporal: set TEMPORAL_ADDRESS")?;
    let tracker = TaskTracker::new();
    // The ledger outlives the worker: it drains after the last step.
    let ledger_stop = CancellationToken::new();
    let Some(world) = open_world(&settings, &faults, &tracker, &ledger_stop, &stop).await? else { return Ok(()) };
    let curator = Arc::new(Curator::new(Arc::clone(&world), Arc::clone(&live))?);
    curator.catch_up().await.context("the catalogue cannot be read")?;
    tracker.spawn(Arc::clone(&curator).keep_following(stop.clone()));
    let interval = Duration::from_secs(settings.probe_interval_secs);
    tracker.spawn(tokenhub_activities::prober::keep_probing(Arc::clone(&world), interval, stop.clone()));
    reload::watch(curator, Arc::clone(&world), stop.clone(), &tracker)?;
    tracker.spawn(tokenhub_activities::discovery::keep_discovering(Arc::clone(&world), stop.clone()));
    // A run for a listed model must not come before the list; a provider that is away must not hold up the others.
    let _ = tokio::time::timeout(DISCOVERY_PATIENCE, tokenhub_activities::discovery::discover(&world)).await;
    let figures = match settings.worker.metrics_addr {
        Some(address) => Some(figures::serve(address, Arc::clone(&world), &stop, &tracker).await?),
        None => None,
    };
    let polled = poll(&settings, &temporal, &world, figures, &stop).await;
    stop.cancel();
    if let Err(error) = world.ledger.flush().await {
        tracing::warn!(%error, "the spool is left for the next process");
    }
    ledger_stop.cancel();
    tracker.close();
    tracker.wait().await;
    polled
}

/// Opens the database, waiting for one that is not there yet; `None` when the process stops first.
async fn open_world(
    settings: &Settings,
    faults: &FaultPoints,
    tracker: &TaskTracker,
    ledger_stop: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<World>>> {
    loop {
        match World::open(WorldParts::of(settings, faults.clone()), tracker, ledger_stop.clone()).await {
            Ok(world) => return Ok(Some(Arc::new(world))),
            Err(WorldError::OpenStore(error)) if error.is_unavailable() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the database");
            }
            Err(error) => return Err(error).context("the worker cannot start"),
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_INTERVAL) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

async fn poll(
    settings: &Settings,
    temporal: &TemporalSettings,
    world: &Arc<World>,
    figures: Option<TemporalFigures>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let telemetry = TelemetryOptions::builder().maybe_metrics(figures.as_ref().map(TemporalFigures::of_worker)).build();
    let options = RuntimeOptions::builder().telemetry_options(telemetry).build().map_err(anyhow::Error::msg)?;
    let meter = figures.as_ref().map(TemporalFigures::of_connection);
    let runtime = Runtime::from_current_tokio(options).context("the Temporal runtime did not start")?;
    let codec = PayloadCodec::new(&settings.payload_keys).context("the payload keys cannot be used")?;
    while !stop.is_cancelled() {
        let Some(client) = connection::connect(temporal, &world.instance, &codec, meter.as_ref(), stop).await else {
            break;
        };
        let options = options::worker(settings, temporal, Activities::new(Arc::clone(world)))?;
        let mut worker = Worker::new(&runtime, client.clone(), options).map_err(|error| anyhow::anyhow!("{error}"))?;
        let shut_down = worker.shutdown_handle();
        tracing::info!(address = %temporal.address, queue = %temporal.task_queue, "polling");
        // What belongs to this worker ends with it.
        let ends = stop.child_token();
        let polling = async {
            let run = worker.run();
            tokio::pin!(run);
            let result = tokio::select! {
                result = &mut run => result,
                () = stop.cancelled() => {
                    tracing::info!("stopping: no new tasks, the running ones are finished");
                    shut_down();
                    run.await
                }
                () = codec.locked_out() => {
                    tracing::error!(
                        "payloads at Temporal are encrypted and TOKENHUB_PAYLOAD_KEYS is not set: this worker takes no \
                         more tasks until it is started with the keys, so that none is lost"
                    );
                    ends.cancel();
                    shut_down();
                    let result = run.await;
                    stop.cancelled().await;
                    result
                }
            };
            ends.cancel();
            result
        };
        let promoting = promotion::promote(settings, temporal, &client, &ends);
        let parts = paced::Parts { runtime: &runtime, client: client.clone(), settings, temporal, world };
        let (result, (), ()) = tokio::join!(polling, paced::serve(parts, &ends), promoting);
        if let Err(error) = result {
            tracing::error!(error = &error as &dyn std::error::Error, "the worker stopped polling; it starts again");
            tokio::select! {
                () = tokio::time::sleep(RESTART_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    Ok(())
}
