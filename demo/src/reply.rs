//! One reply of a script: what it says, how it is sent and what goes wrong on the way.
//!
//! Plain data that also travels as JSON, because tests script a provider that lives in another process. The same reply
//! serves every dialect; the request's path decides which form it takes.

pub(crate) mod content;
pub(crate) mod fault;

pub use content::{ByDialect, Content, ErrorBody, Finish, Part, Reasoning, TokenDetails, ToolCall};
pub use fault::{Ending, Interlude, Noise, Omission, ToolOrder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rate_limits::RateLimits;

/// One reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What it consists of.
    pub content: Content,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Pause before the first byte.
    pub delay_ms: u64,
    /// Pause between the events of a stream.
    pub gap_ms: u64,
    /// Cuts the body into pieces of this size, each written by itself.
    pub split_bytes: Option<usize>,
    /// Writes pieces that end inside characters of several bytes.
    pub split_inside_characters: bool,
    /// Overrides why it ends.
    pub finish: Option<Finish>,
    /// Overrides the finish reason by a word; one that Chat Completions does not know is passed on as it is.
    pub finish_reason: Option<String>,
    /// Overrides prompt and completion tokens; those from and for a cache are among the prompt's.
    pub usage: Option<(u64, u64)>,
    /// What kinds of tokens are among them.
    pub token_details: Option<TokenDetails>,
    /// Overrides the id of the answer.
    pub id: Option<String>,
    /// Tells of limits in the headers of the dialect.
    pub rate_limits: Option<RateLimits>,
    /// How the tool calls of a Chat Completions stream follow each other.
    pub tool_order: ToolOrder,
    /// What is left out.
    pub omit: Vec<Omission>,
    /// What comes between the events of a stream.
    pub interludes: Vec<Interlude>,
    /// How it ends.
    pub ending: Ending,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: 200,
            content: Content::Echo,
            headers: Vec::new(),
            delay_ms: 0,
            gap_ms: 0,
            split_bytes: None,
            split_inside_characters: false,
            finish: None,
            finish_reason: None,
            usage: None,
            token_details: None,
            id: None,
            rate_limits: None,
            tool_order: ToolOrder::InSequence,
            omit: Vec::new(),
            interludes: Vec::new(),
            ending: Ending::Whole,
        }
    }
}

impl Reply {
    fn of(content: Content) -> Self {
        Self { content, ..Self::default() }
    }

    /// Repeats the last message.
    pub fn echo() -> Self {
        Self::of(Content::Echo)
    }

    /// Answers with `text`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Content::Text(text.into()))
    }

    /// Answers with `bytes` bytes of text.
    pub fn big(bytes: usize) -> Self {
        Self::of(Content::Big(bytes))
    }

    /// Answers with an assistant message of any form.
    pub fn message(message: Value) -> Self {
        Self::of(Content::Message(message))
    }

    /// Answers with `status` and exactly this JSON body.
    pub fn status(status: u16, body: Value) -> Self {
        Self { status, ..Self::of(Content::Json(body)) }
    }

    /// Answers with `status` and an error object whose type and code are `code`; Messages has its own types.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let code = Some(code.to_owned());
        let error = ErrorBody { message: message.to_owned(), kind: code.clone(), code, param: None };
        Self { status, ..Self::of(Content::Error(error)) }
    }

    /// Answers with `status` and the error object that a real provider sends with it.
    pub fn failure(status: u16, message: &str) -> Self {
        let error = ErrorBody { message: message.to_owned(), ..ErrorBody::default() };
        Self { status, ..Self::of(Content::Error(error)) }
    }

    /// Answers 429 and asks to wait.
    pub fn rate_limited(retry_after_s: u64) -> Self {
        Self::failure(429, "too many requests").header("retry-after", retry_after_s.to_string())
    }

    /// Answers with these parts.
    pub fn parts(parts: impl IntoIterator<Item = Part>) -> Self {
        Self::of(Content::Parts(parts.into_iter().collect()))
    }

    /// Answers each dialect with a content of its own.
    pub fn by_dialect(contents: ByDialect) -> Self {
        Self::of(Content::ByDialect(Box::new(contents)))
    }

    /// Answers with this body, whatever its form.
    pub fn raw(content_type: impl Into<String>, body: impl Into<String>) -> Self {
        Self::of(Content::Raw { content_type: content_type.into(), body: body.into() })
    }

    /// Answers 200 and an event stream without an event.
    pub fn empty_stream() -> Self {
        Self::events(Vec::<String>::new())
    }

    /// Answers with these payloads, each a server-sent event.
    pub fn events<T: Into<String>>(payloads: impl IntoIterator<Item = T>) -> Self {
        Self::of(Content::Events(payloads.into_iter().map(Into::into).collect()))
    }

    /// Judges by content: the answer that contains `text` wins, gets the high score or is accepted.
    pub fn judge_by(text: impl Into<String>) -> Self {
        Self::of(Content::JudgeBy(text.into()))
    }

    /// Answers as the demo model does that the request names.
    pub fn demo_model() -> Self {
        Self::of(Content::DemoModel)
    }

    /// Answers with `text` at the least cost; see [`Content::Fast`].
    pub fn fast(text: impl Into<String>) -> Self {
        Self::of(Content::Fast(text.into()))
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self { ending: Ending::Hang, ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Waits before the first byte.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    /// Waits between the events of a stream.
    #[must_use]
    pub fn gap_ms(mut self, gap_ms: u64) -> Self {
        self.gap_ms = gap_ms;
        self
    }

    /// Writes the body in pieces of `bytes`.
    #[must_use]
    pub fn split_bytes(mut self, bytes: usize) -> Self {
        self.split_bytes = Some(bytes);
        self
    }

    /// Gives this finish reason.
    #[must_use]
    pub fn finish_reason(mut self, reason: impl Into<String>) -> Self {
        self.finish_reason = Some(reason.into());
        self
    }

    /// Reports these tokens.
    #[must_use]
    pub fn usage(mut self, prompt_tokens: u64, completion_tokens: u64) -> Self {
        self.usage = Some((prompt_tokens, completion_tokens));
        self
    }

    /// Ends for this reason.
    #[must_use]
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = Some(finish);
        self
    }

    /// Says what kinds of tokens there are among those counted.
    #[must_use]
    pub fn token_details(mut self, details: TokenDetails) -> Self {
        self.token_details = Some(details);
        self
    }

    /// Gives the answer this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Tells of these limits.
    #[must_use]
    pub fn rate_limits(mut self, limits: RateLimits) -> Self {
        self.rate_limits = Some(limits);
        self
    }

    /// Sends a piece of each tool call in turn in a Chat Completions stream.
    #[must_use]
    pub fn interleaved(mut self) -> Self {
        self.tool_order = ToolOrder::Interleaved;
        self
    }

    /// Writes pieces that end inside characters of several bytes.
    #[must_use]
    pub fn split_inside_characters(mut self) -> Self {
        self.split_inside_characters = true;
        self
    }
}
