//! Responses in the background: begun by one request, looked at and withdrawn by others, and worked on whoever asks.
//!
//! The call that begins one is in the list of calls, and pending until its answer is there. Looks and withdrawals have a
//! list of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use serde_json::{Value, json};

use crate::calls::{Arrival, CallLog, Finished, SeenCall};
use crate::dialect::{Dialect, Route};
use crate::playback::show::{Body, CallGuard, Cut, answer};
use crate::playback::{refusal, whole_json};
use crate::reply::{Ending, ErrorBody};
use crate::request::Request;
use crate::script::{Prepared, Script};

/// Everything that goes on in the background of one script.
#[derive(Debug, Default)]
pub(crate) struct Background {
    responses: Mutex<BTreeMap<String, Underway>>,
    looks: CallLog,
    next: AtomicU64,
    /// So many looks are cut off from now on.
    cuts: AtomicU32,
}

#[derive(Debug)]
struct Underway {
    finished: Value,
    state: State,
    /// Of the call that began it.
    guard: CallGuard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    Ended,
    Withdrawn,
}

impl Background {
    /// Every look and every withdrawal since the last reset.
    pub(crate) fn looks(&self) -> Vec<SeenCall> {
        self.looks.seen()
    }

    /// Forgets the looks.
    pub(crate) fn reset(&self) {
        self.looks.reset();
    }

    /// Forgets every response.
    pub(crate) fn forget(&self) {
        self.responses().clear();
    }

    /// Ends every response that is worked on.
    pub(crate) fn end_all(&self) {
        let ids: Vec<String> = self.responses().keys().cloned().collect();
        for id in ids {
            self.end(&id);
        }
    }

    /// Cuts so many looks off from now on.
    pub(crate) fn cut_looks(&self, count: u32) {
        self.cuts.store(count, Ordering::Relaxed);
    }

    fn responses(&self) -> MutexGuard<'_, BTreeMap<String, Underway>> {
        // Every change is complete in itself, so a panic elsewhere leaves nothing half-written.
        self.responses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: &str) {
        if let Some(underway) = self.responses().get_mut(id).filter(|it| it.state == State::Working) {
            underway.state = State::Ended;
            underway.guard.finish(Finished::Answered);
        }
    }

    fn withdraw(&self, id: &str) {
        if let Some(underway) = self.responses().get_mut(id).filter(|it| it.state == State::Working) {
            underway.state = State::Withdrawn;
            underway.guard.finish(Finished::Aborted);
        }
    }

    fn shown(&self, id: &str) -> Option<Value> {
        let responses = self.responses();
        let underway = responses.get(id)?;
        Some(match underway.state {
            State::Working => unfinished(&underway.finished, "in_progress"),
            State::Ended => underway.finished.clone(),
            State::Withdrawn => unfinished(&underway.finished, "cancelled"),
        })
    }
}

/// Whether `request` asks for a response in the background.
pub(crate) fn is_asked(request: &Request) -> bool {
    request.route == Route::Responses && request.fields().get("background") == Some(&json!(true))
}

/// Begins the response that `prepared` is. Nothing when it is to be refused, or is none.
pub(crate) fn begin(
    script: &Script,
    prepared: &Prepared,
    request: &Request,
    guard: &mut CallGuard,
) -> Option<Response<Body>> {
    let reply = &prepared.reply;
    if reply.status >= 400 || prepared.fast.is_some() {
        return None;
    }
    let mut finished = whole_json(reply, request)?;
    let background = script.background();
    let number = background.next.fetch_add(1, Ordering::Relaxed);
    let id = reply.id.clone().unwrap_or_else(|| format!("resp_background_{number}"));
    finished["id"] = json!(id);
    finished["background"] = json!(true);
    let queued = unfinished(&finished, "queued");
    let guard = std::mem::replace(guard, CallGuard::none());
    background.responses().insert(id.clone(), Underway { finished, state: State::Working, guard });
    if reply.ending == Ending::Whole {
        let (script, delay) = (script.clone(), Duration::from_millis(reply.delay_ms));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            script.background().end(&id);
        });
    }
    Some(json_answer(&queued))
}

/// The answer to a look or a withdrawal; nothing when the request is neither.
pub(crate) fn look(script: &Script, head: &Parts, body: &Bytes) -> Option<Result<Response<Body>, Cut>> {
    let (_, rest) = head.uri.path().split_once("/responses/")?;
    let background = script.background();
    let (id, is_withdrawal) = match (&head.method, rest.strip_suffix("/cancel")) {
        (&Method::GET, None) => (rest, false),
        (&Method::POST, Some(id)) => (id, true),
        _ => return None,
    };
    let ticket = background.looks.enter(Arrival::new(head, String::new(), body.clone()));
    let finish = |finished| background.looks.finish(ticket, finished);
    if let Some(error) = script.turned_away(&head.headers) {
        finish(Finished::Failed(401));
        return Some(Ok(refusal(Dialect::Responses, 401, &error)));
    }
    if background.cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        finish(Finished::Cut);
        return Some(Err(Cut));
    }
    if is_withdrawal {
        background.withdraw(id);
    }
    let Some(shown) = background.shown(id) else {
        finish(Finished::Failed(404));
        let message = format!("Response with id '{id}' not found.");
        return Some(Ok(refusal(Dialect::Responses, 404, &ErrorBody { message, ..ErrorBody::default() })));
    };
    finish(Finished::Answered);
    Some(Ok(json_answer(&shown)))
}

/// A response before its end, or without one.
fn unfinished(finished: &Value, status: &str) -> Value {
    let mut response = finished.clone();
    for (field, value) in [("object", json!("response")), ("status", json!(status)), ("output", json!([]))] {
        response[field] = value;
    }
    for field in ["error", "incomplete_details", "usage"] {
        response[field] = Value::Null;
    }
    response
}

fn json_answer(body: &Value) -> Response<Body> {
    answer(200, "application/json", Bytes::from(body.to_string()))
}
