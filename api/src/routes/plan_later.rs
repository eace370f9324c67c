//! Runs after they were accepted: `GET /v1/plan/{id}` reads one back and waits for it, `GET /v1/plan` lists them. All from the database, whoever carries them and whatever has died since.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ETAG, IF_NONE_MATCH, LOCATION},
    },
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenhub_domain::{DurabilityMark, Outcome, PrincipalId, RunId, RunKind, RunStatus};
use tokenhub_store::{ApprovalRow, RunRow, SignalRow, WantedRuns};

use super::plan::{has_no_answer, temporal_ui};
use crate::{
    auth::Caller,
    dispatch::{self, Job},
    error::{Problem, Shape},
    parse::{self, plan::WAIT_MS_MAX},
    render::{self, Identity, RunHeaders, time},
    state::{Gate, Runner},
};

/// Between two looks at a run that somebody waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Runs of a page that does not say how many, and of the largest.
const PAGE: u64 = 50;
const PAGE_MAX: u64 = 200;

/// How a run is to be read back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reading {
    wait: Option<String>,
}

/// Which runs to list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    status: Option<String>,
    strategy: Option<String>,
    tag: Option<String>,
    template: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

/// What whoever began a run makes of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A state, as any other.
    Read,
    /// The answer to its request: none is a failure.
    Awaited,
}

