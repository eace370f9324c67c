//! What goes into a provider call and what comes out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use memchr::memchr;
use secrecy::{ExposeSecret, SecretString};
use tokenhub_domain::{
    AttemptId, CredentialId, Dialect, ForwardedHeader, ModelId, ModelQuirks, Provider, ProviderFailure,
    ProviderResponseId, TokenUsage,
};

use crate::convert::Loss;

/// What a frame of one data line has beside name and payload: `event: `, `data: ` and three line ends.
const FRAME_OVERHEAD_BYTES: usize = 16;

/// The clocks of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To a connection, TLS included.
    pub connect_ms: u64,
    /// From sending to the headers of a stream. An answer that is not streamed has its headers when it is finished.
    pub headers_ms: u64,
    /// From sending to the first content of a stream.
    pub first_token_ms: u64,
    /// Between two pieces of a stream.
    pub idle_ms: u64,
    /// The whole call.
    pub total_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, headers_ms: 60_000, first_token_ms: 120_000, idle_ms: 60_000, total_ms: 600_000 }
    }
}

/// A provider and what it takes to call it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Who it is.
    pub provider: Provider,
    /// Its keys, by their names.
    pub credentials: BTreeMap<CredentialId, SecretString>,
    /// Its clocks.
    pub timeouts: Timeouts,
    /// Its models that need more than their protocol.
    pub quirks: BTreeMap<ModelId, ModelQuirks>,
}

impl Upstream {
    /// Whether a client of one serves the other as well.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_key = |(one, other): ((&CredentialId, &SecretString), (&CredentialId, &SecretString))| {
            one.0 == other.0 && one.1.expose_secret() == other.1.expose_secret()
        };
        self.provider == other.provider
            && self.timeouts == other.timeouts
            && self.quirks == other.quirks
            && self.credentials.len() == other.credentials.len()
            && self.credentials.iter().zip(&other.credentials).all(is_same_key)
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The ledger's id, sent along as a header.
    pub attempt: &'a AttemptId,
    /// The model.
    pub model: &'a ModelId,
    /// Which of the provider's keys.
    pub credential: &'a CredentialId,
    /// The protocol of the body, and of the answer.
    pub dialect: Dialect,
    /// The request body, a JSON object; its `model`, `stream` and, where asked, output limit are replaced.
    pub body: Bytes,
    /// Headers that go to an upstream of the same protocol.
    pub forwarded: &'a [ForwardedHeader],
    /// Replaces the body's output limit.
    pub max_output_tokens: Option<u64>,
    /// The longest answer of the model, when known: the limit towards a protocol that demands one.
    pub model_output_tokens: Option<u64>,
    /// The call must end within this, or within the provider's total if that is shorter.
    pub timeout: Duration,
    /// The first content of a stream must come within this, or within the provider's own time if that is shorter.
    pub first_token_timeout: Option<Duration>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The body: the provider's, byte for byte, or what it is in the caller's protocol.
    pub raw: String,
    /// Its text.
    pub text: String,
    /// The refusal, when it is nothing else: paid for all the same, and no answer where a text is wanted.
    pub refusal: Option<ProviderFailure>,
    /// Its token counts; zero when the provider sent none.
    pub usage: TokenUsage,
    /// The provider's usage object as JSON.
    pub usage_json: Option<String>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The model that the provider says answered.
    pub model_reported: Option<String>,
    /// What the provider's protocol, or the caller's, could not express.
    pub losses: Vec<Loss>,
}

/// What a provider has counted of an answer, whether or not that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its token counts.
    pub usage: TokenUsage,
    /// The provider's usage object as JSON.
    pub usage_json: Option<String>,
}

/// A response that was begun in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The provider's name of it.
    pub response: ProviderResponseId,
    /// What it was at once.
    pub sight: Sight,
}

/// What a look at a response in the background has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The provider works on it.
    Working,
    /// It is there.
    Answered(Box<Completion>),
    /// It ended without an answer.
    Failed(ProviderFailure),
    /// The provider does not know it any more.
    Forgotten,
}

