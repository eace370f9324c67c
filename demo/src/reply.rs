//! What a scripted provider is told to do: rules, and the replies that they give in turn.
//!
//! Plain data that also travels as JSON, because tests script a provider that lives in another process.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Replies for the requests that match. The rule added last wins; its replies are used in order, the last one for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Only requests for this model.
    pub model: Option<String>,
    /// Only requests whose body, or the text of whose messages, contains this.
    pub contains: Option<String>,
    /// In order of use.
    pub replies: Vec<Reply>,
}

impl Rule {
    /// A rule for every request.
    pub fn any(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { model: None, contains: None, replies: replies.into_iter().collect() }
    }

    /// A rule for one model.
    pub fn model(model: impl Into<String>, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { model: Some(model.into()), ..Self::any(replies) }
    }

    /// Narrows the rule to requests that contain `text`.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.contains = Some(text.into());
        self
    }
}

/// What a reply consists of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The text of the last message.
    #[default]
    Echo,
    /// This text.
    Text(String),
    /// This many bytes of text.
    Big(usize),
    /// This assistant message.
    Message(Value),
    /// This JSON body, as it is.
    Json(Value),
    /// This body, as it is, whatever its form.
    Raw {
        /// Its media type.
        content_type: String,
        /// Its text.
        body: String,
    },
    /// These payloads, each a server-sent event.
    Events(Vec<String>),
    /// The verdict of a judge who prefers the answer that contains this text: a winner or scores, as asked.
    JudgeBy(String),
    /// This text in a body made once; such calls are counted but not remembered.
    Fast(String),
}

/// How a reply ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As it should.
    #[default]
    Whole,
    /// Never: no byte is sent and the connection stays open.
    Hang,
    /// The connection closes before the first byte.
    CutBeforeBytes,
    /// The connection closes after this many bytes of the body.
    CutAfterBytes(usize),
    /// After this many bytes of the body there is silence.
    StallAfterBytes(usize),
}

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
    /// Overrides the finish reason.
    pub finish_reason: Option<String>,
    /// Overrides prompt and completion tokens.
    pub usage: Option<(u64, u64)>,
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
            finish_reason: None,
            usage: None,
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

    /// Answers with `status` and an OpenAI error object.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let error = serde_json::json!({"message": message, "type": code, "param": null, "code": code});
        Self::status(status, serde_json::json!({ "error": error }))
    }

    /// Answers with these payloads, each a server-sent event.
    pub fn events<T: Into<String>>(payloads: impl IntoIterator<Item = T>) -> Self {
        Self::of(Content::Events(payloads.into_iter().map(Into::into).collect()))
    }

    /// Judges by content: the answer that contains `text` wins, or gets the high score.
    pub fn judge_by(text: impl Into<String>) -> Self {
        Self::of(Content::JudgeBy(text.into()))
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

    /// Closes the connection instead of answering.
    #[must_use]
    pub fn cut_before_bytes(mut self) -> Self {
        self.ending = Ending::CutBeforeBytes;
        self
    }

    /// Closes the connection after `bytes` of the body.
    #[must_use]
    pub fn cut_after_bytes(mut self, bytes: usize) -> Self {
        self.ending = Ending::CutAfterBytes(bytes);
        self
    }

    /// Falls silent after `bytes` of the body.
    #[must_use]
    pub fn stall_after_bytes(mut self, bytes: usize) -> Self {
        self.ending = Ending::StallAfterBytes(bytes);
        self
    }
}
