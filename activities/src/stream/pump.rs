//! From the first content to the last byte: events to the client, the bill to the ledger.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::BoxStream};
use tokenhub_domain::{ErrorClass, ProviderFailure, RunContext, TokenUsage};
use tokenhub_providers::{EventKind, StreamEvent};
use tokenhub_store::Settlement;
use tokenhub_workflows::contract::StreamLog;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{Attempt, EVENTS_BUFFERED, OpenStream, StreamItem, TriedCall, elapsed_ms, gate::Begun, item_of};
use crate::{World, bill, clock};

/// A client that reads nothing for this long is gone, whatever its connection says.
const READER_PATIENCE: Duration = Duration::from_mins(1);

/// What a stream has shown so far.
#[derive(Default)]
struct Seen {
    usage: TokenUsage,
    usage_json: Option<String>,
    finish_reason: Option<String>,
    done: bool,
}

impl Seen {
    fn note(&mut self, event: &StreamEvent) {
        if let Some(usage) = event.usage {
            self.usage = usage;
            self.usage_json.clone_from(&event.usage_json);
        }
        if event.finish_reason.is_some() {
            self.finish_reason.clone_from(&event.finish_reason);
        }
        self.done |= event.kind == EventKind::Done;
    }
}

/// Starts the pump for the last of `calls` as a tracked task of the process.
pub(super) fn start(
    world: &Arc<World>,
    tracker: &TaskTracker,
    run: &RunContext,
    (mut attempt, calls): (Attempt, Vec<TriedCall>),
    begun: Begun,
    started: Instant,
) -> OpenStream {
    let (items_in, items) = mpsc::channel(EVENTS_BUFFERED);
    let (log_in, log) = oneshot::channel();
    let deployment = attempt.deployment.clone();
    let (world, run) = (Arc::clone(world), run.clone());
    let mut seen = Seen::default();
    let first_token_ms = calls.last().map_or(0, |call| call.elapsed_ms);
    let Begun { losses, held, rest } = begun;
    let first = held.iter().inspect(|event| seen.note(event)).filter_map(item_of).collect();
    tracker.spawn(async move {
        let failure = pass(rest, &mut seen, &items_in).await;
        // Only now: a stream that breaks off is no proof of health.
        world.health.note(&attempt.deployment, failure.as_ref().map_or(Ok(()), Err), attempt.began);
        let entry = settle(&world, run, &mut attempt, &seen, failure.as_ref(), started);
        match &failure {
            None => world.observed.streamed(attempt.call(), first_token_ms, entry.cost),
            Some(failure) => world.observed.failed(attempt.call(), failure.class, entry.latency_ms),
        }
        if let Some(failure) = failure {
            // The client may be gone; then nobody waits for the word.
            let _ = items_in.send(StreamItem::Failed(failure)).await;
        }
        let _ = log_in.send(entry);
    });
    OpenStream { deployment, calls, losses, first, items, log }
}

async fn pass(
    mut rest: BoxStream<'static, Result<StreamEvent, ProviderFailure>>,
    seen: &mut Seen,
    items: &mpsc::Sender<StreamItem>,
) -> Option<ProviderFailure> {
    while !seen.done {
        let event = tokio::select! {
            event = rest.next() => event,
            () = items.closed() => return Some(gone()),
        };
        match event {
            Some(Ok(event)) => {
                seen.note(&event);
                if let Some(failure) = forward(&event, items).await {
                    return Some(failure);
                }
            }
            Some(Err(failure)) => return Some(failure),
            None if seen.finish_reason.is_some() => return None,
            None => return Some(ProviderFailure::of(ErrorClass::StreamBroken, "the stream ended without an end mark")),
        }
    }
    None
}

async fn forward(event: &StreamEvent, items: &mpsc::Sender<StreamItem>) -> Option<ProviderFailure> {
    let item = item_of(event)?;
    match tokio::time::timeout(READER_PATIENCE, items.send(item)).await {
        Ok(sent) => sent.err().map(|_| gone()),
        Err(_) => Some(ProviderFailure::of(ErrorClass::Cancelled, "the client stopped reading")),
    }
}

fn gone() -> ProviderFailure {
    ProviderFailure::of(ErrorClass::Cancelled, "the client closed the connection")
}

/// Tokens were used even where the stream broke off, so every stream that began is settled with what it reported.
fn settle(
    world: &World,
    run: RunContext,
    attempt: &mut Attempt,
    seen: &Seen,
    failure: Option<&ProviderFailure>,
    started: Instant,
) -> StreamLog {
    let finish_reason = match failure {
        None => seen.finish_reason.clone(),
        Some(failure) => Some(failure.class.as_str().to_owned()),
    };
    let counted = (seen.usage, seen.usage_json.clone());
    // Of one that broke off the client has got what there is: it is an answer, if a short one.
    let settlement = Settlement {
        finish_reason,
        ..bill::settlement(world, &attempt.deployment, counted, elapsed_ms(attempt.started))
    };
    let cost = settlement.cost;
    let settled = attempt.settle(settlement);
    if let Err(error) = settled {
        tracing::error!(%error, attempt = %attempt.id, "a streamed answer could not be settled");
    }
    StreamLog {
        run,
        model: Some(attempt.deployment.model.clone()),
        provider: Some(attempt.deployment.provider.clone()),
        usage: seen.usage,
        cost,
        latency_ms: elapsed_ms(started),
        error_class: failure.map(|failure| failure.class),
        ended_at: clock::now(),
    }
}