/// Accepts a run and answers when it has ended, or after `wait_ms` how it stands. One whose answer is to be approved is
/// not waited for any longer once it asks.
pub(super) async fn begin(runner: &Runner, job: Job, wait_ms: u64, end: End) -> Result<Response, Problem> {
    let asks = job.spec.base().approval.is_some();
    let (tenant, asker) = (job.spec.base().run.tenant.clone(), job.spec.base().run.principal.clone());
    let (run_id, mark) = runner.dispatcher.launch(job).await?;
    let until = Instant::now() + Duration::from_millis(wait_ms);
    let row = loop {
        let row = dispatch::read_run(&runner.world, &tenant, &run_id).await?.ok_or(Problem::Internal)?;
        if row.status.is_final() || Instant::now() >= until {
            break row;
        }
        if asks && asked(runner, &row).await?.is_some_and(|question| dispatch::waits_for(&row, &question)) {
            break row;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    };
    let Standing { headers, object, outcome } = standing(runner, &asker, &row, mark).await?;
    let mut response = match outcome.filter(|outcome| end == End::Awaited && has_no_answer(outcome)) {
        Some(outcome) => (headers, render::failed(&outcome, object).into_response(Shape::Problem)).into_response(),
        None => (headers, Json(object)).into_response(),
    };
    if !row.status.is_final() {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/plan/{run_id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Reads a run back.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let shown = read_back(&gate, &runner, &id, reading, &headers).await;
    shown.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn read_back(
    gate: &Gate,
    runner: &Runner,
    id: &str,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let Query(reading) = reading.map_err(|_| Problem::invalid("wait", WAIT_RULE))?;
    let until = Instant::now() + wait_of(reading.wait.as_deref())?;
    let seen = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    loop {
        let row = find(runner, &caller, id).await?;
        // Only who has seen something is told that it is the same.
        let tag = match seen {
            Some(_) => Some(etag_of(runner, &row).await?),
            None => None,
        };
        let is_news = tag.as_deref() != seen;
        let is_over = Instant::now() >= until;
        if row.status.is_final() || is_news || is_over {
            return match tag {
                Some(tag) if !is_news => Ok(unchanged(&tag)),
                Some(_) | None => respond(runner, &caller.principal, &row, None).await,
            };
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

const WAIT_RULE: &str = "must be a time of at most 60s, such as 30s or 500ms";

/// `30s`, `500ms` or `30`, which are seconds.
fn wait_of(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(millis) => (millis, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1_000),
    };
    let millis = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_ms));
    let millis = millis.filter(|millis| *millis <= WAIT_MS_MAX);
    millis.map(Duration::from_millis).ok_or_else(|| Problem::invalid("wait", WAIT_RULE))
}

/// Changes when the run does, and when something was asked of it: that moves its bounds and its deadline, and is shown.
fn etag(row: &RunRow, question: Option<&ApprovalRow>, signals: &[SignalRow]) -> String {
    let asked = question.map(|it| it.decided_at.unwrap_or(it.requested_at));
    let at = row.finished_at.or(asked).or(row.started_at).unwrap_or(row.created_at);
    // Signals are only ever added.
    let signals = if signals.is_empty() { String::new() } else { format!("-{}", signals.len()) };
    format!("W/\"{}-{}{signals}\"", row.status.as_str(), at.0)
}

async fn etag_of(runner: &Runner, row: &RunRow) -> Result<String, Problem> {
    let question = asked(runner, row).await?;
    Ok(etag(row, question.as_ref(), &signals_of(runner, row).await?))
}

fn unchanged(tag: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    write_etag(response.headers_mut(), tag);
    response
}

fn write_etag(headers: &mut HeaderMap, tag: &str) {
    if let Ok(etag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, etag);
    }
}

pub(super) async fn find(runner: &Runner, caller: &Caller, id: &str) -> Result<RunRow, Problem> {
    let row = dispatch::read_run(&runner.world, &caller.tenant, &RunId::from(id)).await?;
    row.ok_or_else(|| Problem::NoSuchRun { id: id.to_owned() })
}

/// The run as it stands. Of one that nobody has claimed yet, whoever started it may know the durability.
pub(super) async fn respond(
    runner: &Runner,
    asker: &PrincipalId,
    row: &RunRow,
    mark: Option<DurabilityMark>,
) -> Result<Response, Problem> {
    let Standing { headers, object, .. } = standing(runner, asker, row, mark).await?;
    Ok((headers, Json(object)).into_response())
}

/// A run as it stands.
struct Standing {
    headers: HeaderMap,
    object: Map<String, Value>,
    outcome: Option<Outcome>,
}

async fn standing(
    runner: &Runner,
    asker: &PrincipalId,
    row: &RunRow,
    mark: Option<DurabilityMark>,
) -> Result<Standing, Problem> {
    let (question, signals) = (asked(runner, row).await?, signals_of(runner, row).await?);
    let mark = mark.unwrap_or_else(|| dispatch::mark_of(row));
    let identity = identity_of(runner, row, mark);
    let mut headers = headers_of(row, Some(mark));
    write_etag(&mut headers, &etag(row, question.as_ref(), &signals));
    let outcome = match dispatch::outcome_of(row)? {
        Some(outcome) => Some(runner.dispatcher.inline(&row.tenant, outcome).await?),
        None => None,
    };
    let mut object = match &outcome {
        Some(outcome) => {
            render::write_outcome(&mut headers, outcome);
            render::plan_object(identity, outcome)
        }
        None => render::unfinished_object(identity, row.status, row.created_at),
    };
    if let Some(question) = &question {
        show_approval(runner, Some(asker), row, question, &mut object).await?;
    }
    render::write_signals(&mut object, &signals);
    Ok(Standing { headers, object, outcome })
}

fn identity_of<'a>(runner: &'a Runner, row: &'a RunRow, mark: DurabilityMark) -> Identity<'a> {
    Identity {
        run_id: &row.run_id,
        workflow_id: row.workflow_id.as_ref().filter(|_| mark == DurabilityMark::Durable),
        is_durable: mark == DurabilityMark::Durable,
        temporal_ui: temporal_ui(runner),
        labels: &row.labels,
    }
}

/// What the headers of an answer about a run tell before it has an outcome.
pub(super) fn headers_of(row: &RunRow, mark: Option<DurabilityMark>) -> HeaderMap {
    let mark = mark.unwrap_or_else(|| dispatch::mark_of(row));
    let workflow_id = row.workflow_id.as_ref().filter(|_| mark == DurabilityMark::Durable);
    let mut headers = HeaderMap::new();
    RunHeaders { run_id: &row.run_id, workflow_id, mark }.write(&mut headers);
    headers
}

/// The plan object of a run that has ended.
pub(super) async fn object_of(runner: &Runner, row: &RunRow) -> Result<Map<String, Value>, Problem> {
    let outcome = dispatch::outcome_of(row)?.ok_or(Problem::Internal)?;
    let outcome = runner.dispatcher.inline(&row.tenant, outcome).await?;
    let mut object = render::plan_object(identity_of(runner, row, dispatch::mark_of(row)), &outcome);
    if let Some(question) = asked(runner, row).await? {
        show_approval(runner, None, row, &question, &mut object).await?;
    }
    render::write_signals(&mut object, &signals_of(runner, row).await?);
    Ok(object)
}

async fn asked(runner: &Runner, row: &RunRow) -> Result<Option<ApprovalRow>, Problem> {
    dispatch::read_approval(&runner.world, row).await
}

/// What a run came to that is decided about.
pub(super) async fn preview(runner: &Runner, question: &ApprovalRow) -> Result<Outcome, Problem> {
    let outcome = serde_json::from_str(&question.outcome_json).map_err(|_| Problem::Internal)?;
    runner.dispatcher.inline(&question.tenant, outcome).await
}

/// The question, while it is open, and how it stands. The link is for the owner of the run, who may pass it on.
async fn show_approval(
    runner: &Runner,
    asker: Option<&PrincipalId>,
    row: &RunRow,
    question: &ApprovalRow,
    object: &mut Map<String, Value>,
) -> Result<(), Problem> {
    object.insert("approval".to_owned(), render::decision(question, row.status));
    if dispatch::waits_for(row, question) {
        let is_owner = asker == Some(&row.principal);
        let link = is_owner.then(|| runner.links.path(question));
        let outcome = preview(runner, question).await?;
        object.insert("waiting".to_owned(), render::waiting(question, &outcome, link.as_deref()));
    }
    Ok(())
}

/// What was asked of a plan; nothing is asked of a run without events.
async fn signals_of(runner: &Runner, row: &RunRow) -> Result<Vec<SignalRow>, Problem> {
    if row.last_seq == 0 {
        return Ok(Vec::new());
    }
    dispatch::read_signals(&runner.world, &row.tenant, &row.run_id).await
}

/// Lists the caller's runs, newest first.
pub(super) async fn list(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let listed = listed(&gate, &runner, listing, &headers).await;
    listed.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn listed(
    gate: &Gate,
    runner: &Runner,
    listing: Result<Query<Listing>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let Query(listing) = listing.map_err(|_| Problem::invalid("query", "must have each parameter once"))?;
    let limit = page_limit(listing.limit.as_deref())?;
    let status = match listing.status.as_deref() {
        None | Some("") => None,
        Some(name) => Some(RunStatus::parse(name).ok_or_else(|| Problem::invalid("status", "is no status of a run"))?),
    };
    let kind = match listing.strategy.as_deref() {
        None | Some("") => None,
        Some("single") => Some(RunKind::Chat),
        Some(name) => Some(RunKind::parse(name).ok_or_else(|| Problem::invalid("strategy", "is no strategy"))?),
    };
    let tag = listing.tag.as_deref().filter(|tag| !tag.is_empty()).map(parse::tags::wanted).transpose()?;
    let template = listing.template.as_deref().filter(|name| !name.is_empty());
    let template = template.map(parse::template::name).transpose();
    let template = template.map_err(|_| Problem::invalid("template", "must be the name of a template"))?;
    let wanted = WantedRuns { status, kind, tag, template: template.as_ref() };
    let runs = runner.world.store.runs();
    let after = match listing.after.as_deref() {
        None | Some("") => None,
        Some(id) => Some(find(runner, &caller, id).await.map_err(|_| Problem::invalid("after", "is no run"))?),
    };
    // One more than asked for tells whether there are more.
    let rows = runs.page(&caller.tenant, &caller.principal, wanted, after.as_ref(), limit + 1).await;
    let mut rows = rows.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "runs could not be listed");
        Problem::StoreAway
    })?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let data: Vec<Value> = rows.iter().map(line).collect();
    let last_id = rows.last().map(|row| row.run_id.as_str());
    Ok(Json(json!({"object": "list", "data": data, "has_more": has_more, "last_id": last_id})).into_response())
}

/// How many entries a page has.
pub(super) fn page_limit(text: Option<&str>) -> Result<u64, Problem> {
    let limit = text.map_or(Some(PAGE), |text| text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)));
    limit.ok_or_else(|| Problem::invalid("limit", format!("must be a whole number from 1 to {PAGE_MAX}")))
}

fn line(row: &RunRow) -> Value {
    let mut line = json!({
        "id": row.run_id,
        "kind": row.kind.as_str(),
        "status": row.status.as_str(),
        "stop_reason": row.stop_reason,
        "durable": dispatch::mark_of(row) == DurabilityMark::Durable,
        "negotiated_model": row.negotiated_model,
        "calls": row.usage.calls,
        "cost_usd": row.usage.cost.as_usd(),
        "created_at": time(row.created_at),
        "started_at": row.started_at.and_then(time),
        "finished_at": row.finished_at.and_then(time),
    });
    if let Some(fields) = line.as_object_mut() {
        render::write_labels(fields, &row.labels);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_says_its_unit_and_has_a_bound() {
        let of = |text: &str| wait_of(Some(text)).ok();
        assert_eq!(wait_of(None).ok(), Some(Duration::ZERO));
        assert_eq!(of("30"), Some(Duration::from_secs(30)));
        assert_eq!(of("30s"), Some(Duration::from_secs(30)));
        assert_eq!(of("500ms"), Some(Duration::from_millis(500)));
        for wrong in ["", "s", "61", "60001ms", "-1s", "1m", "1.5s", "18446744073709551615s"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
