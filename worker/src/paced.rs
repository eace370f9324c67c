//! One queue for each provider that may only be called so often: Temporal hands its calls out at that rate, over all
//! workers together.
//!
//! Follows the catalogue. A queue is polled until the process ends, also when its provider has no limit any more: calls
//! may still be waiting there. Every worker of a queue must name the same rate, because the last to poll decides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use temporalio_client::Client;
use temporalio_sdk::{Runtime, Worker};
use tokenhub_activities::{Activities, World};
use tokenhub_config::{Settings, TemporalSettings};
use tokenhub_domain::{CallRate, ProviderId};
use tokenhub_workflows::contract::queue_of;
use tokio_util::sync::CancellationToken;

use crate::options;

/// How long a new limit is unknown here, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the workers of the queues are made of.
pub(crate) struct Parts<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) client: Client,
    pub(crate) settings: &'a Settings,
    pub(crate) temporal: &'a TemporalSettings,
    pub(crate) world: &'a Arc<World>,
}

/// A queue that is polled.
struct Polled {
    rate: CallRate,
    shut_down: Box<dyn Fn()>,
}

type Running<'a> = LocalBoxFuture<'a, ProviderId>;

/// Polls until `stop`; then finishes the calls it is in.
pub(crate) async fn serve(parts: Parts<'_>, stop: &CancellationToken) {
    let mut polled: BTreeMap<ProviderId, Polled> = BTreeMap::new();
    let mut running: FuturesUnordered<Running<'_>> = FuturesUnordered::new();
    while !stop.is_cancelled() {
        follow(&parts, &mut polled, &mut running);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            // One that was shut down for another rate is started again by the next look, with that rate.
            Some(ended) = running.next() => drop(polled.remove(&ended)),
        }
    }
    for queue in polled.values() {
        (queue.shut_down)();
    }
    while running.next().await.is_some() {}
}

/// Begins to poll for new limits, and ends the workers whose rate has changed.
fn follow<'a>(
    parts: &Parts<'a>,
    polled: &mut BTreeMap<ProviderId, Polled>,
    running: &mut FuturesUnordered<Running<'a>>,
) {
    let catalogue = parts.world.catalogue.load_full();
    for provider in &catalogue.providers {
        match (polled.get_mut(&provider.id), provider.max_rate) {
            (Some(queue), Some(rate)) if queue.rate != rate => {
                queue.rate = rate;
                (queue.shut_down)();
            }
            (None, Some(rate)) => match start(parts, provider.id.clone(), rate) {
                Ok((queue, run)) => {
                    tracing::info!(provider = %provider.id, rate = rate.as_per_second(), "polling a provider's own queue");
                    polled.insert(provider.id.clone(), queue);
                    running.push(run);
                }
                Err(error) => tracing::error!(%error, provider = %provider.id, "a provider's queue is not polled"),
            },
            (Some(_) | None, _) => {}
        }
    }
}

fn start<'a>(parts: &Parts<'a>, provider: ProviderId, rate: CallRate) -> anyhow::Result<(Polled, Running<'a>)> {
    let queue = queue_of(&parts.temporal.task_queue, &provider);
    let options = options::paced(parts.settings, queue, rate, Activities::new(Arc::clone(parts.world)));
    let mut worker =
        Worker::new(parts.runtime, parts.client.clone(), options).map_err(|error| anyhow::anyhow!("{error}"))?;
    let shut_down = Box::new(worker.shutdown_handle());
    let run = async move {
        if let Err(error) = worker.run().await {
            tracing::error!(error = &error as &dyn std::error::Error, %provider, "a provider's queue is not polled now");
        }
        provider
    };
    Ok((Polled { rate, shut_down }, Box::pin(run)))
}
