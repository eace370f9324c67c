//! `GET /v1/plan/{id}/steps`: every provider call of a plan, as the ledger has it.
//!
//! The plan object sums each step up; here each attempt has a line of its own, those of dead processes and those whose
//! answer nobody used included. What another process still holds, a fraction of a second, is not shown.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokenhub_domain::{ErrorClass, NanoDollars, StepKey};
use tokenhub_store::{BackgroundCall, LedgerRow, LedgerState, StoreError, Waste};

use super::plan_later::find;
use crate::{
    error::{Problem, Shape},
    render::time,
    state::{Gate, Runner},
};

/// Lists the attempts of a plan, oldest first.
pub(super) async fn list(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let listed = listed(&gate, &runner, &id, &headers).await;
    listed.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn listed(gate: &Gate, runner: &Runner, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let row = find(runner, &caller, id).await?;
    // A run of this process is shown to its last call.
    if let Err(error) = runner.world.ledger.flush().await {
        tracing::debug!(error = &error as &dyn std::error::Error, "calls may be missing from a list of attempts");
    }
    let away = |error: StoreError| {
        tracing::error!(error = &error as &dyn std::error::Error, "the attempts of a plan could not be read");
        Problem::StoreAway
    };
    let store = &runner.world.store;
    let attempts = store.ledger_rows().of_run(&row.tenant, &row.run_id).await.map_err(away)?;
    let in_background = store.journal().background_calls_of(&row.tenant, &row.run_id).await.map_err(away)?;
    let object = json!({
        "object": "list",
        "id": row.run_id,
        "status": row.status.as_str(),
        "data": shown_all(&attempts, &in_background),
        "usage": usage(&attempts),
        "wasted": sums(attempts.iter().filter(|row| is_wasted(row))),
    });
    Ok(Json(object).into_response())
}

/// Calls that left; a try that left again is a duplicate.
fn duplicates(attempts: &[LedgerRow]) -> Vec<bool> {
    let mut left: BTreeSet<&StepKey> = BTreeSet::new();
    attempts.iter().map(|row| row.sent_at.is_some() && !left.insert(&row.step_key)).collect()
}

fn shown_all(attempts: &[LedgerRow], in_background: &[BackgroundCall]) -> Vec<Value> {
    let reattached = |row: &LedgerRow| {
        in_background.iter().find(|call| call.attempt == row.attempt).map_or(0, |call| call.reattached)
    };
    let shown = |(row, is_duplicate)| shown(row, is_duplicate, reattached(row));
    attempts.iter().zip(duplicates(attempts)).map(shown).collect()
}

fn shown(row: &LedgerRow, is_duplicate: bool, reattached: u32) -> Value {
    json!({
        "attempt_id": row.attempt,
        "step": row.step,
        "role": row.role.as_str(),
        "model": row.model,
        "provider": row.provider,
        "state": row.state.as_str(),
        "duplicate": is_duplicate,
        "reattached": reattached,
        "waste": waste(row),
        "started_at": time(row.sent_at.unwrap_or(row.created_at)),
        "ended_at": row.finished_at.and_then(time),
        "latency_ms": row.latency_ms,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": row.cost.as_usd(),
        "error_class": row.error_class.map(ErrorClass::as_str),
        "status_code": row.status_code,
    })
}

/// What became of what was bought; nothing while that is open, and of a call that brought nothing.
fn waste(row: &LedgerRow) -> Option<&'static str> {
    match (row.state, row.waste) {
        (LedgerState::Orphaned, _) => Some("orphaned"),
        (_, Some(Waste::Used)) => Some("used"),
        (_, Some(Waste::Wasted)) => Some("wasted"),
        (LedgerState::Reserved | LedgerState::Sent | LedgerState::Settled | LedgerState::Void, None) => None,
    }
}

/// What the plan object says: duplicates are no calls, and what nobody used is no part of it.
fn usage(attempts: &[LedgerRow]) -> Value {
    let sent = attempts.iter().filter(|row| row.sent_at.is_some()).count();
    let duplicates = duplicates(attempts).into_iter().filter(|is_duplicate| *is_duplicate).count();
    let mut usage = sums(attempts.iter().filter(|row| !is_wasted(row)));
    usage["calls"] = (sent - duplicates).into();
    usage["duplicate_calls"] = duplicates.into();
    usage
}

/// Whether somebody paid for an answer that nobody used.
fn is_wasted(row: &LedgerRow) -> bool {
    row.waste == Some(Waste::Wasted)
}

/// What these lines come to.
fn sums<'a>(attempts: impl Iterator<Item = &'a LedgerRow>) -> Value {
    let (mut calls, mut input_tokens, mut output_tokens, mut cost) = (0_u64, 0_u64, 0_u64, NanoDollars::default());
    for row in attempts {
        calls += 1;
        input_tokens += row.input_tokens;
        output_tokens += row.output_tokens;
        cost += row.cost;
    }
    json!({"calls": calls, "input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": cost.as_usd()})
}
