//! The page of a worker's figures, where an address for it is configured.
//!
//! Without one nothing is counted for it: the Temporal SDK then has nobody to count for.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use tokenhub_activities::World;
use tokenhub_telemetry::{CONTENT_TYPE, Metrics, TemporalFigures};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Clone)]
struct Page {
    world: Arc<World>,
    metrics: Arc<Metrics>,
}

/// Listens until `stop`; gives what the SDK is to count with.
pub(crate) async fn serve(
    address: SocketAddr,
    world: Arc<World>,
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<TemporalFigures> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("no page of metrics at {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics are at /metrics");
    let metrics = Arc::new(Metrics::new());
    let temporal = metrics.temporal();
    let pages = Router::new().route("/metrics", get(page)).with_state(Page { world, metrics });
    let ends = stop.clone().cancelled_owned();
    tracker.spawn(async move {
        // A reader that keeps its connection open must not keep the worker from stopping.
        let serving = axum::serve(listener, pages);
        tokio::select! {
            served = serving => tracing::warn!(?served, "the page of metrics is gone"),
            () = ends => {}
        }
    });
    Ok(temporal)
}

async fn page(State(Page { world, metrics }): State<Page>) -> impl IntoResponse {
    metrics.runs(world.counts.snapshot());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render())
}
