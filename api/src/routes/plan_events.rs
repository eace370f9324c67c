//! `GET /v1/plan/{id}/events`: what happens to a plan, from any event on, and `stream: true` of `POST /v1/plan`, which
//! answers with the same.
//!
//! Everything is read from the database, so any process can tell it, and a client whose connection or process has gone
//! goes on elsewhere behind the last number that it has seen.
//!
//! Between the events a plan may show what its steps are writing. That has no numbers and is not kept for long: whoever
//! comes later, or again, gets it of the calls that are open, from their beginning.

mod open_calls;

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT, LOCATION},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenhub_activities::plan_events;
use tokenhub_domain::{PlanEvent, RunId, TenantId};
use tokenhub_store::{Delta, DeltaPlace, EventRow, RunRow, StoreError};

use super::plan_later::{find, headers_of, object_of};
use crate::{
    dispatch::{self, Job},
    error::{Problem, Shape},
    event_streams::OpenStream,
    render::time,
    state::{Gate, Runner},
};
use open_calls::OpenCalls;

/// Proxies cut connections on which nothing moves for a minute or less.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Between two looks for the next event, right after one and in a long silence.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(400);
/// In a silence while a model may be writing.
const WRITING_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// Events that are read at once, and those of the largest page.
const BATCH: u64 = 100;
const PAGE: u64 = 1_000;
/// The header with which clients of event streams go on.
const LAST_EVENT_ID: &str = "last-event-id";
const LAST_EVENT_ID_SHOWN: &str = "Last-Event-ID";

/// From where on, and in which form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reading {
    after: Option<String>,
    format: Option<String>,
}

/// How events are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they happen.
    Stream,
    /// Those that there are.
    List,
}

/// Tells the events of a plan.
pub(super) async fn show(
    State(gate): State<Gate>,
    State(runner): State<Runner>,
    Path(id): Path<String>,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let told = tell(&gate, &runner, &id, reading, &headers).await;
    told.unwrap_or_else(|problem| problem.into_response(Shape::Problem))
}

async fn tell(
    gate: &Gate,
    runner: &Runner,
    id: &str,
    reading: Result<Query<Reading>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let caller = gate.key.load().authenticate(headers)?;
    let Query(reading) = reading.map_err(|_| Problem::invalid("after", "must be given once"))?;
    let form = form_of(reading.format.as_deref(), headers)?;
    let row = find(runner, &caller, id).await?;
    // One that keeps no events, or was ended by an older version, is told an end that is not stored.
    let last = row.last_seq + u64::from(row.status.is_final());
    let after = after_of(reading.after.as_deref(), headers, last)?;
    match form {
        Form::Stream => {
            Ok(events_of(runner, &row, (after, row.last_seq), runner.event_streams.open(&caller.api_key_id)?))
        }
        Form::List => list(runner, &row, after).await,
    }
}

/// Accepts a run and tells its events, which end with the run.
pub(super) async fn begin(runner: &Runner, job: Job) -> Result<Response, Problem> {
    let (tenant, wanted) = (job.spec.base().run.tenant.clone(), job.spec.base().run.run_id.clone());
    // Before anything is begun that nobody would be told of.
    let place = runner.event_streams.open(&job.spec.base().run.api_key_id)?;
    let (run_id, mark) = runner.dispatcher.launch(job).await?;
    let row = dispatch::read_run(&runner.world, &tenant, &run_id).await?.ok_or(Problem::Internal)?;
    // Of a run that is its own, the client hears from the beginning, however much has happened since.
    let past = if run_id == wanted { 0 } else { row.last_seq };
    let mut response = events_of(runner, &row, (0, past), place);
    let headers = response.headers_mut();
    headers.extend(headers_of(&row, mark));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/plan/{run_id}")) {
        headers.insert(LOCATION, location);
    }
    Ok(response)
}

