//! Server-sent events and what each is for.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::Dialect;

/// An event of a stream, with its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) bytes: Bytes,
    pub(crate) role: Role,
}

/// What an event is for. Faults are placed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opens or closes something.
    Frame,
    /// Carries content.
    Token,
    /// Says why the answer ended.
    Finish,
    /// Says what it cost, and nothing else.
    Usage,
    /// The last one.
    Terminal,
    /// The last one, which also says why.
    FinishAndTerminal,
}

/// An event without a name.
pub(crate) fn event(payload: &str) -> Bytes {
    let mut text = String::with_capacity(payload.len() + 8);
    // Writing into a string does not fail.
    let _ = write!(text, "data: {payload}\n\n");
    Bytes::from(text)
}

/// An event that is named after the `type` of its payload.
pub(crate) fn named_event(payload: &Value) -> Bytes {
    let name = payload.get("type").and_then(Value::as_str).unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {payload}\n\n"))
}

/// A scripted payload as an event of `dialect`.
pub(crate) fn scripted_event(dialect: Dialect, payload: &str) -> Bytes {
    let name = || serde_json::from_str::<Value>(payload).ok()?.get("type")?.as_str().map(str::to_owned);
    match dialect {
        Dialect::Chat => event(payload),
        Dialect::Responses | Dialect::Messages => match name() {
            Some(name) => Bytes::from(format!("event: {name}\ndata: {payload}\n\n")),
            None => event(payload),
        },
    }
}

/// What keeps a connection alive.
pub(crate) fn keep_alive(dialect: Dialect) -> Bytes {
    Bytes::from_static(match dialect {
        Dialect::Chat | Dialect::Responses => b": keep-alive\n\n",
        Dialect::Messages => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
    })
}

/// An event whose data breaks off.
pub(crate) fn malformed(dialect: Dialect) -> Bytes {
    Bytes::from_static(match dialect {
        Dialect::Chat => b"data: {\"id\":\"chatcmpl-scripted\",\"choices\":[{\"index\":0,\"del\n\n",
        Dialect::Responses => b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.del\n\n",
        Dialect::Messages => b"event: content_block_delta\ndata: {\"type\":\"content_block_del\n\n",
    })
}
