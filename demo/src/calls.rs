//! What the provider saw: one entry for each call, from its arrival to its end.
//!
//! A call is entered when its request is complete, before anything is answered, so that a call counts even when the
//! client dies or the connection is cut. Bodies are kept up to a total; the entries themselves are small.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// The request body; null when too many were kept already.
    pub body: Value,
}

impl SeenCall {
    /// The text of the last message.
    pub fn last_text(&self) -> &str {
        let messages = self.body.get("messages").and_then(Value::as_array);
        messages.and_then(|messages| messages.last()?.get("content")?.as_str()).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Entry {
    attempt_id: Option<String>,
    model: String,
    at_micros: u64,
    finished_at_micros: Option<u64>,
    finished: Finished,
    authorization: Option<String>,
    body_hash: u64,
    body: Bytes,
}

/// A call that arrives.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) attempt_id: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) model: String,
    pub(crate) body: Bytes,
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

    pub(crate) fn enter(&self, arrival: Arrival) -> Ticket {
        let mut hasher = DefaultHasher::new();
        arrival.body.hash(&mut hasher);
        let body_hash = hasher.finish();
        let mut entries = self.entries();
        let keeps = entries.kept_bytes + arrival.body.len() <= KEPT_BODY_BYTES;
        let body = if keeps { arrival.body } else { Bytes::new() };
        entries.kept_bytes += body.len();
        entries.list.push(Entry {
            attempt_id: arrival.attempt_id,
            model: arrival.model,
            at_micros: now_micros(),
            finished_at_micros: None,
            finished: Finished::Pending,
            authorization: arrival.authorization,
            body_hash,
            body,
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
        let seen = |entry: &Entry| SeenCall {
            attempt_id: entry.attempt_id.clone(),
            model: entry.model.clone(),
            at_micros: entry.at_micros,
            finished_at_micros: entry.finished_at_micros,
            finished: entry.finished,
            authorization: entry.authorization.clone(),
            body_hash: entry.body_hash,
            body: serde_json::from_slice(&entry.body).unwrap_or(Value::Null),
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
        Arrival {
            attempt_id: None,
            authorization: None,
            model: model.to_owned(),
            body: Bytes::from_static(b"{\"a\":1}"),
        }
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