/// The query wins over what a browser, a proxy or a library says by itself.
fn form_of(format: Option<&str>, headers: &HeaderMap) -> Result<Form, Problem> {
    match format {
        Some("json") => Ok(Form::List),
        Some("sse") => Ok(Form::Stream),
        Some(_) => Err(Problem::invalid("format", "must be sse or json")),
        None => {
            let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let is_list = accepted.contains("application/json") && !accepted.contains("text/event-stream");
            Ok(if is_list { Form::List } else { Form::Stream })
        }
    }
}

/// The number of the last event that the client has. A client that reconnects repeats its query, so the header wins.
fn after_of(after: Option<&str>, headers: &HeaderMap, last: u64) -> Result<u64, Problem> {
    let rule = format!("must be the number of an event, at most {last} by now");
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_plain && *number <= last)
    };
    match (headers.get(LAST_EVENT_ID), after) {
        (Some(value), _) => {
            let seen = value.to_str().ok().and_then(number);
            seen.ok_or(Problem::InvalidHeader { header: LAST_EVENT_ID_SHOWN, reason: rule })
        }
        (None, Some(text)) => number(text).ok_or_else(|| Problem::invalid("after", rule)),
        (None, None) => Ok(0),
    }
}

async fn list(runner: &Runner, row: &RunRow, after: u64) -> Result<Response, Problem> {
    let events = runner.world.store.plan_events();
    // One more than a page tells whether there are more.
    let mut rows = events.after(&row.tenant, &row.run_id, after, PAGE + 1).await.map_err(|error| away(&error))?;
    let has_more = rows.len() as u64 > PAGE;
    rows.truncate(usize::try_from(PAGE).unwrap_or(usize::MAX));
    let data: Vec<Value> = rows
        .iter()
        .map(|event| json!({"id": event.seq, "event": event.name, "data": data_of(&row.run_id, event)}))
        .collect();
    let last_id = rows.last().map(|event| event.seq);
    Ok(Json(json!({"object": "list", "data": data, "has_more": has_more, "last_id": last_id})).into_response())
}

fn away(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the events of a plan could not be read");
    Problem::StoreAway
}

/// The same for a stream, which looks again and again and would fill the log.
fn out_of_reach(error: &StoreError) -> Problem {
    tracing::debug!(error = error as &dyn std::error::Error, "the events of a plan could not be read");
    Problem::StoreAway
}

