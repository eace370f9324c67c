//! A stream asked of several deployments, one after the other while nobody has begun: the first content wins.
//!
//! Who loses is dropped, which aborts its call and settles it in the ledger. Nothing was promised to the client until then.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokenhub_domain::{ErrorClass, ProviderFailure, RunContext};
use tokio::time::MissedTickBehavior;

use super::{Opened, StreamError, StreamRequest, in_turn};
use crate::World;

/// Asks the lanes of the request's candidates, each `after_ms` after the one before, or at once when that has failed.
pub(super) async fn race(
    world: &World,
    run: &RunContext,
    request: &StreamRequest,
    after_ms: u64,
    started: Instant,
) -> Result<Opened, StreamError> {
    let lanes = tokenhub_orchestrate::hedge_lanes(&request.candidates);
    let mut waiting = lanes.into_iter().map(|candidates| in_turn(world, run, request, candidates, started)).peekable();
    let mut running = FuturesUnordered::new();
    running.extend(waiting.next());
    let pause = Duration::from_millis(after_ms.max(1));
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut calls, mut first_failure) = (Vec::new(), None);
    loop {
        let ended = tokio::select! {
            ended = running.next() => ended,
            _ = clock.tick(), if waiting.peek().is_some() => {
                running.extend(waiting.next());
                continue;
            }
        };
        match ended {
            Some(Ok((attempt, of_lane, begun))) => {
                calls.extend(of_lane);
                return Ok((attempt, calls, begun));
            }
            Some(Err(StreamError::Failed(failure, of_lane))) => {
                calls.extend(of_lane);
                first_failure.get_or_insert(failure);
                running.extend(waiting.next());
                clock.reset();
            }
            Some(Err(fault @ StreamError::Fault(_))) => return Err(fault),
            None => {
                let nobody = || ProviderFailure::of(ErrorClass::BadRequest, "no model is eligible");
                return Err(StreamError::Failed(first_failure.unwrap_or_else(nobody), calls));
            }
        }
    }
}
