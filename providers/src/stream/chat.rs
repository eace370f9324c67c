//! Chat Completions chunks, as far as the reader is concerned.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::sight::{Choices, Sight, Text};
use crate::call::EventKind;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Choices<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
}

pub(super) fn look(data: &[u8]) -> Result<Sight<'_>, serde_json::Error> {
    let chunk: Chunk<'_> = serde_json::from_slice(data)?;
    if chunk.error.is_some() || chunk.object.is_some_and(|object| object.0 == "error") {
        return Ok(Sight::Failure(Cow::Borrowed(data)));
    }
    let choices = chunk.choices.unwrap_or_default();
    let kind = if choices.count == 0 && chunk.usage.is_some() {
        EventKind::UsageOnly
    } else if choices.shows {
        EventKind::Content
    } else if choices.finish_reason.is_some() {
        EventKind::Finish
    } else {
        EventKind::Preamble
    };
    Ok(Sight::Event { kind, usage: chunk.usage, finish_reason: choices.finish_reason })
}
