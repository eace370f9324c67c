//! `GET /v1/responses/{id}`: reads a whole answer of the Responses protocol back, under the id of its run.
//!
//! No response is stored for its own sake; one that no run of ours holds is not found, and none can be cancelled.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use tokenhub_domain::{Dialect, PlanSpec, RunId};

use crate::{
    dispatch,
    error::{Problem, RetryAdvice, Shape},
    render::{self, RunHeaders},
    state::{Gate, Runner},
};

/// Reads one back.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let shown = read_back(&gate, &runner, id, &headers).await;
    shown.unwrap_or_else(|problem| problem.into_response(Shape::OpenAi))
}

/// Nothing runs in the background, so there is nothing to stop.
pub(super) async fn cancel(State(gate): State<Gate>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let problem = match gate.key.load().authenticate(&headers) {
        Ok(_) => Problem::NoSuchResponse { id },
        Err(problem) => problem,
    };
    problem.into_response(Shape::OpenAi)
}

async fn read_back(gate: &Gate, runner: &Runner, id: String, headers: &HeaderMap) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let row = dispatch::read_run(&runner.world, &caller.tenant, &RunId::from(id.as_str())).await?;
    let Some(row) = row.filter(|row| is_response(&row.spec_json)) else { return Err(Problem::NoSuchResponse { id }) };
    let Some(outcome) = dispatch::outcome_of(&row)? else {
        return Err(Problem::StillRunning { run_id: row.run_id, advice: RetryAdvice::Unsaid });
    };
    let outcome = runner.dispatcher.inline(outcome).await?;
    let mut response_headers = HeaderMap::new();
    RunHeaders { run_id: &row.run_id, workflow_id: row.workflow_id.as_ref(), mark: dispatch::mark_of(&row) }
        .write(&mut response_headers);
    render::write_outcome(&mut response_headers, &outcome);
    response_headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((response_headers, render::completion_body(&outcome)?).into_response())
}

fn is_response(spec_json: &str) -> bool {
    match serde_json::from_str::<PlanSpec>(spec_json) {
        Ok(PlanSpec::Chat(spec)) => spec.base.dialect == Dialect::Responses,
        Ok(PlanSpec::Adversarial(_) | PlanSpec::Vote(_) | PlanSpec::Refine(_) | PlanSpec::BestOfN(_)) | Err(_) => false,
    }
}
