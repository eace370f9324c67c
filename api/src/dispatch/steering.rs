//! Asking something of a run while it runs: the row first, then whoever carries the run is told.
//!
//! The row is the request, so nothing that happens to the telling can lose it. A process looks at the rows whenever it
//! renews its lease; a workflow is told by a signal that says what was asked, here at once, and by every sweep until
//! Temporal has taken it. What is asked only grows, so telling twice does no harm. Must not know HTTP.

use std::sync::Arc;

use futures_util::future::join_all;
use tokenhub_activities::plan_events;
use tokenhub_domain::{
    Bounds, Owner, PlanSpec, PrincipalId, RunId, SpecBase, Steering, SteeringRequest, StopReason, UnixMicros, Use,
    limits,
};
use tokenhub_store::{Accepted, NewSignal, RunRow, SignalRow, UntoldSignal};
use uuid::Uuid;

use super::{Shared, durable, launch, now};
use crate::{
    error::{Problem, SteeringRefusal},
    parse::steering::SteeringWish,
};

const AFTER_STEP: &str = "stopped by the client before its first step";

/// Something that somebody asks of a run.
#[derive(Clone, Debug)]
pub(crate) struct Steer {
    /// What.
    pub(crate) wish: SteeringWish,
    /// What makes it the same as another request, where the client says so.
    pub(crate) key: Option<String>,
    /// Who asks.
    pub(crate) principal: PrincipalId,
}

/// Asks it, unless it was asked before.
pub(super) async fn steer(shared: &Arc<Shared>, row: &RunRow, asked: Steer) -> Result<(), Problem> {
    let signals = shared.world.store.signals();
    let before = signals.of_run(&row.tenant, &row.run_id).await.map_err(|error| launch::away(&error))?;
    let Some(request) = held_against(row, &before, &asked)? else { return Ok(()) };
    let signal = NewSignal {
        tenant: row.tenant.clone(),
        run_id: row.run_id.clone(),
        key: key_of(&asked, request),
        request,
        principal: asked.principal,
        at: now(),
    };
    let event = plan_events::steered(&signal.key, request, &signal.principal, signal.at);
    match signals.accept(&signal, &event).await.map_err(|error| launch::away(&error))? {
        Accepted::Now => {
            tracing::info!(run = %row.run_id, key = signal.key, "something was asked of a plan");
            tell_carrier(shared, row, &signal);
        }
        Accepted::AsBefore => {}
        Accepted::Otherwise => return Err(Problem::IdempotencyMismatch),
        Accepted::Ended => {
            let ended = shared.world.store.runs().get(&row.tenant, &row.run_id).await;
            let status = ended.map_err(|error| launch::away(&error))?.map_or(row.status, |row| row.status);
            return Err(SteeringRefusal::Ended { id: row.run_id.to_string(), status }.into());
        }
        Accepted::TooMany => return Err(SteeringRefusal::TooMany { id: row.run_id.to_string() }.into()),
    }
    if request == SteeringRequest::StopAfterStep && row.owner.is_none() {
        // Nothing was begun, so there is nothing to wait for. Whoever has claimed it meanwhile hears of the request.
        let outcome =
            tokenhub_domain::Outcome { stop_reason: StopReason::CancelledAfterStep, ..launch::cancelled(AFTER_STEP) };
        launch::end_unclaimed(shared, (&row.tenant, &row.run_id), &outcome).await?;
    }
    Ok(())
}

/// The request as it is for this run; nothing where it would change nothing. One that was made before is not looked at
/// again, because it may have become true.
fn held_against(row: &RunRow, before: &[SignalRow], asked: &Steer) -> Result<Option<SteeringRequest>, Problem> {
    let id = || row.run_id.to_string();
    if row.last_seq == 0 {
        return Err(SteeringRefusal::NotSteerable { id: id() }.into());
    }
    let spec: PlanSpec = serde_json::from_str(&row.spec_json).map_err(|_| Problem::Internal)?;
    let base = spec.base();
    let request = request_of(row, base, asked.wish)?;
    let is_known = before.iter().any(|signal| signal.key == key_of(asked, request));
    if is_known {
        return Ok(Some(request));
    }
    if row.status.is_final() {
        return Err(SteeringRefusal::Ended { id: id(), status: row.status }.into());
    }
    match request {
        SteeringRequest::AnswerNow | SteeringRequest::StopAfterStep => {}
        SteeringRequest::AddBudget(more) => {
            if let Some(param) = unbounded(base.bounds, more) {
                return Err(Problem::invalid(param, "the plan has no such bound"));
            }
        }
        SteeringRequest::ExtendDeadline { deadline_ms } => {
            let asked_ms =
                before.iter().fold(Steering::default(), |sum, it| sum.and(it.request.steering())).deadline_ms;
            let present_ms = asked_ms.unwrap_or_default().max(base.first_deadline_ms());
            let param = param_of(asked.wish);
            if deadline_ms == present_ms {
                return Ok(None);
            }
            if deadline_ms < present_ms {
                let rule =
                    format!("must be later than the deadline that the plan has, {present_ms} ms after its start");
                return Err(Problem::invalid(param, rule));
            }
            if started_at(row).plus_millis(deadline_ms) <= now() {
                return Err(Problem::invalid(param, "has passed"));
            }
        }
    }
    Ok(Some(request))
}