/// A streamed answer whose headers have come.
pub struct Streaming {
    /// What the provider's protocol could not express of the request.
    pub losses: Vec<Loss>,
    /// In the client's protocol. Ends after the event of kind [`EventKind::Done`], after the last event of a Chat
    /// provider that sends no such mark, or with a failure. Dropping it closes the connection.
    pub events: BoxStream<'static, Result<StreamEvent, ProviderFailure>>,
}

impl fmt::Debug for Streaming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Streaming").finish_non_exhaustive()
    }
}

/// What an event of a stream is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing to show yet: the role, a start, a ping, an empty delta.
    Preamble,
    /// A piece of the answer: text, reasoning, a tool call.
    Content,
    /// The finish reason and nothing to show.
    Finish,
    /// Token counts and no choice; only Chat has it.
    UsageOnly,
    /// The last event: `[DONE]`, `message_stop`, `response.completed` or `response.incomplete`.
    Done,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The `event` field; empty for Chat, whose events have none.
    pub name: Bytes,
    /// The payload as it came, without the `data:` around it. Empty where there is nothing to pass on but the counts are new.
    pub raw: Bytes,
    /// What it is there for.
    pub kind: EventKind,
    /// The counts so far; where several events have them, the last is the final one.
    pub usage: Option<TokenUsage>,
    /// The provider's usage object as JSON, in its own protocol; for Messages with everything that was reported before.
    pub usage_json: Option<String>,
    /// Why the model stopped, in the provider's words.
    pub finish_reason: Option<String>,
}

impl StreamEvent {
    /// The event as it goes over the wire, blank line included.
    pub fn frame(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.name.len() + self.raw.len() + FRAME_OVERHEAD_BYTES);
        if !self.name.is_empty() {
            frame.extend_from_slice(b"event: ");
            frame.extend_from_slice(&self.name);
            frame.extend_from_slice(b"\n");
        }
        let mut rest = &self.raw[..];
        while let Some(end) = memchr(b'\n', rest) {
            push_data_line(&mut frame, &rest[..end]);
            rest = &rest[end + 1..];
        }
        push_data_line(&mut frame, rest);
        frame.extend_from_slice(b"\n");
        frame.freeze()
    }

    /// Whether a client would see a piece of the answer.
    pub fn has_content(&self) -> bool {
        self.kind == EventKind::Content
    }

    /// Whether it is the extra event of `include_usage`, to be kept from a client that did not ask for it.
    pub fn is_usage_only(&self) -> bool {
        self.kind == EventKind::UsageOnly
    }

    /// Whether it is the end mark.
    pub fn is_done(&self) -> bool {
        self.kind == EventKind::Done
    }
}

fn push_data_line(frame: &mut BytesMut, line: &[u8]) {
    frame.extend_from_slice(b"data: ");
    frame.extend_from_slice(line);
    frame.extend_from_slice(b"\n");
}

/// A model in a provider's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name.
    pub id: ModelId,
    /// Its window, when the provider tells.
    pub context_length: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::{EVENT_BYTES, Framer};

    fn event(name: &'static str, raw: &'static str) -> StreamEvent {
        let (name, raw) = (Bytes::from_static(name.as_bytes()), Bytes::from_static(raw.as_bytes()));
        StreamEvent { name, raw, kind: EventKind::Preamble, usage: None, usage_json: None, finish_reason: None }
    }

    #[test]
    fn a_frame_has_a_name_only_where_the_event_has_one_and_a_data_line_for_each_line() {
        assert_eq!(event("", "[DONE]").frame(), "data: [DONE]\n\n");
        assert_eq!(event("ping", "{}").frame(), "event: ping\ndata: {}\n\n");
        assert_eq!(event("x", "a\n\nb").frame(), "event: x\ndata: a\ndata: \ndata: b\n\n");
        assert_eq!(event("", "").frame(), "data: \n\n");
    }

    #[test]
    fn a_frame_is_read_back_as_the_same_event() {
        for (name, raw) in [("", "a"), ("ping", "{}"), ("x", " a\n b\n"), ("", "")] {
            let mut framer = Framer::new(EVENT_BYTES);
            framer.push(&event(name, raw).frame());
            let read = framer.next_event().unwrap().unwrap();
            assert_eq!((read.name.as_ref(), read.data.as_ref()), (name.as_bytes(), raw.as_bytes()));
        }
    }
}
