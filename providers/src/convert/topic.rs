//! What each protocol calls the same thing, so that an encoder can name the field of the source.

use tokenhub_domain::Dialect;

/// A thing that every protocol has and names in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Conversation,
    OutputLimit,
    Stop,
    OutputFormat,
    Thinking,
    Verbosity,
}

impl Topic {
    /// Its field in a request of `dialect`.
    pub(crate) fn field(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Conversation, Dialect::Chat | Dialect::Messages) => "messages",
            (Self::Conversation, Dialect::Responses) => "input",
            (Self::OutputLimit, Dialect::Chat | Dialect::Messages) => "max_tokens",
            (Self::OutputLimit, Dialect::Responses) => "max_output_tokens",
            (Self::Stop, Dialect::Chat | Dialect::Responses) => "stop",
            (Self::Stop, Dialect::Messages) => "stop_sequences",
            (Self::OutputFormat, Dialect::Chat) => "response_format",
            (Self::OutputFormat, Dialect::Responses) => "text.format",
            (Self::OutputFormat, Dialect::Messages) => "output_config.format",
            (Self::Thinking, Dialect::Chat) => "reasoning_effort",
            (Self::Thinking, Dialect::Responses) => "reasoning.effort",
            (Self::Thinking, Dialect::Messages) => "thinking",
            (Self::Verbosity, Dialect::Chat | Dialect::Messages) => "verbosity",
            (Self::Verbosity, Dialect::Responses) => "text.verbosity",
        }
    }
}