fn request_of(row: &RunRow, base: &SpecBase, wish: SteeringWish) -> Result<SteeringRequest, Problem> {
    let deadline_ms = match wish {
        SteeringWish::AnswerNow => return Ok(SteeringRequest::AnswerNow),
        SteeringWish::StopAfterStep => return Ok(SteeringRequest::StopAfterStep),
        SteeringWish::AddBudget(more) => return Ok(SteeringRequest::AddBudget(more)),
        SteeringWish::DeadlineMs(millis) => millis,
        SteeringWish::DeadlineAt(at) => at.millis_since(started_at(row)),
    };
    // Temporal ends a workflow some time after the longest deadline, and that is said when it is started.
    let longest_ms = limits::RUN_DEADLINE_MS.max(base.deadline_ms);
    if deadline_ms > longest_ms {
        let rule = format!("a plan ends {longest_ms} ms after its start at the latest");
        return Err(Problem::invalid(param_of(wish), rule));
    }
    Ok(SteeringRequest::ExtendDeadline { deadline_ms })
}

fn param_of(wish: SteeringWish) -> &'static str {
    match wish {
        SteeringWish::DeadlineAt(_) => "deadline_at",
        SteeringWish::DeadlineMs(_) => "deadline_ms",
        SteeringWish::AnswerNow | SteeringWish::StopAfterStep | SteeringWish::AddBudget(_) => "type",
    }
}

/// What is to be added to a limit that there is not.
fn unbounded(bounds: Bounds, more: Use) -> Option<&'static str> {
    if more.cost.0 > 0 && bounds.max_cost.is_none() {
        Some("max_cost_usd")
    } else if more.tokens > 0 && bounds.max_tokens.is_none() {
        Some("max_tokens")
    } else if more.calls > 0 && bounds.max_calls.is_none() {
        Some("max_calls")
    } else {
        None
    }
}

/// Its clock runs from here.
fn started_at(row: &RunRow) -> UnixMicros {
    row.started_at.unwrap_or(row.created_at)
}

/// What can be asked only once has a key of its own; more room without one is given each time.
fn key_of(asked: &Steer, request: SteeringRequest) -> String {
    match (request, &asked.key) {
        (SteeringRequest::AnswerNow, _) => "answer_now".to_owned(),
        (SteeringRequest::StopAfterStep, _) => "after_step".to_owned(),
        (SteeringRequest::AddBudget(_) | SteeringRequest::ExtendDeadline { .. }, Some(key)) => format!("id|{key}"),
        (SteeringRequest::AddBudget(_), None) => format!("once|{}", Uuid::now_v7().simple()),
        (SteeringRequest::ExtendDeadline { deadline_ms }, None) => format!("deadline|{deadline_ms}"),
    }
}

/// A task of the process, so that whoever asked need not wait for Temporal.
fn tell_carrier(shared: &Arc<Shared>, row: &RunRow, signal: &NewSignal) {
    shared.running_here.look(&row.run_id);
    let is_of_process = row.owner.as_ref().is_some_and(Owner::expires);
    let Some(workflow_id) = row.workflow_id.clone().filter(|_| !is_of_process) else { return };
    let untold =
        UntoldSignal { run_id: signal.run_id.clone(), key: signal.key.clone(), request: signal.request, workflow_id };
    let telling = Arc::clone(shared);
    shared.tasks.spawn(async move { tell(&telling, &untold).await });
}

/// Tells the workflows of requests of which they may not know: whoever asked could not, or died before.
pub(super) async fn tell_untold(shared: &Shared) {
    match shared.world.store.signals().untold().await {
        Ok(untold) => {
            join_all(untold.iter().map(|signal| tell(shared, signal))).await;
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "signals could not be looked for");
        }
    }
}

async fn tell(shared: &Shared, UntoldSignal { run_id, key, request, workflow_id }: &UntoldSignal) {
    let Some(connected) = shared.link.as_ref().and_then(|link| link.connected()) else { return };
    let steering = request.steering();
    if steering == Steering::default() {
        return;
    }
    match durable::tell_steered(&connected, workflow_id, steering).await {
        Ok(true) => note_told(shared, run_id, key).await,
        // It is not there yet, or has ended; a sweep finds out.
        Ok(false) => {}
        Err(reason) => tracing::warn!(reason, %workflow_id, "a workflow was not told of a signal; it will be"),
    }
}

async fn note_told(shared: &Shared, run_id: &RunId, key: &str) {
    if let Err(error) = shared.world.store.signals().told(run_id, key, now()).await {
        tracing::debug!(error = &error as &dyn std::error::Error, run = %run_id, "that a run was told is not noted");
    }
}
