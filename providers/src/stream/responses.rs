//! Responses events, as far as the reader is concerned.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::sight::{Fields, Sight, Text, kind_name, shows};
use crate::call::EventKind;

/// The body of a failure that gives no reason.
const UNEXPLAINED: &[u8] = br#"{"message":"the provider reported a failed response"}"#;

#[derive(Deserialize)]
struct ResponsesEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<Fields<'a>>,
    #[serde(borrow, default)]
    response: Option<Head<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    incomplete_details: Option<Details<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    reason: Option<Text<'a>>,
}

pub(super) fn look<'a>(name: &'a [u8], data: &'a [u8]) -> Result<Sight<'a>, serde_json::Error> {
    let event: ResponsesEvent<'a> = serde_json::from_slice(data)?;
    if event.error.is_some() {
        return Ok(Sight::Failure(Cow::Borrowed(data)));
    }
    let kind = match kind_name(event.kind.as_ref(), name) {
        "error" => return Ok(Sight::Failure(Cow::Borrowed(data))),
        "response.failed" => {
            let error = event.response.and_then(|response| response.error);
            let body = error.map_or(UNEXPLAINED, |error| error.get().as_bytes());
            return Ok(Sight::Failure(Cow::Borrowed(body)));
        }
        "response.completed" | "response.incomplete" => EventKind::Done,
        "response.output_item.added" if !event.item.is_some_and(|item| begins_empty(&item)) => EventKind::Content,
        other => match other.rsplit_once('.') {
            Some((_, "delta")) if event.delta.is_some_and(shows) => EventKind::Content,
            // Some servers send a piece only when it is whole.
            Some((_, "done")) => EventKind::Content,
            Some(_) | None => EventKind::Preamble,
        },
    };
    let usage = event.response.as_ref().and_then(|response| response.usage);
    let finish_reason = match kind {
        EventKind::Done => event.response.and_then(|response| {
            let reason = response.incomplete_details.and_then(|details| details.reason);
            reason.or(response.status).map(|reason| reason.0)
        }),
        EventKind::Preamble | EventKind::Content | EventKind::Finish | EventKind::UsageOnly => None,
    };
    Ok(Sight::Event { kind, usage, finish_reason })
}

/// A message and a reasoning item begin empty; a call or a search says something by its start.
fn begins_empty(item: &Fields<'_>) -> bool {
    matches!(item.kind.as_deref(), Some("message" | "reasoning"))
}
