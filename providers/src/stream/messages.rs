//! Messages events, as far as the reader is concerned.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::sight::{Fields, Sight, Text, kind_name};
use crate::call::EventKind;

#[derive(Deserialize)]
struct MessagesEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Head<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Fields<'a>>,
    #[serde(borrow, default)]
    delta: Option<Fields<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

pub(super) fn look<'a>(name: &'a [u8], data: &'a [u8]) -> Result<Sight<'a>, serde_json::Error> {
    let event: MessagesEvent<'a> = serde_json::from_slice(data)?;
    if event.error.is_some() {
        return Ok(Sight::Failure(Cow::Borrowed(data)));
    }
    let usage = event.usage.or(event.message.and_then(|message| message.usage));
    let mut finish_reason = None;
    let kind = match kind_name(event.kind.as_ref(), name) {
        "error" => return Ok(Sight::Failure(Cow::Borrowed(data))),
        "content_block_start" if event.content_block.is_some_and(|block| begins_with_content(&block)) => {
            EventKind::Content
        }
        "content_block_delta" if event.delta.as_ref().is_some_and(|delta| delta.shows) => EventKind::Content,
        "message_delta" => {
            finish_reason = event.delta.and_then(|delta| delta.stop_reason);
            if finish_reason.is_some() { EventKind::Finish } else { EventKind::Preamble }
        }
        "message_stop" => EventKind::Done,
        // The start, pings, block ends, and whatever is added to the protocol later.
        _ => EventKind::Preamble,
    };
    Ok(Sight::Event { kind, usage, finish_reason })
}

/// Text and thinking begin empty; the start of every other block says something already.
fn begins_with_content(block: &Fields<'_>) -> bool {
    match block.kind.as_deref() {
        Some("text" | "thinking") => block.shows,
        Some(_) | None => true,
    }
}