/// The stream of the events behind `after`. What was written before the event `past` is told where its call is still open.
fn events_of(runner: &Runner, row: &RunRow, (after, past): (u64, u64), place: OpenStream) -> Response {
    let is_writing = !row.status.is_final() && open_calls::are_shown(row);
    let watch = Watch {
        runner: runner.clone(),
        tenant: row.tenant.clone(),
        run_id: row.run_id.clone(),
        after,
        read: VecDeque::new(),
        writing: is_writing.then(|| Writing { past, seen: 0, calls: OpenCalls::default(), read: VecDeque::new() }),
        is_over: false,
        _place: place,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let stopping = watch.runner.stopping.clone();
        // A process that stops waits for its connections; the client goes on at another one.
        let event = stopping.run_until_cancelled(watch.next()).await.flatten()?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// One client's place in the events of a plan.
struct Watch {
    runner: Runner,
    tenant: TenantId,
    run_id: RunId,
    /// The last event that was told.
    after: u64,
    /// What was read and not told yet.
    read: VecDeque<EventRow>,
    /// Of a plan that shows what is written.
    writing: Option<Writing>,
    is_over: bool,
    /// Its place among the streams of the process, for as long as it is there.
    _place: OpenStream,
}

/// One client's place in what the steps of a plan are writing.
struct Writing {
    /// The last event of before the client came.
    past: u64,
    /// The last event that `calls` knows of.
    seen: u64,
    calls: OpenCalls,
    /// What was read and not told yet.
    read: VecDeque<Delta>,
}

/// What a look brought.
enum Look {
    Event(Event),
    Nothing,
    Over,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        let mut interval = LOOK_INTERVAL;
        while !self.is_over {
            match self.look().await {
                Ok(Look::Event(event)) => return Some(event),
                Ok(Look::Over) => return None,
                Ok(Look::Nothing) => {}
                // Whatever is away may come back, and the client has nothing better to do than to wait for it.
                Err(problem) => tracing::debug!(%problem, run = %self.run_id, "the events of a plan are out of reach"),
            }
            tokio::time::sleep(interval).await;
            let is_written = self.writing.as_ref().is_some_and(|writing| !writing.calls.places().is_empty());
            interval = (interval * 2).min(if is_written { WRITING_INTERVAL_MAX } else { LOOK_INTERVAL_MAX });
        }
        None
    }

    async fn look(&mut self) -> Result<Look, Problem> {
        if let Some(delta) = self.writing.as_mut().and_then(|writing| writing.read.pop_front()) {
            return Ok(Look::Event(open_calls::shown(&delta)));
        }
        if self.read.is_empty() {
            let events = self.runner.world.store.plan_events();
            let progress = events.progress(&self.tenant, &self.run_id).await.map_err(|error| out_of_reach(&error))?;
            let Some(progress) = progress else { return Ok(Look::Over) };
            if progress.last_seq > self.after {
                let read = events.after(&self.tenant, &self.run_id, self.after, BATCH).await;
                self.read = read.map_err(|error| out_of_reach(&error))?.into();
            }
            if self.read.is_empty() && progress.status.is_final() {
                return self.unwritten_end(progress.last_seq).await;
            }
        }
        if let Some(delta) = self.written().await? {
            return Ok(Look::Event(open_calls::shown(&delta)));
        }
        let Some(next) = self.read.front() else { return Ok(Look::Nothing) };
        let is_last = is_last(next);
        let mut data = data_of(&self.run_id, next);
        if is_last {
            match self.plan().await {
                Ok(plan) => {
                    data.insert("plan".to_owned(), plan.into());
                }
                Err(problem @ Problem::StoreAway) => return Err(problem),
                // The end is worth telling without it.
                Err(problem) => {
                    tracing::warn!(%problem, run = %self.run_id, "a plan cannot be shown in its last event");
                }
            }
        }
        let Some(next) = self.read.pop_front() else { return Ok(Look::Nothing) };
        if let Some(writing) = &mut self.writing {
            writing.calls.see(&next);
            writing.seen = next.seq;
        }
        Ok(self.told(next.seq, &next.name, data, is_last))
    }

    /// What is to be told of the steps before the next event: the rest of the call that the event ends, or while there is no
    /// event whatever was written meanwhile.
    async fn written(&mut self) -> Result<Option<Delta>, Problem> {
        let Some(writing) = &mut self.writing else { return Ok(None) };
        let store = &self.runner.world.store;
        let run = (&self.tenant, &self.run_id);
        // What the client knows already has to be read again once, for the calls that it left open.
        while writing.seen < self.after {
            let known = store.plan_events().after(run.0, run.1, writing.seen, PAGE).await;
            let known = known.map_err(|error| out_of_reach(&error))?;
            writing.seen = known.last().map_or(self.after, |event| event.seq.min(self.after));
            known.iter().filter(|event| event.seq <= self.after).for_each(|event| writing.calls.see(event));
        }
        let places: Vec<DeltaPlace> = match self.read.front() {
            Some(next) if next.seq <= writing.past => Vec::new(),
            Some(next) => writing.calls.ended_by(next).into_iter().collect(),
            None => writing.calls.places(),
        };
        // Nobody waits for them: the next event is told in any case.
        let read =
            store.plan_deltas().read_from(run, &places, BATCH).await.inspect_err(|error| drop(out_of_reach(error)));
        writing.read = read.unwrap_or_default().into();
        writing.calls.took(writing.read.make_contiguous());
        Ok(writing.read.pop_front())
    }

    /// The end of a run that has ended and has no more events: its last one was told, or it has none.
    async fn unwritten_end(&mut self, last_seq: u64) -> Result<Look, Problem> {
        let store = &self.runner.world.store;
        if let Some(before) = last_seq.checked_sub(1) {
            let last = store.plan_events().after(&self.tenant, &self.run_id, before, 1).await;
            if last.map_err(|error| out_of_reach(&error))?.iter().any(is_last) {
                return Ok(Look::Over);
            }
        }
        if self.after > last_seq {
            return Ok(Look::Over);
        }
        let row = dispatch::read_run(&self.runner.world, &self.tenant, &self.run_id).await?;
        let Some(row) = row else { return Ok(Look::Over) };
        let Some(outcome) = dispatch::outcome_of(&row)? else { return Ok(Look::Over) };
        let ended_at = row.finished_at.unwrap_or(row.updated_at);
        let Some(end) = plan_events::ended(&outcome, dispatch::mark_of(&row), ended_at) else { return Ok(Look::Over) };
        let event = EventRow { seq: last_seq + 1, name: end.name.as_str().to_owned(), data: end.data, at: end.at };
        let mut data = data_of(&self.run_id, &event);
        data.insert("plan".to_owned(), object_of(&self.runner, &row).await?.into());
        Ok(self.told(event.seq, &event.name, data, true))
    }

    async fn plan(&self) -> Result<Map<String, Value>, Problem> {
        let row = dispatch::read_run(&self.runner.world, &self.tenant, &self.run_id).await?;
        object_of(&self.runner, &row.ok_or(Problem::Internal)?).await
    }

    fn told(&mut self, seq: u64, name: &str, data: Map<String, Value>, is_last: bool) -> Look {
        self.after = seq;
        self.is_over = is_last;
        Look::Event(shown(seq, name, data))
    }
}

fn is_last(event: &EventRow) -> bool {
    PlanEvent::parse(&event.name).is_some_and(PlanEvent::is_last)
}

fn shown(seq: u64, name: &str, data: Map<String, Value>) -> Event {
    Event::default().id(seq.to_string()).event(name).data(Value::Object(data).to_string())
}

/// What an event says, with the plan that it is of, its number and its time.
fn data_of(run_id: &RunId, event: &EventRow) -> Map<String, Value> {
    let mut data = Map::from_iter([
        ("plan_id".to_owned(), json!(run_id)),
        ("seq".to_owned(), event.seq.into()),
        ("at".to_owned(), time(event.at).into()),
    ]);
    let own: Map<String, Value> = serde_json::from_str(&event.data).unwrap_or_default();
    data.extend(own);
    data
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_client_goes_on_behind_an_event_that_there_is_and_the_header_wins() {
        let none = HeaderMap::new();
        assert_eq!(after_of(None, &none, 5).unwrap(), 0);
        assert_eq!(after_of(Some("5"), &none, 5).unwrap(), 5);
        assert_eq!(after_of(Some("1"), &headers(LAST_EVENT_ID, "3"), 5).unwrap(), 3);
        for wrong in ["", "6", "-1", "+1", "1.0", " 1", "abc", "18446744073709551616"] {
            let refused = after_of(Some(wrong), &none, 5).unwrap_err().report(Shape::Problem);
            assert_eq!((refused.status.as_u16(), refused.param.as_deref()), (400, Some("after")), "{wrong}");
        }
        let refused = after_of(Some("1"), &headers(LAST_EVENT_ID, "x"), 5).unwrap_err().report(Shape::Problem);
        assert_eq!(refused.param.as_deref(), Some(LAST_EVENT_ID_SHOWN));
    }

    #[test]
    fn events_are_streamed_unless_json_alone_is_wanted() {
        let of = |format, accept| form_of(format, &headers("accept", accept)).ok();
        assert_eq!(of(None, "*/*"), Some(Form::Stream));
        assert_eq!(of(None, "application/json, text/event-stream"), Some(Form::Stream));
        assert_eq!(of(None, "application/json"), Some(Form::List));
        assert_eq!(of(Some("sse"), "application/json"), Some(Form::Stream));
        assert_eq!(of(Some("json"), "text/event-stream"), Some(Form::List));
        assert_eq!(of(Some("xml"), "*/*"), None);
    }
}
