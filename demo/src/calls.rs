//! What the provider saw: one entry for each call, from its arrival to its end.
//!
//! A call is entered when its request is complete, before anything is answered, so that a call counts even when the
//! client dies or the connection is cut. Bodies are kept up to a total; the entries themselves are small.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::raw_body::RawBody;
use crate::request::{Request, messages_in};

/// Most bytes of request bodies that are kept; later calls are entered without theirs.
const KEPT_BODY_BYTES: usize = 256 * 1024 * 1024;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finished {
    /// Not yet.
    Pending,
    /// The whole answer was written.
    Answered,
    /// The client went away first.
    Aborted,
    /// The provider closed the connection, as scripted.
    Cut,
    /// The answer had this status of 400 or above.
    Failed(u16),
}

/// A call as the provider saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenCall {
    /// The header `x-tokenhub-attempt-id`.
    pub attempt_id: Option<String>,
    /// The model asked for.
    pub model: String,
    /// When the request was complete, in microseconds since 1970.
    pub at_micros: u64,
    /// When the call ended, if it has.
    pub finished_at_micros: Option<u64>,
    /// How it ended.
    pub finished: Finished,
    /// The header `authorization`.
    pub authorization: Option<String>,
    /// Equal for equal bodies.
    pub body_hash: u64,
    /// The request body; null when it is not JSON, or too many were kept already.
    pub body: Value,
    /// The request body as it came; empty when too many were kept already.
    #[serde(default)]
    pub raw_body: RawBody,
    /// The HTTP method.
    #[serde(default)]
    pub method: String,
    /// The path.
    #[serde(default)]
    pub path: String,
    /// What follows the path, without the question mark.
    #[serde(default)]
    pub query: Option<String>,
    /// Every header in the order of arrival, names in lower case.
    #[serde(default)]
    pub headers: Arc<[(String, String)]>,
}

impl SeenCall {
    /// The text of the last message, or of the last item of an input.
    pub fn last_text(&self) -> String {
        let list = self.body.get("messages").or_else(|| self.body.get("input"));
        messages_in(list).pop().map_or_else(String::new, |message| message.text)
    }

    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A call that arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    model: String,
    body: Bytes,
    method: String,
    path: String,
    query: Option<String>,
    headers: Arc<[(String, String)]>,
}

impl Arrival {
    /// The call that `request` is.
    pub(crate) fn of(request: &Request) -> Self {
        Self::new(&request.head, request.model.clone(), request.raw.clone())
    }

    /// A call of this head and body.
    pub(crate) fn new(head: &Parts, model: String, body: Bytes) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
        Self {
            model,
            body,
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: headers.collect(),
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

#[derive(Debug)]
struct Entry {
    arrival: Arrival,
    at_micros: u64,
    finished_at_micros: Option<u64>,
    finished: Finished,
    body_hash: u64,
}

/// The entry of one call; of an earlier count once the list was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    generation: u64,
    index: usize,
}

#[derive(Debug, Default)]
struct Entries {
    list: Vec<Entry>,
    generation: u64,
    kept_bytes: usize,
    fast_count: u64,
}

/// All calls since the last reset.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    entries: Mutex<Entries>,
}

impl CallLog {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Every change below is complete in itself, so a panic elsewhere leaves nothing half-written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, mut arrival: Arrival) -> Ticket {
        let mut hasher = DefaultHasher::new();
        arrival.body.hash(&mut hasher);
        let body_hash = hasher.finish();
        let mut entries = self.entries();
        if entries.kept_bytes + arrival.body.len() > KEPT_BODY_BYTES {
            arrival.body = Bytes::new();
        }
        entries.kept_bytes += arrival.body.len();
        entries.list.push(Entry {
            arrival,
            at_micros: now_micros(),
            finished_at_micros: None,
            finished: Finished::Pending,
            body_hash,
        });
        Ticket { generation: entries.generation, index: entries.list.len() - 1 }
    }

    pub(crate) fn count_fast(&self) {
        self.entries().fast_count += 1;
    }

    pub(crate) fn finish(&self, ticket: Ticket, finished: Finished) {
        let mut entries = self.entries();
        if entries.generation != ticket.generation {
            return;
        }
        if let Some(entry) = entries.list.get_mut(ticket.index).filter(|entry| entry.finished == Finished::Pending) {
            entry.finished = finished;
            entry.finished_at_micros = Some(now_micros());
        }
    }

    pub(crate) fn count(&self) -> u64 {
        let entries = self.entries();
        entries.list.len() as u64 + entries.fast_count
    }

    pub(crate) fn reset(&self) {
        let mut entries = self.entries();
        *entries = Entries { generation: entries.generation + 1, ..Entries::default() };
    }

    pub(crate) fn seen(&self) -> Vec<SeenCall> {
        let seen = |entry: &Entry| {
            let arrival = &entry.arrival;
            SeenCall {
                attempt_id: arrival.header("x-tokenhub-attempt-id"),
                model: arrival.model.clone(),
                at_micros: entry.at_micros,
                finished_at_micros: entry.finished_at_micros,
                finished: entry.finished,
                authorization: arrival.header("authorization"),
                body_hash: entry.body_hash,
                body: serde_json::from_slice(&arrival.body).unwrap_or(Value::Null),
                raw_body: RawBody(arrival.body.clone()),
                method: arrival.method.clone(),
                path: arrival.path.clone(),
                query: arrival.query.clone(),
                headers: Arc::clone(&arrival.headers),
            }
        };
        self.entries().list.iter().map(seen).collect()
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(model: &str) -> Arrival {
        let head = hyper::Request::get("/v1/x?y=1").header("a", "b").body(()).unwrap().into_parts().0;
        Arrival::new(&head, model.to_owned(), Bytes::from_static(b"{\"a\":1}"))
    }

    #[test]
    fn a_call_counts_from_its_arrival_and_ends_once() {
        let log = CallLog::default();
        let ticket = log.enter(arrival("m"));
        assert_eq!((log.count(), log.seen()[0].finished), (1, Finished::Pending));
        log.finish(ticket, Finished::Answered);
        log.finish(ticket, Finished::Aborted);
        let seen = log.seen();
        assert_eq!(seen[0].finished, Finished::Answered);
        assert_eq!(seen[0].body["a"], 1);
        assert_eq!((seen[0].path.as_str(), seen[0].query.as_deref()), ("/v1/x", Some("y=1")));
        assert_eq!((seen[0].header("a"), seen[0].raw_body.0.as_ref()), (Some("b"), b"{\"a\":1}".as_slice()));
        assert!(seen[0].finished_at_micros.unwrap() >= seen[0].at_micros);
    }

    #[test]
    fn a_call_from_before_a_reset_does_not_touch_a_later_one() {
        let log = CallLog::default();
        let old = log.enter(arrival("old"));
        log.reset();
        log.enter(arrival("new"));
        log.finish(old, Finished::Aborted);
        assert_eq!(log.seen()[0].finished, Finished::Pending);
        log.count_fast();
        assert_eq!(log.count(), 2);
    }
}
