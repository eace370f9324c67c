//! `POST /v1/plan/{id}/signal` asks something of a plan that runs, or decides about the answer of one that waits;
//! `POST /v1/plan/{id}/cancel` stops it. All three may be repeated.

use axum::{
    extract::{Path, Request, State},
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use tokenhub_domain::limits;

use super::{plan_approval, plan_later};
use crate::{
    auth::Caller,
    body,
    dispatch::Steer,
    error::{Problem, Shape, SteeringRefusal},
    idempotency,
    parse::steering::{self, Signal, SteeringWish, StopMode},
    state::{Gate, Runner},
};

/// Takes a signal.
pub(super) async fn signal(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let signalled = signalled(&gate, &runner, &id, request).await;
    signalled.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn signalled(gate: &Gate, runner: &Runner, id: &str, request: Request) -> Result<Response, Problem> {
    let (caller, headers, bytes) = enter(gate, request).await?;
    let signal = steering::signal(&bytes)?;
    let header = idempotency::key(&headers)?;
    let row = plan_later::find(runner, &caller, id).await?;
    let principal = caller.principal.clone();
    match signal {
        Signal::Decision(verdict) => plan_approval::decide_with_key(runner, row, verdict, principal).await?,
        Signal::Steering { wish, id } => {
            let key = match (id, header) {
                (Some(id), Some(header)) if id != header => {
                    return Err(Problem::invalid("id", "differs from the header Idempotency-Key"));
                }
                (id, header) => id.or(header),
            };
            runner.dispatcher.steer(row, Steer { wish, key, principal }).await?;
        }
    }
    show(runner, &caller, id).await
}

/// Stops a run. Stopping it again, or once it has ended, changes nothing.
pub(super) async fn cancel(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let stopped = stop(&gate, &runner, &id, request).await;
    stopped.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn stop(gate: &Gate, runner: &Runner, id: &str, request: Request) -> Result<Response, Problem> {
    let (caller, _, bytes) = enter(gate, request).await?;
    let mode = steering::stop(&bytes)?;
    let row = plan_later::find(runner, &caller, id).await?;
    if row.status.is_final() {
        return plan_later::respond(runner, &caller.principal, &row, None).await;
    }
    match mode {
        StopMode::Now => {
            let row = runner.dispatcher.cancel(&row.tenant, &row.run_id).await?.ok_or(Problem::Internal)?;
            return plan_later::respond(runner, &caller.principal, &row, None).await;
        }
        StopMode::AfterStep => {
            let wish = SteeringWish::StopAfterStep;
            let asked = Steer { wish, key: None, principal: caller.principal.clone() };
            match runner.dispatcher.steer(row, asked).await {
                // It has ended meanwhile, which is what was asked for.
                Ok(()) | Err(Problem::Steering(SteeringRefusal::Ended { .. })) => {}
                Err(problem) => return Err(problem),
            }
        }
    }
    show(runner, &caller, id).await
}

async fn enter(gate: &Gate, request: Request) -> Result<(Caller, HeaderMap, Bytes), Problem> {
    let (parts, unread) = request.into_parts();
    let caller = gate.key.load().authenticate(&parts.headers)?;
    let bytes = body::read(&parts.headers, unread, limits::PLAN_BODY_BYTES).await?;
    Ok((caller, parts.headers, bytes))
}

/// The plan as it stands now.
async fn show(runner: &Runner, caller: &Caller, id: &str) -> Result<Response, Problem> {
    let row = plan_later::find(runner, caller, id).await?;
    plan_later::respond(runner, &caller.principal, &row, None).await
}
