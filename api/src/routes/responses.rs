//! Responses that outlive their request: begun in the background, read back, cancelled.
//!
//! A response is a run, and its id that of the run; nothing is stored for its own sake. One that was waited for can be
//! read under the id of its run, too, and cannot be cancelled.

use std::time::SystemTime;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokenhub_domain::{ChatSpec, Dialect, DurabilityMark, PlanSpec, RunId, RunStatus, TenantId, UnixMicros, Urgency};
use tokenhub_store::RunRow;

use crate::{
    auth::Caller,
    dispatch::{self, Job},
    error::{Problem, Shape},
    render::{self, ResponseRun, RunHeaders},
    state::{Gate, Runner},
};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// How a response is to be read back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reading {
    stream: bool,
}

/// Accepts a response that nobody waits for and says how it stands.
pub(super) async fn begin(runner: &Runner, mut job: Job) -> Result<Response, Problem> {
    let share = &mut job.spec.base_mut().run.share;
    *share = share.at_most(Urgency::Background);
    let tenant = job.spec.base().run.tenant.clone();
    let request = job.spec.base().original.as_inline().unwrap_or_default().to_owned();
    let (run_id, mark) = runner.dispatcher.launch(job).await?;
    // From here on it runs, and a client that did not learn its id would buy it again.
    match standing(runner, &tenant, &run_id, mark).await {
        Ok(response) => Ok(response),
        Err(problem) => {
            tracing::warn!(%problem, run = %run_id, "a response was begun and cannot be looked at");
            queued(&run_id, &request, mark)
        }
    }
}

async fn standing(
    runner: &Runner,
    tenant: &TenantId,
    run_id: &RunId,
    mark: Option<DurabilityMark>,
) -> Result<Response, Problem> {
    let row = dispatch::read_run(&runner.world, tenant, run_id).await?.ok_or(Problem::Internal)?;
    let spec = spec_of(&row).ok_or(Problem::Internal)?;
    respond(runner, &row, spec, mark).await
}

/// What is known without the row.
fn queued(run_id: &RunId, request: &str, mark: Option<DurabilityMark>) -> Result<Response, Problem> {
    let created_at_secs = UnixMicros::from(SystemTime::now()).0 / MICROS_PER_SECOND;
    let run = ResponseRun { run_id, background: true, status: RunStatus::Pending, created_at_secs, request };
    let mut headers = HeaderMap::new();
    let mark = mark.unwrap_or(DurabilityMark::None);
    RunHeaders { run_id, workflow_id: None, mark }.write(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, render::response_body(run, None)?).into_response())
}

/// Reads one back.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let shown = read_back(&gate, &runner, id, reading, &headers).await;
    shown.unwrap_or_else(|problem| problem.into_response(Shape::OpenAi))
}

/// Cancels one. Cancelling it again, or once it has ended, changes nothing.
pub(super) async fn cancel(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let cancelled = stop(&gate, &runner, id, &headers).await;
    cancelled.unwrap_or_else(|problem| problem.into_response(Shape::OpenAi))
}

async fn read_back(
    gate: &Gate,
    runner: &Runner,
    id: String,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let Query(reading) = reading.map_err(|_| Problem::invalid("stream", "must be true or false"))?;
    if reading.stream {
        return Err(Problem::UnsupportedField { param: "stream".to_owned() });
    }
    let (row, spec) = find(runner, &caller, id).await?;
    respond(runner, &row, spec, None).await
}

async fn stop(gate: &Gate, runner: &Runner, id: String, headers: &HeaderMap) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let (row, spec) = find(runner, &caller, id).await?;
    if !spec.background {
        return Err(Problem::NotBackground { id: row.run_id.to_string() });
    }
    let row = runner.dispatcher.cancel(&row.tenant, &row.run_id).await?.ok_or(Problem::Internal)?;
    respond(runner, &row, spec, None).await
}

async fn find(runner: &Runner, caller: &Caller, id: String) -> Result<(RunRow, ChatSpec), Problem> {
    let row = dispatch::read_run(&runner.world, &caller.tenant, &RunId::from(id.as_str())).await?;
    let found = row.and_then(|row| spec_of(&row).map(|spec| (row, spec)));
    found.ok_or(Problem::NoSuchResponse { id })
}

/// What was asked, when it was asked in this protocol.
fn spec_of(row: &RunRow) -> Option<ChatSpec> {
    match serde_json::from_str(&row.spec_json) {
        Ok(PlanSpec::Chat(spec)) if spec.base.dialect == Dialect::Responses => Some(spec),
        Ok(
            PlanSpec::Chat(_)
            | PlanSpec::Adversarial(_)
            | PlanSpec::Vote(_)
            | PlanSpec::Refine(_)
            | PlanSpec::BestOfN(_)
            | PlanSpec::Cascade(_)
            | PlanSpec::Fuse(_),
        )
        | Err(_) => None,
    }
}

/// The row of a run that nobody has claimed yet does not tell its durability; whoever started it may.
async fn respond(
    runner: &Runner,
    row: &RunRow,
    spec: ChatSpec,
    mark: Option<DurabilityMark>,
) -> Result<Response, Problem> {
    let outcome = match dispatch::outcome_of(row)? {
        Some(outcome) => Some(runner.dispatcher.inline(&row.tenant, outcome).await?),
        None => None,
    };
    // An answer repeats nothing of its request.
    let request = match outcome.as_ref().and_then(|outcome| outcome.answer.as_ref()) {
        Some(_) => String::new(),
        None => runner.dispatcher.text(&row.tenant, spec.base.original).await?,
    };
    let run = ResponseRun {
        run_id: &row.run_id,
        background: spec.background,
        status: row.status,
        created_at_secs: row.created_at.0 / MICROS_PER_SECOND,
        request: &request,
    };
    let body = render::response_body(run, outcome.as_ref())?;
    let mut headers = HeaderMap::new();
    let mark = mark.unwrap_or_else(|| dispatch::mark_of(row));
    RunHeaders { run_id: &row.run_id, workflow_id: row.workflow_id.as_ref(), mark }.write(&mut headers);
    if let Some(outcome) = &outcome {
        render::write_outcome(&mut headers, outcome);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, body).into_response())
}
