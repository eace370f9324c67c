//! What all conversions share: finish reasons, token counts, losses, and what a codec is told about both ends.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokenhub_domain::{AttemptId, ModelId, ProviderId};

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It had said everything.
    Stop,
    /// It came to one of the caller's stop sequences; the matched one, where the upstream tells.
    StopSequence(Option<String>),
    /// It came to the output limit or the end of the window.
    Length,
    /// It calls tools.
    ToolCalls,
    /// It refused, or a filter stopped it.
    ContentFilter,
    /// A server tool paused the turn.
    Pause,
    /// Something that no table knows.
    Other(String),
}

/// Token counts in the neutral reading: input includes cached tokens, output includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Prompt tokens, cache reads and cache writes included.
    pub input: u64,
    /// Answer tokens, reasoning included.
    pub output: u64,
    /// Part of the input that came from a cache.
    pub cache_read: u64,
    /// Part of the input that was written to a cache.
    pub cache_write: u64,
    /// Part of the output that was reasoning.
    pub reasoning: u64,
}

/// Something that the target could not express.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The field of the source, as a path.
    pub field: String,
    /// Why it is not in the result.
    pub reason: String,
}

/// Who made a piece of reasoning: signatures and encrypted reasoning are valid there and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The provider.
    pub provider: ProviderId,
    /// The model.
    pub model: ModelId,
}

/// What a request codec is told about the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose reasoning may be sent back to it.
    pub issuer: Issuer,
    /// The largest output, when the catalogue knows it.
    pub max_output_tokens: Option<u64>,
    /// What its model is known to understand; the default is what every model of the protocol does.
    pub abilities: Abilities,
}

/// What an upstream understands beyond the common ground of its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// How a Messages model is asked to think.
    pub thinking: ThinkingForm,
    /// Reasoning efforts that the model takes; empty when unknown.
    pub efforts: Vec<Effort>,
    /// What a Messages upstream does with a system message inside the conversation.
    pub system_inside: SystemInside,
    /// How a Chat upstream takes a system prompt of several blocks.
    pub system_blocks: SystemBlocks,
    /// Whether a Chat upstream wants the reasoning of earlier turns back.
    pub reasoning_back: ReasoningBack,
    /// What a Chat upstream calls the output limit.
    pub output_limit: OutputLimit,
}

/// The field of the output limit towards Chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputLimit {
    /// `max_completion_tokens`, without which newer models refuse the request.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, the only one that older compatible servers know.
    MaxTokens,
}

/// How a Messages model is asked to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThinkingForm {
    /// By a number of tokens.
    #[default]
    Budget,
    /// By an effort; the model chooses how long.
    Adaptive,
}

/// A system message between other messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemInside {
    /// It is refused, so it travels as marked user text.
    #[default]
    Refused,
    /// It is taken where it stands.
    Taken,
}

/// A system prompt of several blocks towards Chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemBlocks {
    /// One text, joined by newlines, which every server takes.
    #[default]
    Joined,
    /// A list of text parts.
    Parts,
}

/// Reasoning of earlier turns towards Chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasoningBack {
    /// Left out.
    #[default]
    Dropped,
    /// Sent as `reasoning_content`, which some reasoning models demand beside tool calls.
    Sent,
}

/// How hard a model is to think; from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// `none`
    None,
    /// `minimal`
    Minimal,
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// `xhigh`
    ExtraHigh,
    /// `max`
    Max,
}

/// Long or illegal tool names: the name on the wire to the name the caller gave.
pub type ToolNames = BTreeMap<String, String>;

/// What a reply codec is told about the call that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyContext {
    /// Ids of the reply are made from it.
    pub attempt: AttemptId,
    /// The name that the client asked for; every protocol repeats it.
    pub model: String,
    /// Seconds since 1970, where a protocol has a creation time.
    pub created_secs: u64,
    /// Who answers.
    pub issuer: Issuer,
    /// How to restore tool names.
    pub tool_names: ToolNames,
    /// Tools (by the caller's names) whose input is free text and was wrapped as a function for the upstream.
    pub free_form_tools: BTreeSet<String>,
}

/// A body that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field has a form or a value that the target, or the protocol itself, does not allow.
    #[error("{param}: {reason}")]
    Invalid {
        /// The field of the source, as a path.
        param: String,
        /// What is wrong.
        reason: String,
    },
    /// An upstream's reply is not of its protocol.
    #[error("the provider's reply cannot be read: {0}")]
    Reply(String),
}
