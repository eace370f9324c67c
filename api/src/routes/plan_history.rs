//! `GET /v1/plan/{id}/history`: what Temporal has written down of a plan, without its payloads.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokenhub_domain::DurabilityMark;

use super::plan_later::find;
use crate::{
    dispatch,
    error::{Problem, Shape},
    state::{Gate, Runner},
};

/// Shows the history of a plan that a workflow carries, or has carried.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    match history(&gate, &runner, &id, &headers).await {
        Ok(history) => Json(history).into_response(),
        Err(problem) => problem.into_response(Shape::Problem),
    }
}

async fn history(gate: &Gate, runner: &Runner, id: &str, headers: &HeaderMap) -> Result<Value, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let row = find(runner, &caller, id).await?;
    let is_durable = dispatch::mark_of(&row) == DurabilityMark::Durable;
    let workflow_id = row.workflow_id.as_ref().filter(|_| is_durable).ok_or(Problem::NoHistory)?;
    runner.dispatcher.history(workflow_id).await
}
