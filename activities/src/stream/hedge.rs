//! A stream asked of several deployments, one after the other while nobody has begun: the first content wins.
//!
//! Who loses is dropped, which aborts its call and settles it in the ledger. Nothing was promised to the client until then.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokenhub_domain::{ErrorClass, ProviderFailure, RunContext};
use tokenhub_orchestrate::Lanes;
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
    let Lanes { leads, rest } = tokenhub_orchestrate::hedge_lanes(&request.candidates);
    let side_by_side = leads.len();
    let behind = std::iter::once(rest).filter(|rest| !rest.is_empty());
    let lanes = leads.into_iter().map(|lead| vec![lead]).chain(behind);
    let mut waiting = lanes.map(|candidates| in_turn(world, run, request, candidates, started)).peekable();
    let (mut asked, mut is_final, mut fault) = (1, false, None);
    let mut running = FuturesUnordered::new();
    running.extend(waiting.next());
    let pause = Duration::from_millis(after_ms.max(1));
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + pause, pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut calls, mut first_failure) = (Vec::new(), None);
    loop {
        let ended = tokio::select! {
            ended = running.next() => ended,
            _ = clock.tick(), if asked < side_by_side && !is_final && waiting.peek().is_some() => {
                running.extend(waiting.next());
                asked += 1;
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
                is_final |= tokenhub_orchestrate::is_the_requests_own(failure.class);
                first_failure.get_or_insert(failure);
                // Those behind the leads are asked when all of them have failed.
                if !is_final && (asked < side_by_side || running.is_empty()) {
                    running.extend(waiting.next());
                    asked += 1;
                    clock.reset();
                }
            }
            // Who was admitted to the ledger goes on.
            Some(Err(StreamError::Fault(cause))) => fault = Some(cause),
            None => {
                if let Some(cause) = fault {
                    return Err(StreamError::Fault(cause));
                }
                let nobody = || ProviderFailure::of(ErrorClass::BadRequest, "no model is eligible");
                return Err(StreamError::Failed(first_failure.unwrap_or_else(nobody), calls));
            }
        }
    }
}
