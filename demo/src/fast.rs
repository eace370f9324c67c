//! The bytes of fast replies: every form is made once, when the script is, so that measuring does not measure this.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Map;

use crate::dialect::Dialect;
use crate::reply::{Part, Reply, ToolOrder};
use crate::request::Delivery;
use crate::speech::{Speech, Usage, ended, tokens_in};
use crate::wire;

/// Prompt tokens of a call whose prompt is not read.
const PROMPT_TOKENS: u64 = 8;

/// A fast reply in each form.
#[derive(Debug)]
pub(crate) struct FastBodies {
    chat: Forms,
    responses: Forms,
    messages: Forms,
}

#[derive(Debug)]
struct Forms {
    whole: Bytes,
    streamed: Bytes,
    streamed_with_usage: Bytes,
}

impl FastBodies {
    /// `reply` with this text in every form.
    pub(crate) fn new(text: &str, model: &str, reply: &Reply) -> Self {
        let (prompt_tokens, completion_tokens) = reply.usage.unwrap_or((PROMPT_TOKENS, tokens_in(text)));
        let parts = [Part::Text(text.to_owned())];
        let usage = Usage { prompt_tokens, completion_tokens, details: reply.token_details };
        let speech = |id| Speech {
            id: reply.id.as_deref().or(id),
            model,
            ended: ended(reply, &parts),
            parts: Cow::Borrowed(&parts),
            message: None,
            usage: Some(usage),
            tool_order: ToolOrder::InSequence,
            asked: Map::new(),
        };
        Self {
            chat: Forms::of(Dialect::Chat, &speech(Some("chatcmpl-fast"))),
            responses: Forms::of(Dialect::Responses, &speech(None)),
            messages: Forms::of(Dialect::Messages, &speech(None)),
        }
    }

    /// The body for a request.
    pub(crate) fn body(&self, dialect: Dialect, delivery: Delivery) -> Bytes {
        let forms = match dialect {
            Dialect::Chat => &self.chat,
            Dialect::Responses => &self.responses,
            Dialect::Messages => &self.messages,
        };
        match delivery {
            Delivery::Whole => forms.whole.clone(),
            Delivery::Streamed => forms.streamed.clone(),
            Delivery::StreamedWithUsage => forms.streamed_with_usage.clone(),
        }
    }
}

impl Forms {
    fn of(dialect: Dialect, speech: &Speech<'_>) -> Self {
        let stream = |delivery: Delivery| {
            let sentences = wire::stream(dialect, speech, delivery);
            Bytes::from(sentences.iter().flat_map(|sentence| sentence.bytes.iter().copied()).collect::<Vec<u8>>())
        };
        Self {
            whole: wire::whole(dialect, speech),
            streamed: stream(Delivery::Streamed),
            streamed_with_usage: stream(Delivery::StreamedWithUsage),
        }
    }
}
