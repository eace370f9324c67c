//! What goes wrong with a reply on its way: where it ends, what comes between, and what is left out.
//!
//! Places in a stream are counted in tokens, the events that carry content, so that they mean the same in every dialect.

use serde::{Deserialize, Serialize};

use crate::reply::Reply;
use crate::reply::content::ErrorBody;

/// How a reply ends. In an answer that is no stream, a place counted in tokens is the middle of the body, and token 0 the
/// place before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As it should.
    #[default]
    Whole,
    /// Never: no byte is sent and the connection stays open.
    Hang,
    /// In the middle of the headers there is silence.
    HangInHeaders,
    /// The connection closes before the first byte.
    CutBeforeBytes,
    /// The connection closes after this many bytes of the body.
    CutAfterBytes(usize),
    /// The connection closes after this many tokens; 0 is after the opening events.
    CutAfterTokens(usize),
    /// After this many bytes of the body there is silence.
    StallAfterBytes(usize),
    /// After this many tokens there is silence.
    StallAfterTokens(usize),
    /// After this many bytes of the body there are keep-alives for ever: pings in Messages, comments elsewhere.
    KeepAliveAfterBytes(usize),
    /// After this many tokens there are keep-alives for ever.
    KeepAliveAfterTokens(usize),
}

/// Something that comes between the events of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interlude {
    /// After how many tokens: 0 is after the opening events, nothing is before them.
    #[serde(default)]
    pub after_tokens: Option<usize>,
    /// What comes.
    pub what: Noise,
}

/// What can come between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// A comment line.
    Comment(String),
    /// What the dialect sends to keep a connection alive.
    KeepAlive,
    /// A pause of this many milliseconds.
    PauseMs(u64),
    /// An event whose data is not JSON.
    Malformed,
    /// This text, as it is.
    Raw(String),
    /// An error in the form that ends a stream of the dialect (`response.failed` in Responses); nothing follows it.
    Error(ErrorBody),
    /// The same with a bare `error` event in Responses.
    ErrorEvent(ErrorBody),
}

/// What is left out of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Omission {
    /// Every count of tokens.
    Usage,
    /// The reason why the answer ended: in a stream the event that carries it.
    Finish,
    /// The last event of a stream: `[DONE]`, `response.completed`, `message_stop`.
    Terminal,
}

/// How the tool calls of a Chat Completions stream follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOrder {
    /// One after the other.
    #[default]
    InSequence,
    /// A piece of each in turn.
    Interleaved,
}

/// What goes wrong.
impl Reply {
    /// Closes the connection instead of answering.
    #[must_use]
    pub fn cut_before_bytes(self) -> Self {
        self.ending(Ending::CutBeforeBytes)
    }

    /// Closes the connection after `bytes` of the body.
    #[must_use]
    pub fn cut_after_bytes(self, bytes: usize) -> Self {
        self.ending(Ending::CutAfterBytes(bytes))
    }

    /// Closes the connection after `tokens` of a stream.
    #[must_use]
    pub fn cut_after_tokens(self, tokens: usize) -> Self {
        self.ending(Ending::CutAfterTokens(tokens))
    }

    /// Falls silent after `bytes` of the body.
    #[must_use]
    pub fn stall_after_bytes(self, bytes: usize) -> Self {
        self.ending(Ending::StallAfterBytes(bytes))
    }

    /// Falls silent after `tokens` of a stream.
    #[must_use]
    pub fn stall_after_tokens(self, tokens: usize) -> Self {
        self.ending(Ending::StallAfterTokens(tokens))
    }

    /// Sends nothing but keep-alives after `tokens` of a stream, one for each pause between events.
    #[must_use]
    pub fn keep_alive_after_tokens(self, tokens: usize) -> Self {
        self.ending(Ending::KeepAliveAfterTokens(tokens))
    }

    /// Ends like this.
    #[must_use]
    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Leaves this out.
    #[must_use]
    pub fn without(mut self, omission: Omission) -> Self {
        self.omit.push(omission);
        self
    }

    /// Sends `what` before the opening events of a stream.
    #[must_use]
    pub fn first(mut self, what: Noise) -> Self {
        self.interludes.push(Interlude { after_tokens: None, what });
        self
    }

    /// Sends `what` after `tokens` of a stream.
    #[must_use]
    pub fn after_tokens(mut self, tokens: usize, what: Noise) -> Self {
        self.interludes.push(Interlude { after_tokens: Some(tokens), what });
        self
    }
}

impl Noise {
    /// An error that ends the stream, with this type, code and message.
    pub fn error(code: &str, message: &str) -> Self {
        let code = Some(code.to_owned());
        Self::Error(ErrorBody { message: message.to_owned(), kind: code.clone(), code, param: None })
    }
}
