//! The wire forms: how each dialect writes an answer, an error and a list.

pub(crate) mod chat;
pub(crate) mod embeddings;
pub(crate) mod errors;
pub(crate) mod listing;
pub(crate) mod messages;
pub(crate) mod responses;
pub(crate) mod sse;

use crate::dialect::Dialect;
use crate::request::Delivery;
use crate::speech::Speech;
use bytes::Bytes;
use sse::Sentence;

/// A fixed moment, so that the same request always gives the same bytes.
pub(crate) const CREATED: u64 = 1_760_000_000;

/// `speech` as one body.
pub(crate) fn whole(dialect: Dialect, speech: &Speech<'_>) -> Bytes {
    let body = match dialect {
        Dialect::Chat => chat::whole(speech),
        Dialect::Responses => responses::whole(speech),
        Dialect::Messages => messages::whole(speech),
    };
    Bytes::from(body.to_string())
}

/// `speech` as the events of a stream.
pub(crate) fn stream(dialect: Dialect, speech: &Speech<'_>, delivery: Delivery) -> Vec<Sentence> {
    match dialect {
        Dialect::Chat => chat::stream(speech, delivery),
        Dialect::Responses => responses::stream(speech),
        Dialect::Messages => messages::stream(speech),
    }
}
