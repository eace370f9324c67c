//! What a reply says: plain contents, and the neutral parts that every dialect writes in its own form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// These parts, in this order.
    Parts(Vec<Part>),
    /// This assistant message in the form of Chat Completions; the other dialects say the same in their form.
    Message(Value),
    /// This error, in the form of the dialect.
    Error(ErrorBody),
    /// This JSON body, as it is.
    Json(Value),
    /// This body, as it is, whatever its form.
    Raw {
        /// Its media type.
        content_type: String,
        /// Its text.
        body: String,
    },
    /// These payloads, each a server-sent event; where the dialect names its events, after the payload's `type`.
    Events(Vec<String>),
    /// Something else for each dialect.
    ByDialect(Box<ByDialect>),
    /// The verdict of a judge who prefers the answer that contains this text, in the form that is asked for.
    JudgeBy(String),
    /// What the demo model says that the request names.
    DemoModel,
    /// This text in a body made once; such calls are counted but not remembered.
    Fast(String),
}

/// A content for each dialect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ByDialect {
    /// In Chat Completions.
    pub chat: Content,
    /// In Responses.
    pub responses: Content,
    /// In Messages.
    pub messages: Content,
}

/// One part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text for the reader.
    Text(String),
    /// What the model thought before it spoke.
    Reasoning(Reasoning),
    /// A call of one of the caller's tools.
    ToolCall(ToolCall),
    /// The model declines, with these words.
    Refusal(String),
}

/// A piece of reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reasoning {
    /// The thought. Empty with `encrypted` set, it is a redacted one in Messages.
    pub text: String,
    /// The signature in Messages.
    pub signature: Option<String>,
    /// The encrypted form: in Responses when the request includes `reasoning.encrypted_content`, as the real one does.
    pub encrypted: Option<String>,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolCall {
    /// Its id (`call_id` in Responses).
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON text, in the pieces in which a stream sends them.
    pub arguments: Vec<String>,
}

impl Part {
    /// A reasoning with a signature, or without one.
    pub fn reasoning(text: impl Into<String>, signature: Option<&str>) -> Self {
        Self::Reasoning(Reasoning { text: text.into(), signature: signature.map(str::to_owned), encrypted: None })
    }

    /// A tool call whose arguments a stream sends in these pieces.
    pub fn tool_call<T: Into<String>>(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments })
    }
}

/// An error as a provider reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// The error's type; without one, what the dialect calls an error of that status.
    pub kind: Option<String>,
    /// Its code; Messages has none.
    pub code: Option<String>,
    /// The parameter at fault; Messages has none.
    pub param: Option<String>,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// Everything was said.
    Stop,
    /// The limit of output tokens was reached.
    Length,
    /// Tools are to be called.
    ToolCalls,
    /// A filter stepped in.
    ContentFilter,
    /// This stop sequence was met; only Messages says which.
    StopSequence(String),
}

/// What kinds of tokens are among those counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenDetails {
    /// Prompt tokens read from a cache.
    pub cached_tokens: u64,
    /// Prompt tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Completion tokens spent on reasoning.
    pub reasoning_tokens: u64,
}
